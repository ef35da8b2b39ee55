"""The node as a program uses it: calls, streams of events, and a process that is started again when it crashes."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import secrets
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Union

from .channel import Reply
from .child import Child
from .errors import (
    CallTimeout,
    CommandRefused,
    Exit,
    IdentityChanged,
    NodeClosed,
    P2PError,
    SidecarError,
    SidecarExited,
    SidecarRestarted,
    SidecarUnavailable,
    Undelivered,
    VersionMismatch,
)
from .locate import find_binary
from .process import Process
from .streams import Stream
from .supervisor import Restart, Supervisor
from .types import (
    MAX_INFLIGHT,
    PROTOCOL_VERSION,
    RETRYABLE,
    Answer,
    ConnectedPeer,
    Delivery,
    Event,
    Message,
    PeerDiscovered,
    Priority,
    Ready,
    Route,
    StatusReport,
)

#: Seconds that a node may take to end after `close`: to finish (it takes up to 5 itself), and then to obey SIGTERM.
DRAIN, TERMINATE = 7.0, 2.0


@dataclass(frozen=True)
class Restarting:
    """The process ended, and is started again after `delay` seconds."""

    reason: str
    exit: Exit
    delay: float
    attempt: int


@dataclass(frozen=True)
class Restarted:
    """The node is back: same address and port, subscribed as before. What was broadcast meanwhile was missed."""

    attempt: int
    downtime: float
    ready: Ready


@dataclass(frozen=True)
class Unhealthy:
    """The process has crashed `crashes` times in short order. It is still started again."""

    crashes: int


@dataclass(frozen=True)
class Closed:
    """The last event. `error`: why the node is gone, unless `close` was called."""

    error: P2PError | None


Lifecycle = Union[Restarting, Restarted, Unhealthy, Closed]


@dataclass(kw_only=True)
class Options:
    """How a node is started. Times are in seconds."""

    binary: str | os.PathLike[str] | None = None
    search_path: bool = False
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | os.PathLike[str] | None = None
    name: str | None = None
    network: str | None = None
    port: int | None = None
    bootstrap_peers: Sequence[str] = ()
    data_dir: str | os.PathLike[str] | None = None
    env_file: str | os.PathLike[str] | None = None
    #: Goes into the child's environment, never into its arguments.
    private_key: str | None = field(default=None, repr=False)
    binding_file: str | os.PathLike[str] | None = None
    ready_timeout: float = 30.0
    call_timeout: float = 30.0
    write_timeout: float = 10.0
    event_buffer: int = 1024
    #: `None`: a process that ends is not started again.
    restart: Restart | None = field(default_factory=Restart)
    #: Called with what the node writes to stderr, in pieces.
    on_stderr: Callable[[bytes], None] | None = None

    def command_line(self) -> list[str]:
        flags = {
            "--name": self.name,
            "--network": self.network,
            "--data-dir": self.data_dir,
            "--env-file": self.env_file,
            "--binding": self.binding_file,
        }
        named = [part for flag, value in flags.items() if value is not None for part in (flag, os.fspath(value))]
        return [*named, "--parent-pid", str(os.getpid()), *self.args]

    def environment(self, ephemeral_key: str) -> dict[str, str]:
        env = {**os.environ, "EPHEMERAL_KEY": ephemeral_key, **self.env}
        if self.private_key is not None:
            env["PRIVATE_KEY"] = self.private_key
        return env


class Mail:
    """Mail that the node has accepted; `message_id` names it across the network."""

    def __init__(self, message_id: str, outcome: asyncio.Future[Delivery]) -> None:
        self.message_id = message_id
        self._outcome = outcome

    async def delivered(self, timeout: float | None = None) -> Delivery:
        """Waits until the recipient's node has signed for it. May be called any number of times, or never.

        Raises `Undelivered` when it did not arrive, `SidecarRestarted` when the node crashed before it could tell, and
        `CallTimeout` after `timeout` seconds; the mail's own time to live ends the waiting anyway."""
        await asyncio.wait({self._outcome}, timeout=timeout)
        if not self._outcome.done():
            raise CallTimeout(f"the mail {self.message_id}", timeout or 0)
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

    def __init__(self, options: Options) -> None:
        self.options = options
        #: Lines of the node that could not be read.
        self.undecodable = 0
        self._key = "0x" + secrets.token_hex(32)
        self._supervisor = Supervisor(options.restart)
        self._permits = asyncio.Semaphore(MAX_INFLIGHT)
        self._child: Child | None = None
        self._up = asyncio.Event()
        self._closed: P2PError | None = None
        self._closing: asyncio.Task[Exit | None] | None = None
        self._ready: Ready | None = None
        self._topics: dict[str, None] = {}
        self._standings: dict[str, str] = {}
        self._streams: list[Stream[Any]] = []
        self._backlog: deque[Any] | None = deque(maxlen=options.event_buffer)
        self._tasks: set[asyncio.Task[Any]] = set()
        # Whatever becomes of this object or the interpreter, no process is left behind.
        self._processes: set[Process] = set()
        weakref.finalize(self, _kill_all, self._processes)

    # --- Who this is ---

    @property
    def ready(self) -> Ready:
        """What the node said when it was ready last."""
        assert self._ready is not None, "it is set before anybody has the node"
        return self._ready

    @property
    def address(self) -> str:
        """The agent's Ethereum address."""
        return self.ready.address

    @property
    def pid(self) -> int | None:
        """The process's id, while there is one."""
        return self._child.process.child.pid if self._child is not None else None

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
    ) -> Mail:
        """Sends mail to an agent, by `0x…` address or PeerId. Returns when the node has accepted it; `Mail.delivered` tells the rest.

        `data`: bytes, or whatever JSON can say. `ttl`: how long to keep trying, in seconds."""
        outcome: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        outcome.add_done_callback(_look_at)
        fields = {"kind": kind, "priority": priority, "ttlMs": _ms(ttl), "route": route}
        fields |= {"replyTo": reply_to, "conversationId": conversation_id}
        command = {"type": "send", "peerId": to, **_payload(data), **_given(fields)}
        reply = await self._ask(command, timeout, outcome)
        return Mail(_message_id(reply.answer), outcome)

    async def reply(self, message: Message, data: Any, **more: Any) -> Mail:
        """Answers a message: mail to its sender, in its conversation."""
        more = {"conversation_id": message.conversation_id, **more}
        return await self.send(message.sender, data, reply_to=message.message_id, **more)

    async def publish(
        self,
        topic: str,
        data: Any,
        *,
        kind: str | None = None,
        priority: Priority | None = None,
        timeout: float | None = None,
    ) -> Published:
        """Broadcasts to a topic. Returns when the node has accepted it."""
        fields = _given({"kind": kind, "priority": priority})
        reply = await self._ask({"type": "send", "topic": topic, **_payload(data), **fields}, timeout)
        return Published(_message_id(reply.answer), reply.answer.peers or 0)

    async def subscribe(self, topic: str, *, timeout: float | None = None) -> None:
        """Receives what is broadcast on a topic; also after a restart."""
        await self._ask({"type": "subscribe", "topic": topic}, timeout)
        self._topics[topic] = None

    async def unsubscribe(self, topic: str, *, timeout: float | None = None) -> None:
        """Ends a subscription."""
        self._topics.pop(topic, None)
        await self._ask({"type": "unsubscribe", "topic": topic}, timeout)

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
        fields = {"topic": topic, "address": address, "capability": capability, "timeoutMs": _ms(look_for)}
        patience = timeout if timeout is not None else self.options.call_timeout + (look_for or 0)
        return (await self._ask({"type": "discover", **_given(fields)}, patience)).found

    async def peers(self, *, timeout: float | None = None) -> list[ConnectedPeer]:
        """The peers that are connected."""
        return (await self._ask({"type": "peers"}, timeout)).answer.connected or []

    async def status(self, *, timeout: float | None = None) -> StatusReport:
        """What the node knows and has counted."""
        status = (await self._ask({"type": "status"}, timeout)).answer.status
        if status is None:
            raise SidecarError("CONTRACT", "the answer to `status` has no status")
        return status

    async def ping(self, *, timeout: float | None = None) -> None:
        """Returns when the node answers."""
        await self._ask({"type": "ping"}, timeout)

    async def block(self, peer: str, *, timeout: float | None = None) -> None:
        """Takes nothing more from an agent (`0x…`) or a node (PeerId)."""
        await self._stand("block", peer, timeout)

    async def allow(self, peer: str, *, timeout: float | None = None) -> None:
        """Marks what an agent or a node sends as `trust` = `allowed`."""
        await self._stand("allow", peer, timeout)

    async def unblock(self, peer: str, *, timeout: float | None = None) -> None:
        """Takes back `block` and `allow`."""
        await self._stand("unblock", peer, timeout)

    async def request(self, command: Mapping[str, Any], *, timeout: float | None = None) -> Answer:
        """Any command of the contract, as it is written, without `id`."""
        return (await self._ask(dict(command), timeout)).answer

    async def _stand(self, command: str, peer: str, timeout: float | None) -> None:
        await self._ask({"type": command, "peerId": peer}, timeout)
        self._standings.pop(peer, None)
        if command != "unblock":
            self._standings[peer] = command

    # --- Events ---

    def events(self, buffer: int | None = None) -> Stream[Event | Lifecycle]:
        """All that the node tells unasked, and what becomes of its process."""
        return self._subscribe(lambda event: True, buffer)

    def messages(self, buffer: int | None = None) -> Stream[Message]:
        """Mail and broadcasts."""
        return self._subscribe(lambda event: isinstance(event, Message), buffer)

    def _subscribe(self, wanted: Callable[[object], bool], buffer: int | None) -> Stream[Any]:
        stream: Stream[Any] = Stream(buffer or self.options.event_buffer, wanted, self._leave)
        # What came before anybody looked is for the first who does.
        backlog, self._backlog = self._backlog, None
        for event in backlog or ():
            stream.put(event)
        if self._closed is not None:
            stream.end()
        else:
            self._streams.append(stream)
        return stream

    def _leave(self, stream: Stream[Any]) -> None:
        if stream in self._streams:
            self._streams.remove(stream)

    def _tell(self, event: Event | Lifecycle) -> None:
        if self._backlog is not None:
            self._backlog.append(event)
        for stream in self._streams:
            stream.put(event)

    # --- Asking ---

    async def _ask(
        self, command: dict[str, Any], timeout: float | None, outcome: asyncio.Future[Delivery] | None = None
    ) -> Reply:
        patience = self.options.call_timeout if timeout is None else timeout
        deadline = time.monotonic() + patience
        child = await self._wait_up(deadline, patience)
        await self._permit(command["type"], deadline, patience)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        # The permit counts the request until it is answered, whoever waits for it.
        answer.add_done_callback(_look_at)
        answer.add_done_callback(lambda answer: self._permits.release())
        waiter = _waiter(child, answer, outcome)
        number = None
        try:
            number = await child.send(command, waiter, self.options.write_timeout)
            await asyncio.wait({answer}, timeout=max(0.0, deadline - time.monotonic()))
            if not answer.done():
                raise CallTimeout(f"`{command['type']}`", patience)
            return answer.result()
        except BaseException:
            if number is None and not answer.done():
                answer.cancel()
            elif command["type"] == "discover" and not answer.done():
                self._spawn(self._give_up(child, number))
            raise

    async def _wait_up(self, deadline: float, patience: float) -> Child:
        while True:
            if self._closed is not None:
                raise self._closed
            if self._child is not None:
                return self._child
            try:
                await asyncio.wait_for(self._up.wait(), max(0.0, deadline - time.monotonic()))
            except asyncio.TimeoutError:
                raise SidecarUnavailable(patience) from None

    async def _permit(self, what: str, deadline: float, patience: float) -> None:
        try:
            await asyncio.wait_for(self._permits.acquire(), max(0.0, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            raise CallTimeout(f"`{what}`", patience) from None

    async def _give_up(self, child: Child, number: int | None) -> None:
        try:
            await child.send({"type": "cancel", "target": number}, lambda reply, error: None, self.options.write_timeout)
        except P2PError:
            pass  # the search ended with the process

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- The process ---

    async def _open(self) -> Node:
        self._program = find_binary(self.options.binary, search_path=self.options.search_path)
        child, self._ready = await self._start(self.options.port)
        self._come_up(child)
        self._spawn(self._supervise(child))
        return self

    async def _start(self, port: int | None) -> tuple[Child, Ready]:
        """A process that is ready; one that does not get there is gone."""
        options = self.options
        process = await Process.spawn(
            self._program, options.command_line(), options.environment(self._key), options.cwd, options.on_stderr
        )
        self._processes.add(process)
        process.exit.add_done_callback(lambda exit: self._processes.discard(process))
        child = Child(process, self._tell, self._count_undecodable)
        connect = {"type": "connect", "protocol": PROTOCOL_VERSION, "bootstrapPeers": list(options.bootstrap_peers)}
        try:
            return child, await child.connect({**connect, **_given({"port": port})}, options.ready_timeout)
        except BaseException:
            await child.kill()
            raise

    def _come_up(self, child: Child) -> None:
        self._supervisor.ready(time.monotonic())
        self._child = child
        self._up.set()

    async def _supervise(self, child: Child) -> None:
        try:
            await self._keep_up(child)
        except Exception as error:  # a defect of this package must not leave callers waiting for ever
            defect = SidecarError("INTERNAL", f"the supervision failed: {error!r}")
            defect.__cause__ = error
            self._finish(defect, child)

    async def _keep_up(self, child: Child) -> None:
        """Has a process take the place of one that ended, again and again, until that is no use or the node is closed."""
        exit = await child.ended()
        while self._closing is None:
            since = time.monotonic()
            self._child = None
            self._up.clear()
            tail = child.process.stderr_tail()
            again = self._supervisor.ended(exit, since, random.random())
            if again is None:
                return self._finish(SidecarExited(exit, tail), child)
            child.channel.fail_all(SidecarRestarted(f"the node ended with {exit}", tail))
            self._tell(Restarting(f"the node ended with {exit}", exit, again.delay, again.attempt))
            if again.unhealthy and self.options.restart is not None:
                self._tell(Unhealthy(self.options.restart.crashes))
            await asyncio.sleep(again.delay)
            try:
                child = await self._replace(child, again.attempt, since)
            except (VersionMismatch, IdentityChanged) as error:
                return self._finish(error, child)
            except SidecarExited as error:
                exit = error.exit
                continue
            except P2PError:
                exit = Exit(signal=9)
                continue
            exit = await child.ended()

    async def _replace(self, old: Child, attempt: int, since: float) -> Child:
        """A new process in the place of the old one, with all that the parent had asked of that."""
        before = self.ready
        child, ready = await self._start(_port(before) or self.options.port)
        try:
            if ready.address != before.address:
                message = f"the node was {before.address} and is now {ready.address}: give it a key"
                raise IdentityChanged("IDENTITY_CHANGED", message)
            commands = [{"type": "subscribe", "topic": topic} for topic in self._topics]
            commands += [{"type": command, "peerId": peer} for peer, command in self._standings.items()]
            for command in commands:
                await self._ask_of(child, command)
        except BaseException:
            await child.kill()
            raise
        self._ready = ready
        self._come_up(child)
        self._tell(Restarted(attempt, time.monotonic() - since, ready))
        return child

    async def _ask_of(self, child: Child, command: dict[str, Any]) -> None:
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_look_at)
        exited = asyncio.ensure_future(child.process.finished())
        await child.send(command, _waiter(child, answer, None), self.options.write_timeout)
        try:
            ends: set[asyncio.Future[Any]] = {answer, exited}
            await asyncio.wait(ends, timeout=self.options.call_timeout, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                try:
                    answer.result()
                except CommandRefused:
                    pass  # it was possible once; what is refused now is told by the node's own error
                return
            if exited.done():
                raise SidecarExited(exited.result(), child.process.stderr_tail())
            raise CallTimeout(f"`{command['type']}`", self.options.call_timeout)
        finally:
            exited.cancel()

    def _finish(self, error: P2PError | None, child: Child | None) -> None:
        """There is no process any more, and will be none."""
        self._closed = error or NodeClosed()
        self._child = None
        self._up.set()
        if child is not None:
            child.channel.fail_all(self._closed)
        self._tell(Closed(error))
        for stream in self._streams:
            stream.end()

    async def close(self) -> Exit | None:
        """Has the node finish what it accepted and end; later calls fail. Takes 9 s at most. May be called more than once, and be
        cancelled, which does not stop the closing. Returns how the process ended: code 75 means that accepted mail was lost."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        return await asyncio.shield(self._closing)

    async def _close(self) -> Exit | None:
        if self._closed is not None:
            return None
        child = self._child
        self._closed = NodeClosed()
        exit = None if child is None else await child.shut_down(DRAIN, TERMINATE)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._finish(None, child)
        return exit

    def _count_undecodable(self, lines: int) -> None:
        self.undecodable += lines

    async def __aenter__(self) -> Node:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Opening:
    """A node that is about to open: `async with open(...) as node`, or `node = await open(...)` and `close` later."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._node: Node | None = None

    def __await__(self) -> Generator[Any, None, Node]:
        return Node(self._options)._open().__await__()

    async def __aenter__(self) -> Node:
        self._node = await self
        return self._node

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._node is not None:
            await self._node.close()


def open(**options: Any) -> Opening:
    """Starts a node, waits until it is ready, and starts it again when it crashes. See `Options`."""
    return Opening(Options(**options))


def _kill_all(processes: set[Process]) -> None:
    for process in list(processes):
        process.kill()


def _look_at(future: asyncio.Future[Any]) -> None:
    """An outcome that nobody waits for is no mistake."""
    if not future.cancelled():
        future.exception()


def _waiter(
    child: Child, answer: asyncio.Future[Reply], outcome: asyncio.Future[Delivery] | None
) -> Callable[[Reply | None, P2PError | None], None]:
    def delivered(delivery: Delivery | None, error: P2PError | None) -> None:
        _settle(outcome, delivery, error)

    def answered(reply: Reply | None, error: P2PError | None) -> None:
        accepted = reply.answer.message_id if reply is not None and reply.answer.delivery == "accepted" else None
        # Before the next line is looked at, for that may be the delivery.
        if outcome is not None and accepted is not None and not child.channel.track(accepted, delivered):
            _settle(outcome, None, P2PError("TOO_MANY", "too many deliveries are awaited; this one comes as an event"))
        _settle(answer, reply, error)

    return answered


def _settle(future: asyncio.Future[Any] | None, value: Any, error: P2PError | None) -> None:
    if future is None or future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)


def _payload(data: Any) -> dict[str, Any]:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return {"data": base64.b64encode(data).decode(), "encoding": "base64"}
    return {"data": data}


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _message_id(answer: Answer) -> str:
    if answer.message_id is None:
        raise SidecarError("CONTRACT", "the answer to `send` has no messageId")
    return answer.message_id


def _port(ready: Ready) -> int | None:
    """The TCP port that a node listens on."""
    for addr in ready.addrs:
        parts = addr.split("/")
        if "tcp" in parts:
            return int(parts[parts.index("tcp") + 1])
    return None
