"""The child process: in a session of its own, its stderr always read, waited for by its exit and not by its pipes, always reaped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from .binary import unusable
from .errors import Exit, InvalidArgument, SpawnFailed
from .types import ErrorCode

#: Bytes of one read, and of stderr that are kept: what a Linux pipe holds.
CHUNK = 64 * 1024
#: What an error quotes of stderr: about twenty lines.
QUOTED = 2048
#: How long pipes are read on after the exit: a grandchild may hold them for ever.
EXIT_GRACE = 1.0
#: A child is stuck after so many of its longest pauses (`ready.limits.maxPauseMs`) without a byte read or written. Ours: several
#: times longer than any pause that the node promises to end.
STALL_TICKS = 5
#: How often a child is looked after where the system cannot say when it ends (macOS before Python 3.13).
POLL = 0.05


class Stdin(asyncio.BaseProtocol):
    """The pipe to the child: whether there is room in it, and whether the child still moves."""

    def __init__(self) -> None:
        #: Whether a line can be written now without being kept here.
        self.open = False
        self.on_room: Callable[[], None] = lambda: None
        self.on_stuck: Callable[[], None] = lambda: None
        #: How much the child has said. A child that writes is not stuck, whatever it leaves unread.
        self.said: Callable[[], int] = lambda: 0
        self._pause: float | None = None
        self._ticks = 0
        self._unread = 0
        self._heard = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, pause: float) -> None:
        """From now on a child is stuck that neither reads nor writes for `STALL_TICKS` times its longest `pause`."""
        self._pause = pause
        if not self.open and self._timer is None and not self._transport.is_closing():
            self._begin()

    def write(self, line: bytes) -> None:
        """Writes a line; to a child that has ended, none."""
        if not self._transport.is_closing():
            self._transport.write(line)

    def close(self) -> None:
        """Tells the child that nothing more comes, once it has read what was written."""
        self.open = False
        self._transport.close()

    def abort(self) -> None:
        """Closes the pipe, whatever is still in it."""
        self._rest()
        # A transport that is closed already cannot be closed again.
        if not self._transport.is_closing() or self._transport.get_write_buffer_size() > 0:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        # The pipe itself is the buffer: whatever does not fit waits with its caller.
        self._transport.set_write_buffer_limits(high=0)
        self.open = True

    def pause_writing(self) -> None:
        self.open = False
        if self._pause is not None:
            self._begin()

    def resume_writing(self) -> None:
        self._rest()
        self.open = not self._transport.is_closing()
        self.on_room()

    def connection_lost(self, error: Exception | None) -> None:
        self._rest()
        self.open = False

    def _begin(self) -> None:
        self._ticks, self._unread, self._heard = 0, self._transport.get_write_buffer_size(), self.said()
        self._look_later()

    def _look_later(self) -> None:
        assert self._pause is not None, "it is watched"
        self._timer = asyncio.get_running_loop().call_later(self._pause, self._look)

    def _look(self) -> None:
        # A program that blocks the event loop delays a tick, and the child gets the other ticks all the same.
        unread, heard = self._transport.get_write_buffer_size(), self.said()
        moved = unread < self._unread or heard != self._heard
        self._ticks = 0 if moved else self._ticks + 1
        self._unread, self._heard = unread, heard
        if self._ticks < STALL_TICKS:
            self._look_later()
        else:
            self._timer = None
            self.on_stuck()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Process:
    """A running child. `kill` may be called from anywhere, also at the end of the interpreter."""

    def __init__(
        self,
        program: str,
        cwd: str | os.PathLike[str] | None,
        child: subprocess.Popen[bytes],
        on_stderr: Callable[[bytes], None] | None,
    ) -> None:
        self.program = program
        self.cwd = cwd
        self.child = child
        self.stdin = Stdin()
        self.exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._parent = os.getpid()
        # Collecting garbage kills what is garbage, also while this thread holds the lock.
        self._lock = threading.RLock()
        self._on_stderr = on_stderr
        self._stderr = bytearray()
        self._transports: list[asyncio.ReadTransport] = []
        self._drained: asyncio.Task[None] | None = None
        self._reaper = threading.Thread(target=self._reap, name="p2p-node reaper", daemon=True)
        self._reaper.start()

    @classmethod
    async def spawn(
        cls,
        program: str,
        args: Sequence[str],
        env: Mapping[str, str],
        cwd: str | os.PathLike[str] | None,
        on_stderr: Callable[[bytes], None] | None,
    ) -> Process:
        """Starts the child. Its session is its own, so that Ctrl-C at a terminal reaches this process alone."""
        try:
            child = subprocess.Popen(
                [program, *args],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            if cwd is not None and not os.path.isdir(cwd):
                raise InvalidArgument("cwd", f"{os.fspath(cwd)} is no directory") from error
            raise unusable(program, cwd, error) or SpawnFailed(ErrorCode.SPAWN_FAILED, f"cannot start {program}: {error}") from error
        except ValueError as error:
            raise SpawnFailed(ErrorCode.SPAWN_FAILED, f"cannot start {program}: {error}") from error
        process = cls(program, cwd, child, on_stderr)
        # Opened to the end also when this is cancelled: uvloop closes the file of a pipe whose opening is cancelled, which the pipe
        # would close again.
        opening = process._loop.create_task(process._open_pipes())
        try:
            await asyncio.shield(opening)
        except BaseException:
            process.kill()
            opening.add_done_callback(process._release_after)
            raise
        return process

    async def _open_pipes(self) -> None:
        self.stdout = await self._reader(self.child.stdout)
        stderr = await self._reader(self.child.stderr)
        await self._loop.connect_write_pipe(lambda: self.stdin, self.child.stdin)
        self._drained = self._loop.create_task(self._drain(stderr))

    async def _reader(self, pipe: Any) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(limit=CHUNK)
        transport, _ = await self._loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        self._transports.append(transport)
        return reader

    async def _drain(self, stderr: asyncio.StreamReader) -> None:
        """Reads stderr to its end, whoever looks at it: a child whose stderr is full would stop."""
        while chunk := await stderr.read(CHUNK):
            self._stderr += chunk
            del self._stderr[:-CHUNK]
            if self._on_stderr is not None:
                try:
                    self._on_stderr(chunk)
                except Exception as error:  # a hook that fails must not stop the reading
                    self._loop.call_exception_handler({"message": "on_stderr failed", "exception": error})

    def stderr_tail(self, most: int = QUOTED) -> str:
        """The end of what the child wrote to stderr."""
        return self._stderr[-most:].decode("utf-8", "replace")

    async def finished(self) -> Exit:
        """Waits for the exit, and a moment for the last of stderr."""
        exit = await asyncio.shield(self.exit)
        if self._drained is not None:
            await asyncio.wait([self._drained], timeout=EXIT_GRACE)
        return exit

    def _release_after(self, opening: asyncio.Task[None]) -> None:
        if not opening.cancelled():
            opening.exception()
        self.release()

    def release(self) -> None:
        """Lets go of the pipes of a child that has ended, or was opened only in part."""
        for transport in self._transports:
            transport.close()
        if self._drained is not None:
            self._drained.cancel()
            self.stdin.abort()
        else:
            # Where opening broke off, pipes may have no transport yet that would close them.
            for pipe in (self.child.stdin, self.child.stdout, self.child.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def signal(self, number: signal.Signals) -> None:
        """Signals the child and its children, unless it has ended."""
        if os.getpid() != self._parent:
            return  # a fork of the parent, whose child it is not
        with self._lock:
            # While it is not reaped, and the lock keeps it so, no other process has its number.
            if self.child.returncode is None:
                try:
                    os.killpg(self.child.pid, number)
                except (ProcessLookupError, PermissionError):
                    pass  # it has ended and is not reaped yet; macOS forbids what Linux allows here

    def kill(self) -> None:
        """Ends the child and its children at once."""
        self.signal(signal.SIGKILL)

    def _reap(self) -> None:
        # Without reaping, so that the lock is not held meanwhile.
        if hasattr(os, "waitid"):
            try:
                os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:
                pass
        else:
            while self._runs():
                time.sleep(POLL)
        with self._lock:
            code = self.child.wait()
        exit = Exit(code=code) if code >= 0 else Exit(signal=-code)
        try:
            self._loop.call_soon_threadsafe(self._ended, exit)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    def _runs(self) -> bool:
        with self._lock:
            return self.child.poll() is None

    def _ended(self, exit: Exit) -> None:
        if not self.exit.done():
            self.exit.set_result(exit)
