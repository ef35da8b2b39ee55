"""A process that is started again when it crashes, and the calls that wait for it. Knows no `Node`, so that one can be dropped."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, Union

from .channel import Reply, Waiter, encode
from .child import Child, look_at, settle
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
    VersionMismatch,
)
from .locate import find_binary
from .options import Options
from .process import Process
from .streams import MAX_MAIL, Stream
from .supervisor import Supervisor
from .types import PROTOCOL_VERSION, Delivery, ErrorEvent, Event, Message, Ready
from .wanted import Wanted

#: Seconds that a node may take to end after `close`: to finish (it takes up to 5 itself), and then to obey SIGTERM.
DRAIN, TERMINATE = 7.0, 2.0


@dataclass(frozen=True)
class Restarting:
    """The process ended, and is started again after `delay` seconds. `exit`: how, unless there was none or it was killed here."""

    reason: str
    exit: Exit | None
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


@dataclass(eq=False)
class Call:
    """A command on its way: until it is written it waits here, from then on in the channel of a child."""

    command: Mapping[str, Any]
    body: bytes
    answer: asyncio.Future[Reply]
    #: Where the delivery of mail goes.
    outcome: asyncio.Future[Delivery] | None
    child: Child | None = None
    number: int = 0
    abandoned: bool = False


class Sidecar:
    """What becomes of one node's processes, and of what is asked of them."""

    def __init__(self, options: Options) -> None:
        self.options = options
        #: Lines of the node that could not be read.
        self.undecodable = 0
        self.ready: Ready | None = None
        self.child: Child | None = None
        self._loop = asyncio.get_running_loop()
        self._key = "0x" + secrets.token_hex(32)
        self._supervisor = Supervisor(options.restart)
        self._waiting: deque[Call] = deque()
        self._closed: P2PError | None = None
        self._over = False
        self._closing: asyncio.Task[Exit | None] | None = None
        self._supervising: asyncio.Task[None] | None = None
        self._wanted = Wanted()
        self._streams: weakref.WeakSet[Stream[Any]] = weakref.WeakSet()
        self._acks_by_hand = False
        # Mail that waits for an `ack`, oldest first.
        self._owed: dict[str, None] = {}
        # What came before anybody looked is for the first who does.
        self._backlog: Stream[Any] | None = Stream(options.event_buffer, lambda event: True, self._is_owed)
        self._processes: set[Process] = set()

    # --- Events ---

    def stream(self, wanted: Callable[[object], bool], buffer: int | None, owner: object) -> Stream[Any]:
        stream: Stream[Any] = Stream(buffer or self.options.event_buffer, wanted, self._is_owed, owner)
        if self._backlog is not None:
            self._backlog.move_to(stream)
            self._backlog = None
        self._streams.add(stream)
        if self._over:
            stream.end()
        return stream

    def _is_owed(self, event: object) -> bool:
        return isinstance(event, Message) and event.message_id in self._owed

    def acknowledged(self, message_id: str) -> None:
        self._owed.pop(message_id, None)

    def _tell(self, event: Event | Lifecycle) -> None:
        if isinstance(event, Ready):
            self._acks_by_hand = "ack" in event.features
        if self._acks_by_hand and isinstance(event, Message) and event.topic is None:
            self._owed[event.message_id] = None
            if len(self._owed) > MAX_MAIL:
                del self._owed[next(iter(self._owed))]
        if self._backlog is not None:
            self._backlog.put(event)
        for stream in list(self._streams):
            stream.put(event)

    # --- Asking ---

    async def ask(
        self, command: Mapping[str, Any], timeout: float | None, outcome: asyncio.Future[Delivery] | None = None
    ) -> Reply:
        """Has a command written when its turn comes, and waits for its answer."""
        patience = self.options.call_timeout if timeout is None else timeout
        if self._closed is not None:
            raise copy(self._closed)
        call = Call(command, encode(command), self._loop.create_future(), outcome)
        call.answer.add_done_callback(look_at)
        self._waiting.append(call)
        self._write_what_waits()
        try:
            await asyncio.wait({call.answer}, timeout=patience)
        finally:
            if not call.answer.done():
                self._abandon(call)
        if call.answer.done():
            return call.answer.result()
        if call.child is None and self.child is None:
            raise SidecarUnavailable(patience)
        raise CallTimeout(f"`{command.get('type')}`", patience)

    def _write_what_waits(self) -> None:
        while self._waiting and self.child is not None and self.child.has_room:
            call = self._waiting.popleft()
            try:
                call.number = self.child.ask(call.body, self._waiter(call, self.child))
            except P2PError as error:
                settle(call.answer, None, error)
            else:
                call.child = self.child

    def _waiter(self, call: Call, child: Child) -> Waiter:
        def delivered(delivery: Delivery | None, error: P2PError | None) -> None:
            settle(call.outcome, delivery, error)

        def answered(reply: Reply | None, error: P2PError | None) -> None:
            if reply is not None:
                # Also when whoever asked for it has given up waiting.
                self._wanted.carried_out(call.command)
                accepted = reply.answer.message_id if reply.answer.delivery == "accepted" else None
                # Before the next line is looked at, for that may be the delivery. Nobody has the mail of a call that was given
                # up, so its delivery comes as an event.
                if call.outcome is not None and accepted is not None and not call.abandoned:
                    if not child.channel.track(accepted, delivered):
                        message = "too many deliveries are awaited; this one comes as an event"
                        settle(call.outcome, None, P2PError("TOO_MANY", message))
            settle(call.answer, reply, error)
            self._write_what_waits()

        return answered

    def _abandon(self, call: Call) -> None:
        call.abandoned = True
        if call.child is None:
            self._waiting.remove(call)
        elif call.command.get("type") == "discover" and call.child.channel.closed is None:
            call.child.ask(encode({"type": "cancel", "target": call.number}), lambda reply, error: None)

    # --- The process ---

    async def open(self) -> None:
        """Starts the first process. What goes wrong before it is ready is not tried again."""
        self._program = find_binary(self.options.binary, search_path=self.options.search_path)
        child, self.ready = await self._start(self.options.port)
        self._come_up(child)
        self._supervising = self._loop.create_task(self._supervise(child))

    async def _start(self, port: int | None) -> tuple[Child, Ready]:
        """A process that is ready; one that does not get there is gone."""
        options = self.options
        environment = options.environment(self._key)
        process = await Process.spawn(
            self._program, options.command_line(), environment, options.cwd, options.on_stderr, options.write_timeout
        )
        self._processes.add(process)
        process.exit.add_done_callback(lambda exit: self._processes.discard(process))
        child = Child(process, options.write_timeout, self._tell, self._count_undecodable)
        connect: dict[str, Any] = {"type": "connect", "protocol": PROTOCOL_VERSION}
        connect["bootstrapPeers"] = list(options.bootstrap_peers)
        if port is not None:
            connect["port"] = port
        try:
            return child, await child.connect(connect, options.ready_timeout)
        except CommandRefused as error:
            # This says more about whether to try again than the refusal does.
            error.exit = await child.kill()
            raise
        except BaseException:
            await child.kill()
            raise

    def _come_up(self, child: Child) -> None:
        self._supervisor.ready(time.monotonic())
        self.child = child
        child.process.stdin.on_room = self._write_what_waits
        self._write_what_waits()

    async def _supervise(self, child: Child) -> None:
        try:
            await self._keep_up(child)
        except asyncio.CancelledError:
            # The program ends without having closed the node.
            self._kill()
            raise
        except Exception as error:  # a defect of this package must not leave callers waiting for ever
            self._kill()
            defect = SidecarError("INTERNAL", f"the supervision failed: {error!r}")
            defect.__cause__ = error
            self._finish(defect, child)

    async def _keep_up(self, child: Child) -> None:
        """Has a process take the place of one that ended, again and again, until that is no use or the node is closed."""
        while True:
            end = await child.ended()
            if self._closing is not None:
                return
            since, tail, old = time.monotonic(), child.process.stderr_tail(), child
            exit: Exit | None = end
            error: P2PError = SidecarExited(end, tail)
            reason, self.child = f"the node ended with {end}", None
            while self.child is None:
                again = self._supervisor.ended(exit, time.monotonic(), random.random())
                if again is None:
                    return self._finish(error, old)
                old.channel.fail_all(SidecarRestarted(reason, tail))
                self._tell(Restarting(reason, exit, again.delay, again.attempt))
                if again.unhealthy and self.options.restart is not None:
                    self._tell(Unhealthy(self.options.restart.crashes))
                await asyncio.sleep(again.delay)
                try:
                    child = await self._replace(again.attempt, since)
                except (VersionMismatch, IdentityChanged) as last:
                    return self._finish(last, old)
                except SidecarExited as last:
                    error, exit, reason = last, last.exit, str(last)
                except P2PError as last:
                    error, exit, reason = last, last.exit if isinstance(last, CommandRefused) else None, str(last)

    async def _replace(self, attempt: int, since: float) -> Child:
        """A new process, with all that the parent had asked of the old one."""
        before = self.ready
        assert before is not None, "there was a first"
        child, ready = await self._start(_port(before) or self.options.port)
        try:
            if ready.address != before.address:
                message = f"the node was {before.address} and is now {ready.address}: give it a key"
                raise IdentityChanged("IDENTITY_CHANGED", message)
            for command in self._wanted.commands():
                try:
                    await child.answer(command, self.options.call_timeout)
                except CommandRefused as error:
                    # It was possible once. Nobody waits for this answer, so it is told as an event.
                    message = f"after a restart, {command}: {error.message}"
                    self._tell(ErrorEvent(code=error.code, message=message, retryable=error.retryable))
        except BaseException:
            await child.kill()
            raise
        self.ready = ready
        self._come_up(child)
        self._tell(Restarted(attempt, time.monotonic() - since, ready))
        return child

    def _finish(self, error: P2PError | None, child: Child | None) -> None:
        """There is no process any more, and will be none."""
        self._closed = error or NodeClosed()
        self._over = True
        self.child = None
        self._fail_what_waits(self._closed)
        if child is not None:
            child.channel.fail_all(self._closed)
        self._tell(Closed(error))
        for stream in list(self._streams):
            stream.end()

    def _fail_what_waits(self, error: P2PError) -> None:
        while self._waiting:
            settle(self._waiting.popleft().answer, None, copy(error))

    # --- The end ---

    async def close(self) -> Exit | None:
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        return await asyncio.shield(self._closing)

    async def _close(self) -> Exit | None:
        if self._closed is not None:
            return None
        self._closed = NodeClosed()
        child, self.child = self.child, None
        self._fail_what_waits(self._closed)
        try:
            exit = None if child is None else await child.shut_down(DRAIN, TERMINATE)
            if self._supervising is not None:
                self._supervising.cancel()
                await asyncio.wait({self._supervising})
        except asyncio.CancelledError:
            # The loop itself comes to its end.
            self._kill()
            raise
        self._finish(None, child)
        return exit

    def abandon(self) -> None:
        """Leaves nothing behind. May be called from any thread, also when the loop or the interpreter ends."""
        self._kill()
        try:
            self._loop.call_soon_threadsafe(self._let_go)
        except RuntimeError:
            pass  # the loop is closed, and what it held with it

    def _let_go(self) -> None:
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())

    def _kill(self) -> None:
        for process in list(self._processes):
            process.kill()

    def _count_undecodable(self, lines: int) -> None:
        self.undecodable += lines


def _port(ready: Ready) -> int | None:
    """The TCP port that a node listens on."""
    for addr in ready.addrs:
        parts = addr.split("/")
        if "tcp" in parts:
            return int(parts[parts.index("tcp") + 1])
    return None
