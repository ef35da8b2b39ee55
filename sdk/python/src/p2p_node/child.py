"""One process and the channel to it: what is asked of it, and what it says."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from .arguments import encode
from .binary import unusable_after
from .channel import Channel, Reply, Waiter
from .decode import Undecodable, decode_event
from .errors import CommandRefused, Exit, NotReady, P2PError, SidecarError, StartFailed, VersionMismatch
from .framer import Framer
from .process import CHUNK, EXIT_GRACE, Process
from .types import PROTOCOL_VERSION, ErrorCode, ErrorEvent, Event, Ready

#: The version of this package, and so of the binary that it expects.
VERSION = "0.1.0"
#: Seconds before the end of a process within which an error counts as its reason: a node takes up to 5 to finish.
REPORT_AGE = 7.0


class Child:
    """A node's process, from its start to its end; another one takes its place after a crash."""

    def __init__(
        self,
        process: Process,
        on_event: Callable[[Event], None],
        on_undecodable: Callable[[int], None],
    ) -> None:
        self.process = process
        self.channel = Channel()
        self.ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._last_error: ErrorEvent | None = None
        self._last_error_at = 0.0
        self._chunks = 0
        self._on_event = on_event
        self._on_undecodable = on_undecodable
        process.stdin.on_stuck = self._stuck
        process.stdin.said = lambda: self._chunks
        self._reader = asyncio.get_running_loop().create_task(self._read())

    @property
    def has_room(self) -> bool:
        """Whether a line can be written now without waiting here for the pipe."""
        return self.channel.closed is None and self.process.stdin.open and not self.process.exit.done()

    def ask(self, command: bytes, waiter: Waiter) -> int:
        """Writes a command, whose answer goes to `waiter`; returns its id. Never waits: look at `has_room` before."""
        number, line = self.channel.request(command, waiter)
        self.process.stdin.write(line)
        return number

    async def answer(self, command: Mapping[str, Any], timeout: float) -> Reply:
        """Asks at once and waits for the answer, or for the end of the process."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.ask(encode(command), lambda reply, error: resolve(answer, reply, error))
        await self._first(answer, timeout=timeout)
        if answer.done():
            return answer.result()
        raise NotReady(ErrorCode.NOT_READY, f"the node did not answer `{command['type']}` within {timeout:g} s", retryable=True)

    async def connect(self, command: Mapping[str, Any], timeout: float) -> Ready:
        """Has the node listen, and waits until it is ready and of a version that this package speaks."""
        refused: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def answered(reply: Reply | None, error: P2PError | None) -> None:
            if error is not None:
                resolve(refused, None, error)

        self.ask(encode(command), answered)
        await self._first(self.ready, refused, timeout=timeout)
        program = self.process.program
        if self.ready.done():
            return check_version(self.ready.result(), program)
        if refused.done():
            # It may be about to end, with an exit code that says whether to try again.
            await asyncio.wait({self.process.exit}, timeout=EXIT_GRACE)
            error = refused.exception()
            if isinstance(error, CommandRefused) and error.code == ErrorCode.UNSUPPORTED_PROTOCOL:
                raise mismatch(program, f"refuses protocol {PROTOCOL_VERSION} ({error.message})")
            refused.result()
        message = f"the node was not ready within {timeout:g} s"
        raise NotReady(ErrorCode.NOT_READY, message, retryable=True, stderr_tail=self.process.stderr_tail())

    async def _first(self, *awaited: asyncio.Future[Any], timeout: float) -> None:
        """Returns when one of these is done or the time is over. Raises when the process has ended, and none is done."""
        for future in awaited:
            future.add_done_callback(mark_retrieved)
        exited = asyncio.ensure_future(self.process.finished())
        try:
            await asyncio.wait({*awaited, exited}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                # What it said last may still be in the pipe.
                await asyncio.wait({*awaited, self._reader}, timeout=EXIT_GRACE, return_when=asyncio.FIRST_COMPLETED)
                if not any(future.done() for future in awaited):
                    raise self._early_end(exited.result())
        finally:
            exited.cancel()

    def report(self, exit: Exit) -> ErrorEvent | None:
        """The error that the process told last, if it can be why it ended: it ended by itself, and soon after."""
        recent = time.monotonic() - self._last_error_at < REPORT_AGE
        return self._last_error if exit.code and recent else None

    def _early_end(self, exit: Exit) -> SidecarError:
        """The error for a process that ended before it was ready."""
        process, tail, report = self.process, self.process.stderr_tail(), self.report(exit)
        fault = None if report is not None else unusable_after(process.program, process.cwd, exit, tail)
        return fault or StartFailed(exit, tail, report)

    def _stuck(self) -> None:
        message = "the node neither read nor wrote for a long time, and was killed"
        self.channel.fail_all(SidecarError(ErrorCode.WRITE_TIMEOUT, message, retryable=True))
        self.process.kill()

    async def _read(self) -> None:
        framer = Framer()
        while chunk := await self.process.stdout.read(CHUNK):
            self._chunks += 1
            before = framer.too_long
            for line in framer.push(chunk):
                self._line(line)
            self._on_undecodable(framer.too_long - before)

    def _line(self, line: bytes) -> None:
        try:
            event = decode_event(line)
        except Undecodable:
            self._on_undecodable(1)
            return
        if isinstance(event, Ready) and not self.ready.done():
            self.ready.set_result(event)
            self.process.stdin.watch(event.limits.max_pause_ms / 1000)
        if event is not None:
            news = self.channel.receive(event)
            if isinstance(news, ErrorEvent) and news.id is None:
                self._last_error, self._last_error_at = news, time.monotonic()
            if news is not None:
                self._on_event(news)

    async def ended(self) -> Exit:
        """Waits for the end of the process. One that closes its output without ending is killed, for nothing can come of it."""
        exit = asyncio.ensure_future(self.process.finished())
        try:
            await asyncio.wait({exit, self._reader}, return_when=asyncio.FIRST_COMPLETED)
            if not exit.done():
                await asyncio.wait({exit}, timeout=EXIT_GRACE)
                self.process.kill()
            result = await exit
        finally:
            exit.cancel()
        # What it said last may still be in the pipe; a grandchild may hold that open for ever.
        await asyncio.wait({self._reader}, timeout=EXIT_GRACE)
        self.release()
        return result

    def release(self) -> None:
        """Lets go of everything of a child that has ended."""
        self._reader.cancel()
        self.process.release()

    async def kill(self) -> Exit:
        """Ends the child at once, and everything about it, also when this is cancelled."""
        self.process.kill()
        self.release()
        return await asyncio.shield(self.process.exit)

    async def close(self, drain: float, terminate: float) -> Exit:
        """Asks the child to finish and end; makes it end if it does not."""
        # The end of its input says the same to most nodes, but not to one that outlives its parent.
        self.process.stdin.write(encode({"type": "shutdown"}) + b"\n")
        self.process.stdin.close()
        for number, patience in ((None, drain), (signal.SIGTERM, terminate), (signal.SIGKILL, None)):
            if number is not None:
                self.process.signal(number)
            await asyncio.wait({self.process.exit}, timeout=patience)
            if self.process.exit.done():
                break
        return await self.ended()


def check_version(ready: Ready, program: str) -> Ready:
    """Raises `VersionMismatch` unless binary and package understand each other."""
    parts = 2 if VERSION.startswith("0.") else 1
    same = ready.version.split(".")[:parts] == VERSION.split(".")[:parts]
    if ready.protocol != PROTOCOL_VERSION or not same:
        raise mismatch(program, f"is version {ready.version} and speaks protocol {ready.protocol}")
    return ready


def mismatch(program: str, what: str) -> VersionMismatch:
    ours = f"this package is version {VERSION} and speaks protocol {PROTOCOL_VERSION}"
    return VersionMismatch(ErrorCode.VERSION_MISMATCH, f"{program} {what}; {ours}")


def resolve(future: asyncio.Future[Any] | None, value: Any, error: P2PError | None) -> None:
    """Sets the result or the error of a future that is not done."""
    if future is None or future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)


def mark_retrieved(future: asyncio.Future[Any]) -> None:
    """Marks the error of a future as retrieved, so that asyncio does not log it."""
    if not future.cancelled():
        future.exception()
