"""One process and the channel to it: what is asked of it, and what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .channel import Channel, Reply, encode
from .decode import Undecodable, decode_event
from .errors import Exit, NotReady, P2PError, SidecarError, SidecarExited, VersionMismatch
from .framer import Framer
from .process import CHUNK, EXIT_GRACE, Process
from .types import PROTOCOL_VERSION, Event, Ready

#: The version of this package, and so of the binary that it expects.
VERSION = "0.1.0"


class Child:
    """A node's process, from its start to its end; another one takes its place after a crash."""

    def __init__(self, process: Process, told: Callable[[Event], None], undecodable: Callable[[int], None]) -> None:
        self.process = process
        self.channel = Channel()
        self.ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._told = told
        self._undecodable = undecodable
        self._writing = asyncio.Lock()
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def connect(self, command: dict[str, Any], timeout: float) -> Ready:
        """Has the node listen, and waits until it is ready and of a version that this package speaks."""
        refused: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def answered(reply: Reply | None, error: P2PError | None) -> None:
            if error is not None and not refused.done():
                refused.set_exception(error)

        exited = asyncio.ensure_future(self.process.finished())
        try:
            await self.send(command, answered, timeout)
            ends: set[asyncio.Future[Any]] = {self.ready, refused, exited}
            await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if self.ready.done():
                return check_version(self.ready.result(), self.process.child.args)
            if refused.done():
                refused.result()
            if exited.done():
                raise SidecarExited(exited.result(), self.process.stderr_tail())
            message = f"the node was not ready within {timeout:g} s"
            raise NotReady("NOT_READY", message, retryable=True, stderr_tail=self.process.stderr_tail())
        finally:
            exited.cancel()
            refused.cancel()

    async def send(self, command: dict[str, Any], waiter: Callable[..., None], timeout: float) -> int:
        """Writes a command, whose answer goes to `waiter`; returns its id. A child that does not read in time is killed."""
        async with self._writing:
            number, line = self.channel.request(command, waiter)
            await self._write(line, timeout)
            return number

    async def _write(self, line: bytes, timeout: float) -> None:
        stdin = self.process.stdin
        stdin.write(line)
        try:
            await asyncio.wait_for(stdin.drain(), timeout)
        except asyncio.TimeoutError:
            message = f"the node did not read for {timeout:g} s, and was killed"
            self.channel.fail_all(SidecarError("WRITE_TIMEOUT", message, retryable=True))
            self.process.kill()
        except (ConnectionError, RuntimeError):
            pass  # it has ended, which whoever waits is about to learn

    async def _read(self) -> None:
        framer = Framer()
        while chunk := await self.process.stdout.read(CHUNK):
            before = framer.too_long
            for line in framer.push(chunk):
                self._line(line)
            self._undecodable(framer.too_long - before)

    def _line(self, line: bytes) -> None:
        try:
            event = decode_event(line)
        except Undecodable:
            self._undecodable(1)
            return
        if isinstance(event, Ready) and not self.ready.done():
            self.ready.set_result(event)
        if event is not None:
            news = self.channel.receive(event)
            if news is not None:
                self._told(news)

    async def ended(self) -> Exit:
        """Waits for the end of the process. One that closes its output without ending is killed, for nothing can come of it."""
        exit = asyncio.ensure_future(self.process.finished())
        await asyncio.wait({exit, self._reader}, return_when=asyncio.FIRST_COMPLETED)
        if not exit.done():
            await asyncio.wait({exit}, timeout=EXIT_GRACE)
            self.process.kill()
        result = await exit
        # What it said last may still be in the pipe; a grandchild may hold that open for ever.
        await asyncio.wait({self._reader}, timeout=EXIT_GRACE)
        self.release()
        return result

    def release(self) -> None:
        """Lets go of everything of a child that has ended."""
        self._reader.cancel()
        self.process.release()

    async def kill(self) -> Exit:
        """Ends the child at once, and everything about it."""
        self.process.kill()
        exit = await asyncio.shield(self.process.exit)
        self.release()
        return exit

    async def shut_down(self, drain: float, terminate: float) -> Exit:
        """Asks the child to finish and end; makes it end if it does not."""
        import signal

        stdin = self.process.stdin
        if not stdin.is_closing():
            # The end of its input says the same to most nodes, but not to one that outlives its parent.
            stdin.write(encode({"type": "shutdown"}))
            stdin.close()
        for number, patience in ((None, drain), (signal.SIGTERM, terminate), (signal.SIGKILL, None)):
            if number is not None:
                self.process.signal(number)
            await asyncio.wait({self.process.exit}, timeout=patience)
            if self.process.exit.done():
                break
        return await self.ended()


def check_version(ready: Ready, args: Any) -> Ready:
    """Raises `VersionMismatch` unless binary and package understand each other."""
    program = args[0] if isinstance(args, list) else args
    parts = 2 if VERSION.startswith("0.") else 1
    same = ready.version.split(".")[:parts] == VERSION.split(".")[:parts]
    if ready.protocol != PROTOCOL_VERSION or not same:
        message = (
            f"{program} is version {ready.version} and speaks protocol {ready.protocol}; "
            f"this package is version {VERSION} and speaks protocol {PROTOCOL_VERSION}"
        )
        raise VersionMismatch("VERSION_MISMATCH", message)
    return ready
