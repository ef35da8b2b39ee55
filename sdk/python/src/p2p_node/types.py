"""What a node says, as types. Made by generate.py from the contract's schema; not to be edited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Union

PROTOCOL_VERSION = 1
MAX_DIRECT_BYTES = 1040384
MAX_INFLIGHT = 1024
MAX_INFLIGHT_BYTES = 4194304
MAX_LINE_BYTES = 1048576
MAX_PAUSE_MS = 2000
MAX_TOPIC_BYTES = 61440
MAX_UNACKED = 16384
#: Longest `id` that is a string: four UUIDs.
MAX_ID_BYTES = 128
#: Deepest nesting of arrays and objects in a line, with the object of the line itself.
MAX_DEPTH = 32
#: Smallest `maxLineBytes`: enough for `ready` and any error.
MIN_LINE_BYTES = 4096
#: Longest name of a topic.
MAX_TOPIC_NAME_BYTES = 128
#: Longest `kind`.
MAX_KIND_BYTES = 64
#: Longest `replyTo`, and longest `conversationId`.
MAX_REFERENCE_BYTES = 128
#: Longest `ttlMs`: 7 days, for agents that run once a week.
MAX_TTL_MS = 604800000
#: Longest `timeoutMs` of a search.
MAX_DISCOVER_MS = 60000
#: Topics to which a parent may subscribe. A peer accepts 256, some of which the nodes use
#: themselves.
MAX_SUBSCRIPTIONS = 250
#: Capabilities of an agent.
MAX_CAPABILITIES = 16
#: Total length of the capabilities of an agent.
MAX_CAPABILITIES_BYTES = 256
#: Messages in one `ack`: as many as commands may be unanswered. They fit into a line of 64 KiB.
MAX_ACK_MESSAGES = 1024
#: Messages whose delivery an SDK tracks at the same time. The node's outbox holds 8 MiB, so it
#: reaches its own limit first if messages have 128 bytes or more.
MAX_TRACKED_MESSAGES = 65536
#: `send`s that wait in an SDK for credit of the node. A program that waits for its `send`s has far
#: fewer.
MAX_WAITING_SENDS = 65536
#: Agents that the answer to one `discover` returns. Further agents arrive as events.
MAX_FOUND_AGENTS = 4096
#: Unanswered commands that `send`s leave to other commands. The node answers other commands at
#: once, so a few are enough.
RESERVED_COMMANDS = 64
#: The priority of a `send` without `priority`, by its `kind`. All other kinds are medium.
DEFAULT_PRIORITY: dict[str, Priority] = {
    "block_announce": "high",
    "block_proposal": "high",
    "consensus_vote": "high",
    "critical": "high",
    "vote": "high",
    "historical_data": "low",
    "history": "low",
    "network_statistics": "low",
    "non_critical": "low",
    "peer_exchange": "low",
    "ping": "low",
    "statistics": "low",
}
#: Exit codes after which a restart would fail the same way.
FINAL_CODES = frozenset({0, 64, 65, 73, 77, 78})
#: Whether what failed with this code may succeed later without being changed.
RETRYABLE: dict[str, bool] = {
    "INVALID_JSON": False,
    "INVALID_UTF8": False,
    "LINE_TOO_LONG": False,
    "UNKNOWN_COMMAND": False,
    "INVALID_ARGUMENT": False,
    "DUPLICATE_ID": False,
    "NOT_CONNECTED": False,
    "ALREADY_CONNECTED": False,
    "UNSUPPORTED_PROTOCOL": False,
    "SHUTTING_DOWN": True,
    "BUSY": True,
    "CANCELLED": False,
    "PEER_NOT_FOUND": True,
    "PEER_UNREACHABLE": True,
    "WRONG_NETWORK": False,
    "PEER_BUSY": True,
    "MESSAGE_NOT_FOUND": False,
    "PEER_REJECTED": False,
    "MESSAGE_TOO_LARGE": False,
    "NO_SUBSCRIBERS": True,
    "RESERVED_TOPIC": False,
    "EXPIRED": True,
    "DISK_FULL": True,
    "LISTEN_FAILED": True,
    "STORE_UNAVAILABLE": True,
    "DATA_DIR_IN_USE": True,
    "DATA_DIR_MISMATCH": False,
    "IDENTITY_INVALID": False,
    "IDENTITY_IN_USE": False,
    "IDENTITY_CONFLICT": False,
    "IDENTITY_SUPERSEDED": False,
    "CLOCK_SKEW": True,
    "INTERNAL": True,
}

Id = Union[int, str]


class ErrorCode:
    """The codes of errors: those of the node, and those that only the SDKs report. Later versions may add more."""

    #: The line is not one JSON object.
    INVALID_JSON: Final = "INVALID_JSON"
    #: The line is not UTF-8.
    INVALID_UTF8: Final = "INVALID_UTF8"
    #: The line is longer than the limit; the node skipped it.
    LINE_TOO_LONG: Final = "LINE_TOO_LONG"
    #: The `type` is not one of the commands.
    UNKNOWN_COMMAND: Final = "UNKNOWN_COMMAND"
    #: A field is missing, of the wrong type or out of range.
    INVALID_ARGUMENT: Final = "INVALID_ARGUMENT"
    #: Another command with the same `id` has no answer yet; `details.id` names it.
    DUPLICATE_ID: Final = "DUPLICATE_ID"
    #: The command came before `connect`.
    NOT_CONNECTED: Final = "NOT_CONNECTED"
    #: There was a `connect` already.
    ALREADY_CONNECTED: Final = "ALREADY_CONNECTED"
    #: The node does not speak this protocol version; `details.supported` lists those that it
    #: speaks.
    UNSUPPORTED_PROTOCOL: Final = "UNSUPPORTED_PROTOCOL"
    #: The node is shutting down: it did not carry out the command, or did not deliver the mail in
    #: time.
    SHUTTING_DOWN: Final = "SHUTTING_DOWN"
    #: A queue is full.
    BUSY: Final = "BUSY"
    #: `cancel` gave up the command, or the mail that it sent.
    CANCELLED: Final = "CANCELLED"
    #: No verified record names this peer.
    PEER_NOT_FOUND: Final = "PEER_NOT_FOUND"
    #: The peer is known, but none of its addresses answered in time.
    PEER_UNREACHABLE: Final = "PEER_UNREACHABLE"
    #: A bootstrap peer belongs to another network; `details` has its `peerId` and `network`.
    WRONG_NETWORK: Final = "WRONG_NETWORK"
    #: The recipient has no room: its agent does not read.
    PEER_BUSY: Final = "PEER_BUSY"
    #: No mail of this `messageId` waits for an `ack`.
    MESSAGE_NOT_FOUND: Final = "MESSAGE_NOT_FOUND"
    #: The recipient rejected the mail: it blocks this agent, or does not support this message
    #: format.
    PEER_REJECTED: Final = "PEER_REJECTED"
    #: The payload is larger than `ready.limits` allows, or than the recipient can read.
    MESSAGE_TOO_LARGE: Final = "MESSAGE_TOO_LARGE"
    #: The node reached no subscriber of the topic in time.
    NO_SUBSCRIBERS: Final = "NO_SUBSCRIBERS"
    #: Only the node publishes on this topic.
    RESERVED_TOPIC: Final = "RESERVED_TOPIC"
    #: No acknowledgement came within the `ttlMs`.
    EXPIRED: Final = "EXPIRED"
    #: The mail could not be written to disk, and the node did not accept it. For `ack`: accepted
    #: in memory but not yet durable.
    DISK_FULL: Final = "DISK_FULL"
    #: The node could not listen on its port, or on any address of `--listen`.
    LISTEN_FAILED: Final = "LISTEN_FAILED"
    #: The data directory cannot be read or written now; the node tried for 3 s and did not start.
    STORE_UNAVAILABLE: Final = "STORE_UNAVAILABLE"
    #: A process on another host has the data directory, or took it from this process.
    DATA_DIR_IN_USE: Final = "DATA_DIR_IN_USE"
    #: The data directory belongs to another agent; `message` names both addresses.
    DATA_DIR_MISMATCH: Final = "DATA_DIR_MISMATCH"
    #: A key, a binding or an identity file cannot be used.
    IDENTITY_INVALID: Final = "IDENTITY_INVALID"
    #: Another process runs with the same identity or data directory.
    IDENTITY_IN_USE: Final = "IDENTITY_IN_USE"
    #: The network has a record with our signature that this node did not issue.
    IDENTITY_CONFLICT: Final = "IDENTITY_CONFLICT"
    #: A newer generation of this identity exists; this node may no longer speak for the address.
    IDENTITY_SUPERSEDED: Final = "IDENTITY_SUPERSEDED"
    #: Without a message: at least two peers agree that this machine's clock is off. Of mail: the
    #: two clocks differ too much.
    CLOCK_SKEW: Final = "CLOCK_SKEW"
    #: A defect of the node.
    INTERNAL: Final = "INTERNAL"
    #: The SDK did not find the binary.
    BINARY_NOT_FOUND: Final = "BINARY_NOT_FOUND"
    #: The system cannot run the binary.
    BINARY_UNUSABLE: Final = "BINARY_UNUSABLE"
    #: The program closed the node.
    CLOSED: Final = "CLOSED"
    #: The node violated the contract of the pipe.
    CONTRACT: Final = "CONTRACT"
    #: The node gave up a message and named no code.
    FAILED: Final = "FAILED"
    #: The node belongs to the process from which this one was forked.
    FORKED: Final = "FORKED"
    #: After a restart the node had another address.
    IDENTITY_CHANGED: Final = "IDENTITY_CHANGED"
    #: No peer was connected in time.
    NOT_JOINED: Final = "NOT_JOINED"
    #: The node was not ready in time.
    NOT_READY: Final = "NOT_READY"
    #: The recipient's node rejected a message and named no code.
    REJECTED: Final = "REJECTED"
    #: The process of the node ended, and the SDK does not restart it.
    SIDECAR_EXITED: Final = "SIDECAR_EXITED"
    #: The process of the node ended before it answered.
    SIDECAR_RESTARTED: Final = "SIDECAR_RESTARTED"
    #: No process of the node was ready in time. The SDK sent nothing.
    SIDECAR_UNAVAILABLE: Final = "SIDECAR_UNAVAILABLE"
    #: The system could not start the process, and the binary is not the reason.
    SPAWN_FAILED: Final = "SPAWN_FAILED"
    #: No answer came in time.
    TIMEOUT: Final = "TIMEOUT"
    #: The SDK tracks too many messages to report the end of this one.
    TOO_MANY: Final = "TOO_MANY"
    #: The SDK does not support the version of the binary.
    VERSION_MISMATCH: Final = "VERSION_MISMATCH"
    #: The node neither read nor wrote for too long, and the SDK killed it.
    WRITE_TIMEOUT: Final = "WRITE_TIMEOUT"


@dataclass(frozen=True)
class Field:
    """How a field is written, what it is called here, what it must be, and whether it must be there."""

    name: str
    attribute: str
    kind: str
    required: bool

#: Encoding of `data`.
Encoding = Literal["base64"]

#: Priority of a message. The node sends `high` strictly first, and drops `low` first when a queue
#: is full.
Priority = Literal["low", "medium", "high"]

#: Route of a message.
Route = Literal["auto", "direct", "gossip"]


@dataclass(slots=True, kw_only=True)
class Answer:
    """`result`: `id`, `command`, and what that command answers."""

    # Type of the command.
    command: str
    # The id of the command.
    id: Id
    # `peers`: the addresses and PeerIds that are allowed, as many as fit in a line.
    allowed: list[str] | None = None
    # `peers`: the addresses and PeerIds that are blocked, as many as fit in a line.
    blocked: list[str] | None = None
    # `cancel`: whether there was anything left to give up.
    cancelled: bool | None = None
    # `peers`: those that are connected, as many as fit in a line.
    connected: list[ConnectedPeer] | None = None
    # `discover`: how many agents were found. `peers`: how many peers are connected, also those
    # that `connected` has no room for.
    count: int | None = None
    # `send` of mail: `accepted`, which means that it is in the outbox and that a `delivery` will
    # tell its end.
    delivery: str | None = None
    # `send`: id of the message, unique in the network.
    message_id: str | None = None
    # `send` to a topic: subscribers connected to this node that it went to; 0 while it is held.
    peers: int | None = None
    # `send` of mail: the route asked for.
    route: str | None = None
    # `status`.
    status: StatusReport | None = None
    # `ping`: the node's clock, in ms since 1970.
    time_ms: int | None = None
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("command", "command", "str", True),
        Field("id", "id", "id", True),
        Field("allowed", "allowed", "[str]", False),
        Field("blocked", "blocked", "[str]", False),
        Field("cancelled", "cancelled", "bool", False),
        Field("connected", "connected", "[ConnectedPeer]", False),
        Field("count", "count", "int", False),
        Field("delivery", "delivery", "str", False),
        Field("messageId", "message_id", "str", False),
        Field("peers", "peers", "int", False),
        Field("route", "route", "str", False),
        Field("status", "status", "StatusReport", False),
        Field("timeMs", "time_ms", "int", False),
    )


@dataclass(slots=True, kw_only=True)
class Closing:
    """`closing`."""

    # `shutdown`, `eof`, `signal` or `parent` (the process named by `--parent-pid` has ended).
    reason: str
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("reason", "reason", "str", True),
    )


@dataclass(slots=True, kw_only=True)
class ConnectedPeer:
    """A connected peer."""

    # Duration of the connection, in ms.
    connected_for_ms: int
    # PeerId of the node.
    peer_id: str
    # Checksummed address of its agent, if its record is known.
    address: str | None = None
    # Display name; a claim of the agent.
    name: str | None = None
    # Role of the node, if its record is known.
    role: str | None = None
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("connectedForMs", "connected_for_ms", "int", True),
        Field("peerId", "peer_id", "str", True),
        Field("address", "address", "str", False),
        Field("name", "name", "str", False),
        Field("role", "role", "str", False),
    )


@dataclass(slots=True, kw_only=True)
class Delivery:
    """`delivery`: exactly one for each accepted message."""

    # Number of attempts to send the message.
    attempts: int
    # Id of the message.
    message_id: str
    # Final state.
    state: str
    # Reason; absent for `delivered`.
    code: str | None = None
    # The `messageId` under which the recipient received the message, if it differs, because a copy
    # of this process had used the first one.
    delivered_as: str | None = None
    # What happened and what to do, for people; absent for `delivered`.
    message: str | None = None
    # `true` if an earlier process of the node accepted the message, and may have reported its end.
    redelivered: bool | None = None
    # The `id` of the `send`.
    request_id: Id | None = None
    # Route of the last attempt.
    route: str | None = None
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("attempts", "attempts", "int", True),
        Field("messageId", "message_id", "str", True),
        Field("state", "state", "str", True),
        Field("code", "code", "str", False),
        Field("deliveredAs", "delivered_as", "str", False),
        Field("message", "message", "str", False),
        Field("redelivered", "redelivered", "bool", False),
        Field("requestId", "request_id", "id", False),
        Field("route", "route", "str", False),
    )


@dataclass(slots=True, kw_only=True)
class DropCounts:
    """Numbers of dropped lines, by type."""

    # Broadcasts.
    broadcasts: int | None = None
    # Logs.
    log: int | None = None
    # Broadcasts whose lines would have been longer than the `maxLineBytes` of `connect`.
    oversized: int | None = None
    # Peer events (`peer_discovered`, `peer_connected`, `peer_disconnected`) for which there was no
    # room.
    peer_events: int | None = None
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("broadcasts", "broadcasts", "int", False),
        Field("log", "log", "int", False),
        Field("oversized", "oversized", "int", False),
        Field("peerEvents", "peer_events", "int", False),
    )


@dataclass(slots=True, kw_only=True)
class ErrorEvent:
    """`error`."""

    # Stable code.
    code: str
    # What happened and what to do, for people.
    message: str
    # `true` if the same command or message may succeed later.
    retryable: bool
    # More data, for programs.
    details: Any = None
    # Id of the command that failed.
    id: Id | None = None
    # Id of the message that failed.
    message_id: str | None = None
    # Id of the command that caused the error, if that command was answered before.
    request_id: Id | None = None
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("code", "code", "str", True),
        Field("message", "message", "str", True),
        Field("retryable", "retryable", "bool", True),
        Field("details", "details", "any", False),
        Field("id", "id", "id", False),
        Field("messageId", "message_id", "str", False),
        Field("requestId", "request_id", "id", False),
    )


@dataclass(slots=True, kw_only=True)
class Limits:
    """Limits: sizes in bytes, times in milliseconds, the others are numbers of commands or
    messages.
    """

    # Largest `data` of mail; more is `MESSAGE_TOO_LARGE`.
    max_direct_bytes: int
    # Commands whose terminal line the parent has not read.
    max_inflight: int
    # Bytes of `data` of unanswered `send`s. A parent that stays within this and `maxInflight`
    # never finds stdin paused.
    max_inflight_bytes: int
    # Longest line, each way; `connect` may lower it for the output.
    max_line_bytes: int
    # Longest time that the node leaves stdin unread while the parent reads stdout.
    max_pause_ms: int
    # Largest `data` of a broadcast; more is `MESSAGE_TOO_LARGE`.
    max_topic_bytes: int
    # Mail that the node hands to the parent without an `ack`, with `--ack manual`; `connect` may
    # lower it.
    max_unacked: int
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("maxDirectBytes", "max_direct_bytes", "int", True),
        Field("maxInflight", "max_inflight", "int", True),
        Field("maxInflightBytes", "max_inflight_bytes", "int", True),
        Field("maxLineBytes", "max_line_bytes", "int", True),
        Field("maxPauseMs", "max_pause_ms", "int", True),
        Field("maxTopicBytes", "max_topic_bytes", "int", True),
        Field("maxUnacked", "max_unacked", "int", True),
    )


@dataclass(slots=True, kw_only=True)
class Log:
    """`log`."""

    # Severity.
    level: str
    # The message, for people.
    message: str
    # Part of the node that wrote the message.
    namespace: str
    # More data, for programs.
    meta: Any = None
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("level", "level", "str", True),
        Field("message", "message", "str", True),
        Field("namespace", "namespace", "str", True),
        Field("meta", "meta", "any", False),
    )


@dataclass(slots=True, kw_only=True)
class Message:
    """`message`."""

    # The payload, as the sender's agent wrote it.
    data: Any
    # The sender's checksummed Ethereum address, proven by signatures.
    sender: str
    # Id of the message, unique in the network.
    message_id: str
    # PeerId of the sender's node.
    peer_id: str
    # Priority, as the sender states it.
    priority: str
    # Time at which the message arrived here, by this node's clock, in ms since 1970.
    received_at_ms: int
    # Route of the message: `direct` or `gossip`.
    route: str
    # Time at which the sender's node accepted the message, by that node's clock, in ms since 1970.
    sent_at_ms: int
    # Trust in the sender.
    trust: str
    # Name of the conversation.
    conversation_id: str | None = None
    # Present when `data` is a string of base64.
    encoding: str | None = None
    # Kind of the message, as the sender states it.
    kind: str | None = None
    # `true` if an earlier process of the node may have delivered the message, under the same
    # `messageId`; only with a data directory.
    redelivered: bool | None = None
    # Id of the message that this one answers.
    reply_to: str | None = None
    # The topic of a broadcast; absent for a message to this agent.
    topic: str | None = None
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("data", "data", "any", True),
        Field("from", "sender", "str", True),
        Field("messageId", "message_id", "str", True),
        Field("peerId", "peer_id", "str", True),
        Field("priority", "priority", "str", True),
        Field("receivedAtMs", "received_at_ms", "int", True),
        Field("route", "route", "str", True),
        Field("sentAtMs", "sent_at_ms", "int", True),
        Field("trust", "trust", "str", True),
        Field("conversationId", "conversation_id", "str", False),
        Field("encoding", "encoding", "str", False),
        Field("kind", "kind", "str", False),
        Field("redelivered", "redelivered", "bool", False),
        Field("replyTo", "reply_to", "str", False),
        Field("topic", "topic", "str", False),
    )


@dataclass(slots=True, kw_only=True)
class Overflow:
    """`overflow`: the number of dropped lines since the last `overflow`, and in total."""

    # Since the last `overflow`.
    dropped: DropCounts
    # Since the start.
    total: DropCounts
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("dropped", "dropped", "DropCounts", True),
        Field("total", "total", "DropCounts", True),
    )


@dataclass(slots=True, kw_only=True)
class PeerConnected:
    """`peer_connected`."""

    # The peer.
    peer_id: str
    # Address of its agent, if known.
    address: str | None = None
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("peerId", "peer_id", "str", True),
        Field("address", "address", "str", False),
    )


@dataclass(slots=True, kw_only=True)
class PeerDisconnected:
    """`peer_disconnected`."""

    # The peer.
    peer_id: str
    # Address of its agent, if known.
    address: str | None = None
    # Reason, for people.
    reason: str | None = None
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("peerId", "peer_id", "str", True),
        Field("address", "address", "str", False),
        Field("reason", "reason", "str", False),
    )


@dataclass(slots=True, kw_only=True)
class PeerDiscovered:
    """`peer_discovered`."""

    # The agent's checksummed Ethereum address.
    address: str
    # Multiaddrs of its node; a claim of the agent.
    addrs: list[str]
    # Capabilities; a claim of the agent.
    capabilities: list[str]
    # Time at which the record expires, in ms since 1970.
    expires_at_ms: int
    # PeerId of the agent's node.
    peer_id: str
    # Role of its node.
    role: str
    # Topics in its record, and topics to which its connected node subscribes.
    topics: list[str]
    # Display name; a claim of the agent.
    name: str | None = None
    # Id of the `discover` that found the agent.
    request_id: Id | None = None
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("address", "address", "str", True),
        Field("addrs", "addrs", "[str]", True),
        Field("capabilities", "capabilities", "[str]", True),
        Field("expiresAtMs", "expires_at_ms", "int", True),
        Field("peerId", "peer_id", "str", True),
        Field("role", "role", "str", True),
        Field("topics", "topics", "[str]", True),
        Field("name", "name", "str", False),
        Field("requestId", "request_id", "id", False),
    )


@dataclass(slots=True, kw_only=True)
class Ready:
    """`ready`."""

    # The agent's checksummed Ethereum address.
    address: str
    # Multiaddrs on which the node listens, each ending in `/p2p/<peer id>`.
    addrs: list[str]
    # `true` if accepted messages outlive the process.
    durable: bool
    # Features of this node beyond the base contract. An absent feature is not supported.
    features: list[str]
    # The limits in force.
    limits: Limits
    # The display name.
    name: str
    # Name of the network. Nodes of different networks do not connect.
    network: str
    # The node's libp2p PeerId.
    peer_id: str
    # Version of the contract in force.
    protocol: int
    # Role of the node.
    role: str
    # Version of the binary.
    version: str
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("address", "address", "str", True),
        Field("addrs", "addrs", "[str]", True),
        Field("durable", "durable", "bool", True),
        Field("features", "features", "[str]", True),
        Field("limits", "limits", "Limits", True),
        Field("name", "name", "str", True),
        Field("network", "network", "str", True),
        Field("peerId", "peer_id", "str", True),
        Field("protocol", "protocol", "int", True),
        Field("role", "role", "str", True),
        Field("version", "version", "str", True),
    )


@dataclass(slots=True, kw_only=True)
class StatusReport:
    """The answer to `status`."""

    # The agent's checksummed address.
    address: str
    # Multiaddrs on which the node listens.
    addrs: list[str]
    # Number of agents in the directory, without this one.
    agents: int
    # Counters since the start, by name.
    counters: dict[str, int]
    # Number of accepted messages that have not ended.
    outbox: int
    # Bytes of these messages.
    outbox_bytes: int
    # The node's PeerId.
    peer_id: str
    # Number of connected peers.
    peers: int
    # Number of broadcasts that wait for a subscriber.
    queued_broadcasts: int
    # Number of connected DHT servers.
    servers: int
    # Topics to which the parent subscribed.
    topics: list[str]
    # Time since the process started, in ms.
    uptime_ms: int
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("address", "address", "str", True),
        Field("addrs", "addrs", "[str]", True),
        Field("agents", "agents", "int", True),
        Field("counters", "counters", "{int}", True),
        Field("outbox", "outbox", "int", True),
        Field("outboxBytes", "outbox_bytes", "int", True),
        Field("peerId", "peer_id", "str", True),
        Field("peers", "peers", "int", True),
        Field("queuedBroadcasts", "queued_broadcasts", "int", True),
        Field("servers", "servers", "int", True),
        Field("topics", "topics", "[str]", True),
        Field("uptimeMs", "uptime_ms", "int", True),
    )


#: What a node says.
Event = Union[
    Ready,
    Message,
    PeerDiscovered,
    ErrorEvent,
    Log,
    Answer,
    Delivery,
    PeerConnected,
    PeerDisconnected,
    Overflow,
    Closing,
]

#: The type of each event.
EVENTS: dict[str, Any] = {
    "ready": Ready,
    "message": Message,
    "peer_discovered": PeerDiscovered,
    "error": ErrorEvent,
    "log": Log,
    "result": Answer,
    "delivery": Delivery,
    "peer_connected": PeerConnected,
    "peer_disconnected": PeerDisconnected,
    "overflow": Overflow,
    "closing": Closing,
}

#: Every type, by the name that a field's kind has.
TYPES: dict[str, Any] = {
    "Answer": Answer,
    "Closing": Closing,
    "ConnectedPeer": ConnectedPeer,
    "Delivery": Delivery,
    "DropCounts": DropCounts,
    "ErrorEvent": ErrorEvent,
    "Limits": Limits,
    "Log": Log,
    "Message": Message,
    "Overflow": Overflow,
    "PeerConnected": PeerConnected,
    "PeerDisconnected": PeerDisconnected,
    "PeerDiscovered": PeerDiscovered,
    "Ready": Ready,
    "StatusReport": StatusReport,
}
