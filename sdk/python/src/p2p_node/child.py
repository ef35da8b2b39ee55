"""One process of the node, with its channel: writes commands and dispatches events."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from .arguments import encode
from .binary import unusable_after
from .channel import Channel, OnResponse, Reply, Waiter
from .decode import Undecodable, decode_event
from .errors import CommandRefused, Exit, NotReady, P2PError, SidecarError, StartFailed, VersionMismatch
from .framer import Framer
from .process import CHUNK, EXIT_GRACE, Process
from .types import PROTOCOL_VERSION, ErrorCode, ErrorEvent, Event, Ready

#: The version of this package and of the binary that it supports.
VERSION = "0.1.0"
#: An error counts as the reason for an exit if it came at most this many seconds before the exit.
#: A node takes up to 5 s to shut down.
REPORT_AGE = 7.0


class Child:
    """One process of a node, from its start to its exit. After a crash another one replaces it."""

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
        """Returns `True` if the pipe accepts a line now, so that the SDK need not buffer it."""
        return self.channel.closed is None and self.process.stdin.open and not self.process.exit.done()

    def ask(self, command: bytes, waiter: Waiter, on_response: OnResponse | None = None) -> int:
        """Writes a command; its answer goes to `waiter`. Returns the id of the command.

        Does not wait: check `has_room` first."""
        number, line = self.channel.request(command, waiter, on_response)
        self.process.stdin.write(line)
        return number

    async def answer(self, command: Mapping[str, Any], timeout: float) -> Reply:
        """Writes a command at once and waits for its answer, at most `timeout` seconds.

        Raises `NotReady` after the timeout, and `SidecarError` if the process exits first."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.ask(encode(command), lambda reply, error: resolve(answer, reply, error))
        await self._first(answer, timeout=timeout)
        if answer.done():
            return answer.result()
        message = f"the restarted node did not answer `{command['type']}` within {timeout:g} s"
        raise NotReady(ErrorCode.NOT_READY, message, retryable=True)

    async def connect(self, command: Mapping[str, Any], timeout: float) -> Ready:
        """Sends `connect` and waits until the node is ready, at most `timeout` seconds.

        Raises `NotReady` after the timeout, `VersionMismatch`, `CommandRefused` if the node rejects
        the command, and `StartFailed` or `BinaryUnusable` if the process exits first."""
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
            # The process may exit now. Its exit code says if a restart can help.
            await asyncio.wait({self.process.exit}, timeout=EXIT_GRACE)
            error = refused.exception()
            if isinstance(error, CommandRefused) and error.code == ErrorCode.UNSUPPORTED_PROTOCOL:
                raise mismatch(program, f"rejects protocol {PROTOCOL_VERSION} ({error.message})")
            refused.result()
        message = f"the node was not ready within {timeout:g} s: raise ready_timeout if it is slow"
        raise NotReady(ErrorCode.NOT_READY, message, retryable=True, stderr_tail=self.process.stderr_tail())

    async def _first(self, *awaited: asyncio.Future[Any], timeout: float) -> None:
        """Returns when a future is done or after `timeout` seconds. Raises if the process exits
        first."""
        for future in awaited:
            future.add_done_callback(mark_retrieved)
        exited = asyncio.ensure_future(self.process.finished())
        try:
            await asyncio.wait({*awaited, exited}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                # The pipe may still hold the last lines of the process.
                await asyncio.wait({*awaited, self._reader}, timeout=EXIT_GRACE, return_when=asyncio.FIRST_COMPLETED)
                if not any(future.done() for future in awaited):
                    raise self._early_end(exited.result())
        finally:
            exited.cancel()

    def report(self, exit: Exit) -> ErrorEvent | None:
        """Returns the last error of the process if it may be the reason for the exit: the process
        ended with a non-zero code at most `REPORT_AGE` seconds after the error."""
        recent = time.monotonic() - self._last_error_at < REPORT_AGE
        return self._last_error if exit.code and recent else None

    def _early_end(self, exit: Exit) -> SidecarError:
        """Returns the error for a process that exited before it was ready."""
        process, tail, report = self.process, self.process.stderr_tail(), self.report(exit)
        fault = None if report is not None else unusable_after(process.program, process.cwd, exit, tail)
        return fault or StartFailed(exit, tail, report)

    def _stuck(self) -> None:
        message = "the node neither read nor wrote for too long, so the SDK killed it"
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
        """Waits for the exit of the process. Kills a process that closes its stdout but does not
        exit, because the SDK can no longer hear from it."""
        exit = asyncio.ensure_future(self.process.finished())
        try:
            await asyncio.wait({exit, self._reader}, return_when=asyncio.FIRST_COMPLETED)
            if not exit.done():
                await asyncio.wait({exit}, timeout=EXIT_GRACE)
                self.process.kill()
            result = await exit
        finally:
            exit.cancel()
        # The pipe may still hold the last lines. The wait is bounded, because a grandchild may keep
        # the pipe open forever.
        await asyncio.wait({self._reader}, timeout=EXIT_GRACE)
        self.release()
        return result

    def release(self) -> None:
        """Releases the reader and the pipes of a child that has exited."""
        self._reader.cancel()
        self.process.release()

    async def kill(self) -> Exit:
        """Kills the child, releases its resources and waits for the exit. A cancellation only ends
        the wait."""
        self.process.kill()
        self.release()
        return await asyncio.shield(self.process.exit)

    async def close(self, drain: float, terminate: float) -> Exit:
        """Sends `shutdown` and waits for the exit: `drain` seconds until SIGTERM, then `terminate`
        seconds until SIGKILL."""
        # The end of stdin also stops a node, but not one with `--on-eof stay`.
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
    """Returns `ready`. Raises `VersionMismatch` unless protocol and version match this package:
    before 1.0 the minor versions must be equal, from 1.0 on the major versions."""
    parts = 2 if VERSION.startswith("0.") else 1
    same = ready.version.split(".")[:parts] == VERSION.split(".")[:parts]
    if ready.protocol != PROTOCOL_VERSION or not same:
        raise mismatch(program, f"is version {ready.version} and speaks protocol {ready.protocol}")
    return ready


def mismatch(program: str, what: str) -> VersionMismatch:
    ours = f"this package is version {VERSION} and speaks protocol {PROTOCOL_VERSION}"
    advice = "install package and binary of the same version"
    return VersionMismatch(ErrorCode.VERSION_MISMATCH, f"{program} {what}; {ours}: {advice}")


def resolve(future: asyncio.Future[Any] | None, value: Any, error: P2PError | None) -> None:
    """Sets the result or the error of a future, unless it is done already."""
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
