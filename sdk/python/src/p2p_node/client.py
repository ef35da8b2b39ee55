"""The node as a program uses it: calls, and streams of events."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Generator, Mapping
from copy import copy
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, ParamSpec

from . import arguments
from .child import mark_retrieved
from .errors import CallTimeout, Exit, InvalidArgument, SidecarError, Undelivered
from .events import Lifecycle
from .joining import QUIET, caught_up, joined
from .options import Options, options_signature
from .supervised_node import SupervisedNode
from .streams import MessageStream, Stream
from .types import (
    MAX_ACK_MESSAGES,
    RETRYABLE,
    Answer,
    ConnectedPeer,
    Delivery,
    ErrorCode,
    Event,
    Message,
    PeerDiscovered,
    Priority,
    Ready,
    Route,
    StatusReport,
)

OptionsOf = ParamSpec("OptionsOf")
#: What to pass for something that has an address.
ADDRESS_ADVICE = ": pass an address (message.sender, node.address, found.address) or a PeerId"


class SentMessage:
    """A message that the node has accepted. `message_id` identifies it across the network."""

    def __init__(self, message_id: str, outcome: asyncio.Future[Delivery], owner: object) -> None:
        self.message_id = message_id
        self._outcome = outcome
        # Keeps the node alive while the program has the message.
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
        """Waits until the recipient has acknowledged it. May be called any number of times, or never.

        Raises `Undelivered` when it did not arrive, `SidecarRestarted` when the node crashed before it could tell, and
        `CallTimeout` after `timeout` seconds; the mail's own time to live ends the waiting anyway."""
        if timeout is not None:
            arguments.seconds("timeout", timeout)
        await asyncio.wait({self._outcome}, timeout=timeout)
        if not self._outcome.done():
            raise CallTimeout(f"the mail {self.message_id}", timeout or 0, retryable=False)
        if (error := self._outcome.exception()) is not None:
            raise copy(error)
        delivery = self._outcome.result()
        if delivery.state != "delivered":
            raise Undelivered(delivery, retryable=RETRYABLE.get(delivery.code or "", False))
        return delivery


@dataclass(frozen=True)
class Published:
    """A broadcast that the node has accepted, and how many subscribers it went to at once."""

    message_id: str
    peers: int


class Node:
    """A supervised node. Made by `p2p_node.open`; every call may be cancelled, which does not take the command back."""

    def __init__(self, supervised_node: SupervisedNode) -> None:
        self._supervised = supervised_node
        # Dropped, or at the end of the interpreter: no process is left behind.
        weakref.finalize(self, supervised_node.abandon)

    def __repr__(self) -> str:
        return f"Node(address={self.address!r}, pid={self.pid!r})"

    # --- Who this is ---

    @property
    def ready(self) -> Ready:
        """Returns the latest `ready` event of the node."""
        assert self._supervised.ready is not None, "it is set before anybody has the node"
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
        """Number of lines of the node that the SDK could not decode."""
        return self._supervised.undecodable

    @property
    def exit(self) -> Exit | None:
        """How the last process ended; code 75 means that mail was still under way when the node had to end, and is lost."""
        return self._supervised.exit

    @property
    def acks_not_found(self) -> int:
        """Number of messages that the program finished after their senders had given up."""
        return self._supervised.mailbox.acks_not_found

    @property
    def mail_dropped(self) -> int:
        """Mail that nobody took while so much other mail arrived that its sender must have given it up. It was not acknowledged."""
        return self._supervised.mailbox.dropped

    # --- Calls ---

    async def send(
        self,
        to: str,
        data: Any,
        *,
        kind: str | None = None,
        priority: Priority | None = None,
        ttl: float | None = None,
        route: Route | None = None,
        reply_to: str | None = None,
        conversation_id: str | None = None,
        timeout: float | None = None,
    ) -> SentMessage:
        """Sends mail to an agent. Returns when the node has accepted it; `SentMessage.delivered` tells the rest.

        `to`: the `0x…` address of an agent, or a PeerId. `data`: bytes, or whatever JSON can say. `ttl`: how long the node keeps trying, in
        seconds, at most 604,800 (7 days); by default 120, with a data directory 86,400 (24 hours)."""
        outcome: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        outcome.add_done_callback(mark_retrieved)
        fields = {"kind": kind, "priority": priority, "ttlMs": arguments.milliseconds("ttl", ttl), "route": route}
        fields |= {"replyTo": reply_to, "conversationId": conversation_id}
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
        """Answers a message: mail to its sender, in its conversation. The rest is as with `send`."""
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
        timeout: float | None = None,
    ) -> Published:
        """Broadcasts to a topic. Returns when the node has accepted it.

        `ttl`: how long the broadcast waits where there is no subscriber yet, in seconds, at most 10, which is the default."""
        fields = {"kind": kind, "priority": priority, "ttlMs": arguments.milliseconds("ttl", ttl)}
        fields |= {"replyTo": reply_to, "conversationId": conversation_id}
        command = {"type": "send", "topic": arguments.text("topic", topic), **arguments.payload(data), **_given(fields)}
        reply = await self._supervised.ask(command, timeout)
        return Published(_message_id(reply.answer), reply.answer.peers or 0)

    async def subscribe(self, topic: str, *, timeout: float | None = None) -> None:
        """Subscribes to the broadcasts of a topic, also after a restart."""
        await self._supervised.ask({"type": "subscribe", "topic": arguments.text("topic", topic)}, timeout)

    async def unsubscribe(self, topic: str, *, timeout: float | None = None) -> None:
        """Ends a subscription."""
        await self._supervised.ask({"type": "unsubscribe", "topic": arguments.text("topic", topic)}, timeout)

    async def discover(
        self,
        *,
        topic: str | None = None,
        address: str | None = None,
        capability: str | None = None,
        look_for: float | None = None,
        timeout: float | None = None,
    ) -> list[PeerDiscovered]:
        """Finds agents; looks for so many seconds (2 by default). A call that is cancelled cancels the search."""
        fields = {"topic": topic, "address": address, "capability": capability, "timeoutMs": arguments.milliseconds("look_for", look_for)}
        patience = timeout if timeout is not None else self._supervised.options.call_timeout + (look_for or 0)
        return (await self._supervised.ask({"type": "discover", **_given(fields)}, patience)).found

    async def peers(self, *, timeout: float | None = None) -> list[ConnectedPeer]:
        """Returns the connected peers."""
        return (await self._supervised.ask({"type": "peers"}, timeout)).answer.connected or []

    async def status(self, *, timeout: float | None = None) -> StatusReport:
        """Returns the state and the counters of the node."""
        status = (await self._supervised.ask({"type": "status"}, timeout)).answer.status
        if status is None:
            raise SidecarError(ErrorCode.CONTRACT, "the answer to `status` has no status")
        return status

    async def ping(self, *, timeout: float | None = None) -> None:
        """Waits for an answer of the node."""
        await self._supervised.ask({"type": "ping"}, timeout)

    async def ack(self, *messages: Message, timeout: float | None = None) -> None:
        """Acknowledges mail, so that its senders are told `delivered`: with `ack="manual"` nothing else does; otherwise it does so early,
        for example before a `break`. A broadcast needs no `ack`, and none is written."""
        checked = [_message(f"messages[{number}]", message) for number, message in enumerate(messages)]
        names = [message.message_id for message in checked if message.topic is None]
        for at in range(0, len(names), MAX_ACK_MESSAGES):
            batch = names[at : at + MAX_ACK_MESSAGES]
            await self._supervised.ask({"type": "ack", "messageIds": batch}, timeout)
            self._supervised.events.acknowledged(batch)

    async def block(self, peer: str, *, timeout: float | None = None) -> None:
        """Rejects everything from an agent (`0x…`) or a node (PeerId), also after a restart."""
        await self._supervised.ask({"type": "block", "peerId": _peer(peer)}, timeout)

    async def allow(self, peer: str, *, timeout: float | None = None) -> None:
        """Marks what an agent or a node sends as `trust` = `allowed`."""
        await self._supervised.ask({"type": "allow", "peerId": _peer(peer)}, timeout)

    async def unblock(self, peer: str, *, timeout: float | None = None) -> None:
        """Removes the rule of `block` or `allow`."""
        await self._supervised.ask({"type": "unblock", "peerId": _peer(peer)}, timeout)

    async def request(self, command: Mapping[str, Any], *, timeout: float | None = None) -> Answer:
        """Sends any command of the pipe protocol, without `id`."""
        if not isinstance(command, Mapping) or not isinstance(command.get("type"), str):
            raise InvalidArgument("command", 'it takes a mapping with a type, as {"type": "ping"}')
        return (await self._supervised.ask(dict(command), timeout)).answer

    # --- The network ---

    async def joined(self, *, timeout: float = 30.0) -> list[ConnectedPeer]:
        """Waits until the node has a connected peer, and returns those that it has: `open` succeeds also where no one can be reached.

        Raises `NotJoined` after `timeout` seconds, with what was tried and what the node told about it."""
        arguments.seconds("timeout", timeout)
        return await joined(self._supervised.events.activity, self._peers_within, self._supervised.options.bootstrap_peers, timeout)

    async def caught_up(self, *, quiet: float = QUIET, timeout: float = 30.0) -> None:
        """Waits until the program has what was waiting for it on the network: a peer is connected, no mail waits in the SDK, and for
        `quiet` seconds no mail came, none was acknowledged and no peer was connected anew.

        A sender that is out of reach now may deliver later all the same. Raises `NotJoined` when there is no peer within `timeout` seconds,
        and `CallTimeout` when mail still comes then, or waits here for a program that does not take it."""
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
        """Everything but messages that the node tells unasked, and what becomes of its process. `buffer`: events of each kind to keep."""
        return self._supervised.events.events(buffer, self)

    def messages(self, buffer: int | None = None, *, until_caught_up: bool | float = False) -> MessageStream:
        """Mail and broadcasts. `buffer`: broadcasts to keep.

        `until_caught_up`: the stream ends when the node has `caught_up`; a number is its `quiet`, in seconds. Where no peer is
        connected within 30 s, the loop raises `NotJoined`."""
        if until_caught_up is False:
            return self._supervised.events.messages(buffer, self)
        quiet = QUIET if until_caught_up is True else arguments.seconds("until_caught_up", until_caught_up)
        return self._supervised.events.messages(buffer, self, lambda: self._catch_up(quiet, 30.0, None))

    # --- The end ---

    async def close(self) -> list[Message]:
        """Has the node finish what it accepted and end; later calls fail. Takes 9 s at most. May be called more than once, and be
        cancelled, which does not stop the closing. Returns the mail that no stream has handed out, which is not acknowledged."""
        return await self._supervised.close()

    def _leave(self, kind: type[BaseException] | None) -> None:
        if kind is None:
            self._supervised.events.finish()

    async def __aenter__(self) -> Node:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # In a fork, leaving the block ends nothing: the node goes on for the process that opened it.
        if not self._supervised.is_forked:
            self._leave(kind)
            await self.close()


class OpenContext:
    """A node that is about to open: `async with open(...) as node`, or `node = await open(...)` and `close` later."""

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
        """Only so that `with` gets as far as the advice."""

    async def __aenter__(self) -> Node:
        self._node = await self
        return self._node

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._node is not None:
            await self._node.__aexit__(kind, error, trace)


def _opening(options: Callable[OptionsOf, Options]) -> Callable[OptionsOf, OpenContext]:
    # So that type checkers know the options of `open`, and they stand in one place.
    def open(*args: OptionsOf.args, **more: OptionsOf.kwargs) -> OpenContext:
        return OpenContext(options(*args, **more))

    # So that `help` does as well.
    open.__signature__ = options_signature().replace(return_annotation="Opening")  # type: ignore[attr-defined]
    open.__qualname__ = "open"
    open.__doc__ = """Starts a node, waits until it is ready, and starts it again when it crashes: `async with p2p_node.open(…) as node`, or
    `node = await p2p_node.open(…)` and `await node.close()` later.

    """ + (Options.__doc__ or "")
    return open


open = _opening(Options)


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that were given. All but times are text, and are called as in the contract, but for their case."""
    for name, value in fields.items():
        if value is not None and not name.endswith("Ms"):
            arguments.text(_SNAKE.get(name, name), value)
    return {name: value for name, value in fields.items() if value is not None}


_SNAKE = {"replyTo": "reply_to", "conversationId": "conversation_id"}


def _recipient(to: Any) -> str:
    return arguments.text("to", to, ADDRESS_ADVICE)


def _peer(peer: Any) -> str:
    return arguments.text("peer", peer, ADDRESS_ADVICE)


def _message(argument: str, value: Any) -> Message:
    if not isinstance(value, Message):
        advice = ": write `ack(*messages)`" if isinstance(value, (list, tuple)) else ""
        raise InvalidArgument(argument, f"it takes a Message, not a {type(value).__name__}{advice}")
    return value


def _message_id(answer: Answer) -> str:
    if answer.message_id is None:
        raise SidecarError(ErrorCode.CONTRACT, "the answer to `send` has no messageId")
    return answer.message_id
