"""Supervises the process of one node, restarts it after a crash, and executes calls.

Holds no reference to the `Node`, so that the garbage collector can collect a dropped node."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import Mapping
from copy import copy
from typing import Any

from .arguments import encode, seconds
from .calls import Call, after_writing, cost
from .channel import OnResponse, Reply, Waiter
from .child import Child, mark_retrieved, resolve
from .errors import (
    CallTimeout,
    CommandRefused,
    Exit,
    Forked,
    IdentityChanged,
    NodeClosed,
    P2PError,
    SidecarError,
    SidecarExited,
    SidecarRestarted,
    SidecarUnavailable,
    StartFailed,
    VersionMismatch,
    describe_end,
)
from .events import Closed, NodeEvents, Restarted, Restarting, Unhealthy
from .flow import CommandQueue
from .handlers import Handlers
from .locate import find_binary
from .mailbox import Mailbox
from .options import Options
from .process import Process
from .supervisor import Supervisor
from .types import MAX_TRACKED_MESSAGES, PROTOCOL_VERSION, Delivery, ErrorCode, ErrorEvent, Event, Message, Ready
from .desired_state import DesiredState

#: Seconds until the SDK repeats a retryable `ack`. The node retries its disk at the same interval.
ACK_RETRY = 1.0


class SupervisedNode:
    """The processes of one node, and the calls to them."""

    def __init__(self, options: Options) -> None:
        self.options = options
        #: The number of lines of the node that the SDK could not decode.
        self.undecodable = 0
        #: How the last process ended.
        self.exit: Exit | None = None
        self.ready: Ready | None = None
        self.child: Child | None = None
        self._pid = os.getpid()
        self.mailbox = Mailbox(options.mail_buffer)
        acks = options.ack == "auto"
        self.events = NodeEvents(self.mailbox, options.event_buffer, options.broadcast_buffer, acks, self._write_soon)
        self.handlers = Handlers(lambda command: self.ask(command, None))
        self._loop = asyncio.get_running_loop()
        self._key = "0x" + secrets.token_hex(32)
        self._supervisor = Supervisor(options.restart)
        self._queue: CommandQueue[Call] = CommandQueue()
        self._is_writing_soon = False
        self._ack_pause: asyncio.TimerHandle | None = None
        self._closed: P2PError | None = None
        self._closing: asyncio.Task[list[Message]] | None = None
        self._supervising: asyncio.Task[None] | None = None
        self._desired = DesiredState()
        self._processes: set[Process] = set()

    def check_process(self) -> None:
        """Raises `Forked` in a fork of the process that opened the node. Both processes share the
        pipes of the child, and only one may use them."""
        if self.is_forked:
            raise Forked()

    @property
    def is_forked(self) -> bool:
        """Returns `True` in a fork of the process that opened the node."""
        return os.getpid() != self._pid

    # --- Asking ---

    async def ask(
        self,
        command: Mapping[str, Any],
        timeout: float | None,
        outcome: asyncio.Future[Delivery] | None = None,
        on_response: OnResponse | None = None,
    ) -> Reply:
        """Queues a command and waits for its answer, at most `timeout` seconds; `None` means
        `call_timeout`. `outcome` gets the delivery of a message, `on_response` each answer to a request."""
        patience = self.options.call_timeout if timeout is None else seconds("timeout", timeout)
        self.check_process()
        if self._closed is not None:
            raise copy(self._closed)
        body = encode(command)
        call = Call(command, body, self._loop.create_future(), cost(command, body), outcome, on_response)
        call.answer.add_done_callback(mark_retrieved)
        self._queue.put(call, call.send)
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
        raise CallTimeout(f"`{command.get('type')}`", patience, retryable=call.may_be_repeated)

    def write(self, command: Mapping[str, Any]) -> None:
        """Writes a command at once, whose answer nobody waits for."""
        if self.child is not None and self.child.has_room:
            self.child.ask(encode(command), lambda reply, error: None)

    def _write_soon(self) -> None:
        """Schedules a write, so that all mail finished in one iteration of the event loop goes into
        one `ack`."""
        if not self._is_writing_soon:
            self._is_writing_soon = True
            self._loop.call_soon(self._write_what_waits)

    def _write_what_waits(self) -> None:
        """Writes an `ack` first, because it frees room in the node; then other commands; then
        `send`s within the node's credit."""
        self._is_writing_soon = False
        child = self.child
        if child is None or self.is_forked:
            return
        if child.has_room and self.mailbox.has_acks and self._ack_pause is None:
            self._acknowledge(child, self.mailbox.next_batch())
        while child.has_room and (call := self._queue.pop(child.channel.outstanding)) is not None:
            try:
                call.number = child.ask(call.body, self._waiter(call, child), call.on_response)
            except P2PError as error:
                self._release(call)
                resolve(call.answer, None, error)
            else:
                call.child = child

    def _acknowledge(self, child: Child, message_ids: list[str]) -> None:
        def answered(reply: Reply | None, error: P2PError | None) -> None:
            if child is not self.child or child.channel.closed is not None:
                return  # `process_ended` remembers the unconfirmed messages
            if error is None:
                self.mailbox.confirmed()
            elif self.mailbox.refused(error):
                self._ack_pause = self._loop.call_later(ACK_RETRY, self._end_ack_pause)
            self._write_what_waits()

        child.ask(encode({"type": "ack", "messageIds": message_ids}), answered)

    def _end_ack_pause(self) -> None:
        self._ack_pause = None
        self._write_what_waits()

    def _release(self, call: Call) -> None:
        """Releases the credit of a call."""
        if call.send is not None:
            self._queue.answered(call.send)

    def _waiter(self, call: Call, child: Child) -> Waiter:
        def delivered(delivery: Delivery | None, error: P2PError | None) -> None:
            resolve(call.outcome, delivery, after_writing(call, error))

        def answered(reply: Reply | None, error: P2PError | None) -> None:
            self._release(call)
            if reply is not None:
                # Records the command even if its caller no longer waits.
                self._desired.record(call.command)
                accepted = reply.answer.message_id if reply.answer.delivery == "accepted" else None
                # Must run before the next line, because that may be the delivery. An abandoned call
                # has no `SentMessage`, so its delivery arrives as an event.
                if call.outcome is not None and accepted is not None and not call.abandoned:
                    if not child.channel.track(accepted, delivered):
                        message = f"the SDK already tracks {MAX_TRACKED_MESSAGES} messages; an event reports the delivery of this one"
                        resolve(call.outcome, None, P2PError(ErrorCode.TOO_MANY, message))
            resolve(call.answer, reply, after_writing(call, error))
            self._write_what_waits()

        return answered

    def _abandon(self, call: Call) -> None:
        call.abandoned = True
        if call.child is None:
            self._queue.remove(call, call.send)
        elif call.command.get("type") in ("discover", "request") and call.child.channel.closed is None:
            call.child.ask(encode({"type": "cancel", "target": call.number}), lambda reply, error: None)

    # --- The process ---

    async def open(self) -> None:
        """Starts the first process. The SDK does not retry if the process fails before it is
        ready."""
        self._program = find_binary(self.options.binary, search_path=self.options.search_path)
        child, self.ready = await self._start(self.options.port)
        self._on_ready(child)
        self._supervising = self._loop.create_task(self._supervise(child))

    async def _start(self, port: int | None) -> tuple[Child, Ready]:
        """Starts a process and waits until it is ready. If that fails, kills the process before it
        raises the error."""
        options = self.options
        environment = options.environment(self._key)
        process = await Process.spawn(
            self._program, options.process_arguments(), environment, options.cwd, options.on_stderr
        )
        self._processes.add(process)
        process.exit.add_done_callback(lambda exit: self._processes.discard(process))
        child = Child(process, self._on_event, self._count_undecodable)
        connect: dict[str, Any] = {"type": "connect", "protocol": PROTOCOL_VERSION, "maxUnacked": options.mail_buffer}
        connect["bootstrapPeers"] = list(options.bootstrap_peers)
        if not options.inbox:
            connect["inbox"] = False
        if options.group is not None:
            connect["group"] = options.group
        if port is not None:
            connect["port"] = port
        try:
            return child, await child.connect(connect, options.ready_timeout)
        except CommandRefused as error:
            report = ErrorEvent(code=error.code, message=error.message, retryable=error.retryable, details=error.details)
            # The exit code says better than the rejection if a restart can help.
            raise StartFailed(await child.kill(), process.stderr_tail(), report) from error
        except BaseException:
            await child.kill()
            raise

    def _on_event(self, event: Event) -> None:
        if not self.handlers.on_event(event):
            self.events.tell(event)

    def _on_ready(self, child: Child) -> None:
        self._supervisor.ready(time.monotonic())
        self.child = child
        assert self.ready is not None, "the caller has set `ready`"
        self._queue.set_limits(self.ready.limits)
        child.process.stdin.on_room = self._write_what_waits
        self._write_what_waits()

    async def _supervise(self, child: Child) -> None:
        try:
            await self._restart_on_exit(child)
        except asyncio.CancelledError:
            # The program exits without `close`.
            self._kill()
            raise
        except Exception as error:  # after a bug in this package, callers must not wait forever
            self._kill()
            message = f"the supervisor of the SDK failed, please report this bug: {error!r}"
            defect = SidecarError(ErrorCode.INTERNAL, message)
            defect.__cause__ = error
            self._finish(defect, child)

    async def _restart_on_exit(self, child: Child) -> None:
        """Restarts the process after each exit, until a restart cannot help or the program closes
        the node."""
        while True:
            end = await child.ended()
            if self._closing is not None:
                return
            since, tail, old = time.monotonic(), child.process.stderr_tail(), child
            exit: Exit | None = end
            self.exit = end
            error: P2PError = SidecarExited(end, tail, child.report(end))
            reason, self.child = describe_end(end, child.report(end)), None
            while self.child is None:
                again = self._supervisor.ended(exit, time.monotonic(), random.random())
                if again is None:
                    return self._finish(error, old)
                old.channel.fail_all(SidecarRestarted(reason, tail))
                self.mailbox.process_ended()
                self.handlers.process_ended()
                self.events.tell(Restarting(reason, exit, again.delay, again.attempt))
                if again.unhealthy and self.options.restart is not None:
                    self.events.tell(Unhealthy(self.options.restart.crashes))
                await asyncio.sleep(again.delay)
                try:
                    child = await self._replace(again.attempt, since)
                except (VersionMismatch, IdentityChanged) as last:
                    return self._finish(last, old)
                except SidecarExited as last:
                    error, exit, reason = last, last.exit, str(last)
                except P2PError as last:
                    error, exit, reason = last, None, str(last)

    async def _replace(self, attempt: int, since: float) -> Child:
        """Starts a replacement process and restores the desired state in it."""
        before = self.ready
        assert before is not None, "`open` has started a first process"
        child, ready = await self._start(_port(before) or self.options.port)
        try:
            if ready.address != before.address:
                change = f"the node was {before.address} and is now {ready.address}"
                advice = "set private_key, so that every process has the same address"
                raise IdentityChanged(ErrorCode.IDENTITY_CHANGED, f"{change}: {advice}")
            for command in self._desired.replay():
                try:
                    await child.answer(command, self.options.call_timeout)
                except CommandRefused as error:
                    # No caller waits for this answer, so the SDK reports the error as an event.
                    message = f"the restarted node rejected {command}: {error.message}"
                    self.events.tell(ErrorEvent(code=error.code, message=message, retryable=error.retryable))
        except BaseException:
            await child.kill()
            raise
        self.ready = ready
        self._on_ready(child)
        self.events.tell(Restarted(attempt, time.monotonic() - since, ready))
        return child

    def _finish(self, error: P2PError | None, child: Child | None) -> None:
        """Ends the node for good: fails all calls and ends the streams. `None`: `close` ran."""
        self._closed = error or NodeClosed()
        self.child = None
        self._fail_what_waits(self._closed)
        self.handlers.process_ended()
        if child is not None:
            child.channel.fail_all(self._closed)
        if self._ack_pause is not None:
            self._ack_pause.cancel()
        self.events.tell(Closed(error))
        self.events.end()

    def _fail_what_waits(self, error: P2PError) -> None:
        for call in self._queue.drain():
            resolve(call.answer, None, copy(error))

    # --- The end ---

    async def close(self) -> list[Message]:
        self.check_process()
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        return list(await asyncio.shield(self._closing))

    async def _close(self) -> list[Message]:
        self.mailbox.close()
        if self._closed is not None:
            return self.mailbox.take_rest()
        self._closed = NodeClosed()
        child, self.child = self.child, None
        self._fail_what_waits(self._closed)
        try:
            if child is not None:
                if child.channel.closed is None:
                    for batch in self.mailbox.last_batches():
                        self._acknowledge(child, batch)
                self.exit = await child.close(*self.options.close_timeouts)
            if self._supervising is not None:
                self._supervising.cancel()
                await asyncio.wait({self._supervising})
        except asyncio.CancelledError:
            # The event loop itself ends.
            self._kill()
            raise
        self._finish(None, child)
        return self.mailbox.take_rest()

    def abandon(self) -> None:
        """Kills the process and closes the node. May be called from any thread, and while the event
        loop or the interpreter ends. Does nothing in a fork."""
        if self.is_forked:
            return  # the fork shares the wake-up pipe of the loop with its parent
        self._kill()
        try:
            self._loop.call_soon_threadsafe(self._release_all)
        except RuntimeError:
            pass  # the loop is closed, and its resources are released

    def _release_all(self) -> None:
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())

    def _kill(self) -> None:
        for process in list(self._processes):
            process.kill()

    def _count_undecodable(self, lines: int) -> None:
        self.undecodable += lines


def _port(ready: Ready) -> int | None:
    """Returns the TCP port on which the node listens."""
    for addr in ready.addrs:
        parts = addr.split("/")
        if "tcp" in parts:
            return int(parts[parts.index("tcp") + 1])
    return None
