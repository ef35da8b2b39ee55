"""The public interface of a node: calls, and streams of messages and events."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Generator, Mapping
from copy import copy
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, ParamSpec

from . import arguments
from .channel import FoundAgents
from .child import mark_retrieved
from .errors import CallTimeout, Exit, InvalidArgument, SidecarError, Undelivered
from .events import Lifecycle
from .joining import QUIET, caught_up, joined
from .options import Options, options_signature
from .requests import Requesting
from .supervised_node import SupervisedNode
from .streams import MessageStream, Stream
from .tracing import current_traceparent
from .types import (
    MAX_ACK_MESSAGES,
    RETRYABLE,
    Answer,
    ConnectedPeer,
    Delivery,
    ErrorCode,
    Event,
    Message,
    NetworkReport,
    Priority,
    Ready,
    RegistryEntry,
    Route,
    StatusReport,
)

OptionsOf = ParamSpec("OptionsOf")
#: Advice for an argument that must be an address.
ADDRESS_ADVICE = ": pass an address (message.sender, node.address, found.address) or a PeerId"


class SentMessage:
    """A message that the node has accepted. `message_id` identifies it across the network."""

    def __init__(self, message_id: str, outcome: asyncio.Future[Delivery], owner: object) -> None:
        self.message_id = message_id
        self._outcome = outcome
        # A reference, so that the node is not collected while the program holds the message.
        self._owner = owner

    def __repr__(self) -> str:
        if not self._outcome.done():
            state = "pending"
        elif self._outcome.cancelled() or self._outcome.exception() is not None:
            state = "unknown"
        else:
            state = self._outcome.result().state
        return f"SentMessage(message_id={self.message_id!r}, state={state!r})"

    async def delivered(self, timeout: float | None = None) -> Delivery:
        """Waits until the recipient has acknowledged the message, and returns the delivery. May be
        called any number of times, or never.

        `timeout` is in seconds; with `None` the wait ends at the latest when the `ttl` of the
        message has passed. Raises `Undelivered` if the message did not arrive, `SidecarRestarted`
        if the node crashed before it reported the delivery, and `CallTimeout` after `timeout`."""
        if timeout is not None:
            arguments.seconds("timeout", timeout)
        await asyncio.wait({self._outcome}, timeout=timeout)
        if not self._outcome.done():
            raise CallTimeout(f"message {self.message_id}", timeout or 0, retryable=False)
        if (error := self._outcome.exception()) is not None:
            raise copy(error)
        delivery = self._outcome.result()
        if delivery.state != "delivered":
            raise Undelivered(delivery, retryable=RETRYABLE.get(delivery.code or "", False))
        return delivery


@dataclass(frozen=True)
class Published:
    """A broadcast that the node has accepted. `peers` is the number of subscribers that the node
    sent it to at once."""

    message_id: str
    peers: int


class Node(Requesting):
    """A supervised node; `p2p_node.open` creates it.

    Every call raises `CommandRefused` if the node rejects the command, `CallTimeout` without an
    answer in time, `InvalidArgument`, and the errors of a lost node; the README has a table.
    Every call may be cancelled. Cancellation withdraws a command that is not written yet, and
    ends the search of `discover`; the node still executes every other written command."""

    def __init__(self, supervised_node: SupervisedNode) -> None:
        self._supervised = supervised_node
        # Kills the process when the program drops the node and when the interpreter exits.
        weakref.finalize(self, supervised_node.abandon)

    def __repr__(self) -> str:
        return f"Node(address={self.address!r}, pid={self.pid!r})"

    # --- Who this is ---

    @property
    def ready(self) -> Ready:
        """Returns the latest `ready` event of the node."""
        assert self._supervised.ready is not None, "`open` sets `ready` before it returns the node"
        return self._supervised.ready

    @property
    def address(self) -> str:
        """Returns the agent's Ethereum address."""
        return self.ready.address

    @property
    def pid(self) -> int | None:
        """Returns the process id; `None` while no process is ready."""
        child = self._supervised.child
        return child.process.child.pid if child is not None else None

    @property
    def undecodable(self) -> int:
        """Returns the number of lines of the node that the SDK could not decode."""
        return self._supervised.undecodable

    @property
    def exit(self) -> Exit | None:
        """Returns how the last process ended; `None` while the first one runs. Code 75 means that
        the node ended before it delivered all accepted mail, and that this mail is lost."""
        return self._supervised.exit

    @property
    def acks_not_found(self) -> int:
        """Returns the number of messages that the SDK acknowledged after their senders had given
        them up."""
        return self._supervised.mailbox.acks_not_found

    @property
    def mail_dropped(self) -> int:
        """Returns the number of messages that the SDK dropped unacknowledged, because more than
        twice `mail_buffer` messages waited for the program."""
        return self._supervised.mailbox.dropped

    # --- Calls ---

    async def send(
        self,
        to: str,
        data: Any = None,
        *,
        file: str | os.PathLike[str] | None = None,
        kind: str | None = None,
        priority: Priority | None = None,
        ttl: float | None = None,
        route: Route | None = None,
        reply_to: str | None = None,
        conversation_id: str | None = None,
        traceparent: str | None = None,
        timeout: float | None = None,
    ) -> SentMessage:
        """Sends a message to one agent. Returns when the node has accepted the message;
        `SentMessage.delivered` waits for the delivery.

        - `to`: the `0x…` address of an agent, its name of ENS (with `RPC_URL`), or a PeerId.
        - `data`: bytes, or any value that JSON can represent.
        - `file`: the path of a file that goes with the message, of up to 1 GiB. The call returns when
          the node has read the file; keep it as it is until the delivery. `Transfer` events tell
          the progress. The recipient finds its copy in `Message.file`.
        - `kind`: the kind of the message, for the receiving agent, at most 64 bytes.
        - `priority`: the default depends on `kind`; for most kinds it is `medium`.
        - `ttl`: how long the node tries to deliver, in seconds, at most 604,800 (7 days). The
          default is 120, and 86,400 (24 hours) with a data directory or a file.
        - `route`: the default is `auto`.
        - `reply_to`: the id of the message that this one answers, at most 128 bytes.
        - `conversation_id`: the conversation, at most 128 bytes.
        - `traceparent`: the trace of the message, as W3C Trace Context writes it. The default is
          the current span, if OpenTelemetry is installed and there is one.
        - `timeout`: how long the call waits, in seconds."""
        outcome: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        outcome.add_done_callback(mark_retrieved)
        fields = {"kind": kind, "priority": priority, "ttlMs": arguments.milliseconds("ttl", ttl), "route": route}
        fields |= {"replyTo": reply_to, "conversationId": conversation_id}
        fields |= {"traceparent": traceparent or current_traceparent(), "file": _path(file)}
        command = {"type": "send", "peerId": _recipient(to), **arguments.payload(data), **_given(fields)}
        reply = await self._supervised.ask(command, timeout, outcome)
        return SentMessage(_message_id(reply.answer), outcome, self)

    async def reply(
        self,
        message: Message,
        data: Any,
        *,
        kind: str | None = None,
        priority: Priority | None = None,
        ttl: float | None = None,
        route: Route | None = None,
        timeout: float | None = None,
    ) -> SentMessage:
        """Sends a message to the sender of `message`, in the same conversation. Otherwise as
        `send`."""
        _message("message", message)
        return await self.send(
            message.sender,
            data,
            kind=kind,
            priority=priority,
            ttl=ttl,
            route=route,
            reply_to=message.message_id,
            conversation_id=message.conversation_id,
            timeout=timeout,
        )

    async def publish(
        self,
        topic: str,
        data: Any,
        *,
        kind: str | None = None,
        priority: Priority | None = None,
        ttl: float | None = None,
        reply_to: str | None = None,
        conversation_id: str | None = None,
        traceparent: str | None = None,
        timeout: float | None = None,
    ) -> Published:
        """Broadcasts to a topic. Returns when the node has accepted the broadcast.

        `ttl`: how long the node buffers the broadcast while it knows no subscriber, in seconds.
        The maximum and the default are 10. The other arguments are as in `send`."""
        fields = {"kind": kind, "priority": priority, "ttlMs": arguments.milliseconds("ttl", ttl)}
        fields |= {"replyTo": reply_to, "conversationId": conversation_id}
        fields |= {"traceparent": traceparent or current_traceparent()}
        command = {"type": "send", "topic": arguments.text("topic", topic), **arguments.payload(data), **_given(fields)}
        reply = await self._supervised.ask(command, timeout)
        return Published(_message_id(reply.answer), reply.answer.peers or 0)

    async def subscribe(self, topic: str, *, timeout: float | None = None) -> None:
        """Subscribes to the broadcasts of a topic. The SDK restores the subscription after a
        restart."""
        await self._supervised.ask({"type": "subscribe", "topic": arguments.text("topic", topic)}, timeout)

    async def unsubscribe(self, topic: str, *, timeout: float | None = None) -> None:
        """Ends the subscription to a topic."""
        await self._supervised.ask({"type": "unsubscribe", "topic": arguments.text("topic", topic)}, timeout)

    async def discover(
        self,
        *,
        topic: str | None = None,
        address: str | None = None,
        capability: str | None = None,
        look_for: float | None = None,
        timeout: float | None = None,
    ) -> FoundAgents:
        """Finds agents. At most one of `topic`, `address` and `capability` selects agents; without
        one, finds all agents that the node knows. Returns a list of at most 4,096 agents; further
        agents arrive as events. Its `complete` says if these are all.

        - `look_for`: how long the node searches, in seconds, 0 to 60. Without it the search ends
          when the node expects no further agents, after 2 s at most.
        - `timeout`: how long the call waits, in seconds; the default is `call_timeout` plus
          `look_for`. A timeout or a cancellation of the call ends the search."""
        fields = {"topic": topic, "address": address, "capability": capability, "timeoutMs": arguments.milliseconds("look_for", look_for)}
        patience = timeout if timeout is not None else self._supervised.options.call_timeout + (look_for or 0)
        return FoundAgents(await self._supervised.ask({"type": "discover", **_given(fields)}, patience))

    async def peers(self, *, timeout: float | None = None) -> list[ConnectedPeer]:
        """Returns the connected peers."""
        return (await self._supervised.ask({"type": "peers"}, timeout)).answer.connected or []

    async def status(self, *, timeout: float | None = None) -> StatusReport:
        """Returns the state and the counters of the node."""
        status = (await self._supervised.ask({"type": "status"}, timeout)).answer.status
        if status is None:
            raise SidecarError(ErrorCode.CONTRACT, "the node's answer to `status` has no `status` field")
        return status

    async def report(self, *, timeout: float | None = None) -> NetworkReport:
        """Returns the network, as the node knows it: metrics, nodes, connections, and the health score
        with its causes."""
        report = (await self._supervised.ask({"type": "report"}, timeout)).answer.report
        if report is None:
            raise SidecarError(ErrorCode.CONTRACT, "the node's answer to `report` has no `report` field")
        return report

    async def registry(self, address: str, *, timeout: float | None = None) -> RegistryEntry:
        """Returns what the registry on the chain says of an agent (`0x…` or a name). Raises
        `CommandRefused` with the code `NO_REGISTRY` without one, and `REGISTRY_UNAVAILABLE` if its
        servers do not answer or do not agree."""
        command = {"type": "registry", "address": arguments.text("address", address, ADDRESS_ADVICE)}
        entry = (await self._supervised.ask(command, timeout)).answer.registry
        if entry is None:
            raise SidecarError(ErrorCode.CONTRACT, "the node's answer to `registry` has no `registry` field")
        return entry

    async def ping(self, *, timeout: float | None = None) -> None:
        """Waits until the node answers."""
        await self._supervised.ask({"type": "ping"}, timeout)

    async def ack(self, *messages: Message, timeout: float | None = None) -> None:
        """Acknowledges messages: the node reports `delivered` to their senders. With `ack="manual"`
        only this call does so; with `ack="auto"` it does so early, for example before a `break`.

        Writes up to 1,024 messages as one command. Ignores broadcasts, which need no `ack`. Raises
        `CommandRefused` with the code `MESSAGE_NOT_FOUND` for messages that wait for no `ack`; the
        ids are in `details["messageIds"]`, and the `ack` of all other messages counts."""
        checked = [_message(f"messages[{number}]", message) for number, message in enumerate(messages)]
        names = [message.message_id for message in checked if message.topic is None]
        for at in range(0, len(names), MAX_ACK_MESSAGES):
            batch = names[at : at + MAX_ACK_MESSAGES]
            await self._supervised.ask({"type": "ack", "messageIds": batch}, timeout)
            self._supervised.events.acknowledged(batch)

    async def block(self, peer: str, *, timeout: float | None = None) -> None:
        """Rejects everything from an agent (`0x…`) or a node (PeerId). The SDK restores the rule
        after a restart."""
        await self._supervised.ask({"type": "block", "peerId": _peer(peer)}, timeout)

    async def allow(self, peer: str, *, timeout: float | None = None) -> None:
        """Marks messages from an agent (`0x…`) or a node (PeerId) with `trust` = `allowed`, and
        lifts the limit on its high-priority messages. The SDK restores the rule after a restart."""
        await self._supervised.ask({"type": "allow", "peerId": _peer(peer)}, timeout)

    async def unblock(self, peer: str, *, timeout: float | None = None) -> None:
        """Removes the rule that `block` or `allow` has set."""
        await self._supervised.ask({"type": "unblock", "peerId": _peer(peer)}, timeout)

    async def request(self, command: Mapping[str, Any], *, timeout: float | None = None) -> Answer:
        """Sends any command of the pipe protocol, without its `id`, and returns the answer."""
        if not isinstance(command, Mapping) or not isinstance(command.get("type"), str):
            raise InvalidArgument("command", 'must be a mapping with a "type", as {"type": "ping"}')
        return (await self._supervised.ask(dict(command), timeout)).answer

    # --- The network ---

    async def joined(self, *, timeout: float = 30.0) -> list[ConnectedPeer]:
        """Waits until at least one peer is connected, and returns the connected peers. `open` does
        not wait for a peer.

        `timeout` is in seconds. Raises `NotJoined` after the timeout, with the bootstrap peers and
        the errors that the node reported; the node keeps trying."""
        arguments.seconds("timeout", timeout)
        return await joined(self._supervised.events.activity, self._peers_within, self._supervised.options.bootstrap_peers, timeout)

    async def caught_up(self, *, quiet: float = QUIET, timeout: float = 30.0) -> None:
        """Waits until the program has received the mail that waited on the network: a peer is
        connected, no mail waits in the SDK, and for `quiet` seconds no mail arrived, the program
        finished none and no new peer connected.

        A sender that is unreachable now may still deliver later. `timeout` is in seconds. Raises
        `NotJoined` if no peer connects in time, and `CallTimeout` if after `timeout` mail still
        arrives, or waits in the SDK because the program does not read it."""
        arguments.seconds("quiet", quiet)
        await self._catch_up(quiet, arguments.seconds("timeout", timeout), timeout)

    async def _catch_up(self, quiet: float, timeout: float, limit: float | None) -> None:
        events = self._supervised.events

        async def join(seconds: float) -> None:
            await self.joined(timeout=seconds)

        await caught_up(events.activity, lambda: not events.mailbox.is_empty, join, quiet, timeout, limit)

    async def _peers_within(self, seconds: float) -> list[ConnectedPeer]:
        return await self.peers(timeout=seconds)

    # --- Events ---

    def events(self, buffer: int | None = None) -> Stream[Event | Lifecycle]:
        """Returns a stream of the node's events, except messages, and of the lifecycle events of
        its process.

        `buffer`: the maximum number of buffered events of each of the two kinds (see
        `event_buffer`); the default is `event_buffer`."""
        return self._supervised.events.events(buffer, self)

    def messages(self, buffer: int | None = None, *, until_caught_up: bool | float = False) -> MessageStream:
        """Returns a stream of mail and broadcasts.

        `buffer`: the maximum number of buffered broadcasts; the default is `broadcast_buffer`.
        `until_caught_up`: if set, the stream ends when `caught_up` would return; a number is its
        `quiet`, in seconds. The loop raises `NotJoined` if no peer connects within 30 s."""
        if until_caught_up is False:
            return self._supervised.events.messages(buffer, self)
        quiet = QUIET if until_caught_up is True else arguments.seconds("until_caught_up", until_caught_up)
        return self._supervised.events.messages(buffer, self, lambda: self._catch_up(quiet, 30.0, None))

    # --- The end ---

    async def close(self) -> list[Message]:
        """Drains and stops the node. Later calls raise `NodeClosed`. Takes at most the sum of
        `close_timeouts`, by default 9 s: then the SDK has sent SIGTERM and SIGKILL.

        May be called repeatedly. Cancelling the call does not stop the shutdown. Returns the mail
        that waits in the SDK, oldest first: no loop has read it, or a loop left it in the middle.
        The SDK does not acknowledge this mail."""
        return await self._supervised.close()

    def _leave(self, kind: type[BaseException] | None) -> None:
        if kind is None:
            self._supervised.events.finish()

    async def __aenter__(self) -> Node:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # In a fork, the end of the block does not close the node: it belongs to the parent.
        if not self._supervised.is_forked:
            self._leave(kind)
            await self.close()


class OpenContext:
    """The result of `open`: use it as `async with open(...) as node`, or as
    `node = await open(...)` with a later `await node.close()`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._node: Node | None = None

    def __await__(self) -> Generator[Any, None, Node]:
        return self._open().__await__()

    async def _open(self) -> Node:
        node = Node(SupervisedNode(self._options))
        await node._supervised.open()
        return node

    def __enter__(self) -> NoReturn:
        raise InvalidArgument("open", "write `async with p2p_node.open(…) as node`")

    def __exit__(self, *error: object) -> None:
        """Does nothing. Without it, `with` fails before `__enter__` can raise its advice."""

    async def __aenter__(self) -> Node:
        self._node = await self
        return self._node

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._node is not None:
            await self._node.__aexit__(kind, error, trace)


def _opening(options: Callable[OptionsOf, Options]) -> Callable[OptionsOf, OpenContext]:
    # Gives `open` the parameters of `Options` for type checkers, without a second list.
    def open(*args: OptionsOf.args, **more: OptionsOf.kwargs) -> OpenContext:
        return OpenContext(options(*args, **more))

    # Gives `help` the same parameters.
    open.__signature__ = options_signature().replace(return_annotation="OpenContext")  # type: ignore[attr-defined]
    open.__qualname__ = "open"
    open.__doc__ = """Starts a node, waits until it is ready, and restarts it after a crash. Use
    `async with p2p_node.open(…) as node`, or `node = await p2p_node.open(…)` with a later
    `await node.close()`.

    Raises `InvalidArgument`, `BinaryNotFound`, `BinaryUnusable`, `SpawnFailed`, `VersionMismatch`,
    `StartFailed` if the process exits before it is ready or rejects the start, and `NotReady` if it
    is not ready in time. Does not wait for peers: see `Node.joined`.

    """ + (Options.__doc__ or "")
    return open


open = _opening(Options)


def connect(path: str | os.PathLike[str], **more: Any) -> OpenContext:
    """Attaches to the node that listens on the Unix socket `path`, as `open(socket=path, …)`. The
    other options are those of `open`."""
    return open(socket=path, **more)


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields that are not `None`. Raises `InvalidArgument` unless every field except
    durations (`…Ms`) is a `str`."""
    for name, value in fields.items():
        if value is not None and not name.endswith("Ms"):
            arguments.text(_SNAKE.get(name, name), value)
    return {name: value for name, value in fields.items() if value is not None}


_SNAKE = {"replyTo": "reply_to", "conversationId": "conversation_id"}


def _path(file: str | os.PathLike[str] | None) -> str | None:
    """Returns the absolute path: the node may have another working directory."""
    path = os.fspath(file) if isinstance(file, os.PathLike) else file
    return None if path is None else os.path.abspath(arguments.text("file", path))


def _recipient(to: Any) -> str:
    return arguments.text("to", to, ADDRESS_ADVICE)


def _peer(peer: Any) -> str:
    return arguments.text("peer", peer, ADDRESS_ADVICE)


def _message(argument: str, value: Any) -> Message:
    if not isinstance(value, Message):
        advice = ": write `ack(*messages)`" if isinstance(value, (list, tuple)) else ""
        raise InvalidArgument(argument, f"must be a Message, not a {type(value).__name__}{advice}")
    return value


def _message_id(answer: Answer) -> str:
    if answer.message_id is None:
        raise SidecarError(ErrorCode.CONTRACT, "the node's answer to `send` has no `messageId` field")
    return answer.message_id
