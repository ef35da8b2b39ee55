"""The child process: runs in its own session. The SDK always drains its stderr, detects its end by
the exit and not by the pipes, and always reaps it."""

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

#: Maximum size of one read, and of the retained stderr, in bytes: the capacity of a Linux pipe.
CHUNK = 64 * 1024
#: Bytes of stderr that an error quotes: about twenty lines.
QUOTED = 2048
#: Seconds for which the SDK reads the pipes after the exit. A grandchild may keep them open.
EXIT_GRACE = 1.0
#: A child is stuck if it neither reads nor writes for this many times its longest pause
#: (`ready.limits.maxPauseMs`). The factor leaves a wide margin for a slow machine.
STALL_TICKS = 5
#: Poll interval in seconds where `os.waitid` is missing (macOS before Python 3.13).
POLL = 0.05


class Stdin(asyncio.BaseProtocol):
    """The pipe to the child. Tracks if the pipe has room, and if the child makes progress."""

    def __init__(self) -> None:
        #: `True` if the pipe accepts a line now, so that the SDK need not buffer it.
        self.open = False
        self.on_room: Callable[[], None] = lambda: None
        self.on_stuck: Callable[[], None] = lambda: None
        #: Returns a counter of the child's output. A child that writes is not stuck.
        self.said: Callable[[], int] = lambda: 0
        self._pause: float | None = None
        self._ticks = 0
        self._unread = 0
        self._heard = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, pause: float) -> None:
        """Starts to watch the child: if it neither reads nor writes for `STALL_TICKS` times its
        longest `pause` in seconds while a line waits, the SDK calls `on_stuck`."""
        self._pause = pause
        if not self.open and self._timer is None and not self._transport.is_closing():
            self._begin()

    def write(self, line: bytes) -> None:
        """Writes a line, unless the pipe is closed."""
        if not self._transport.is_closing():
            self._transport.write(line)

    def close(self) -> None:
        """Closes the pipe after the child has read the written lines."""
        self.open = False
        self._transport.close()

    def abort(self) -> None:
        """Closes the pipe at once and discards unwritten bytes."""
        self._rest()
        # A closed transport must not be aborted again.
        if not self._transport.is_closing() or self._transport.get_write_buffer_size() > 0:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        # The pipe is the only buffer: lines that do not fit wait in the queue of the caller.
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
        assert self._pause is not None, "`watch` has set the pause"
        self._timer = asyncio.get_running_loop().call_later(self._pause, self._look)

    def _look(self) -> None:
        # A program that blocks the event loop delays one tick; the child still gets the others.
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
    """A running child. `kill` may be called from any thread, and while the interpreter exits."""

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
        # Reentrant: the garbage collector may call `kill` while this thread holds the lock.
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
        """Starts the child in its own session, so that Ctrl-C in a terminal does not reach it.

        Raises `InvalidArgument` for a bad `cwd`, `BinaryUnusable` and `SpawnFailed`."""
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
                raise InvalidArgument("cwd", f"{os.fspath(cwd)} is not a directory") from error
            raise unusable(program, cwd, error) or SpawnFailed(ErrorCode.SPAWN_FAILED, f"cannot start {program}: {error}") from error
        except ValueError as error:
            raise SpawnFailed(ErrorCode.SPAWN_FAILED, f"cannot start {program}: {error}") from error
        process = cls(program, cwd, child, on_stderr)
        # A cancellation does not stop this task. Otherwise uvloop closes the file of a pipe whose
        # opening is cancelled, and the pipe closes it a second time.
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
        """Reads stderr to its end. Without this, a child with a full stderr pipe blocks."""
        while chunk := await stderr.read(CHUNK):
            self._stderr += chunk
            del self._stderr[:-CHUNK]
            if self._on_stderr is not None:
                try:
                    self._on_stderr(chunk)
                except Exception as error:  # a failing hook must not stop the loop
                    self._loop.call_exception_handler({"message": "on_stderr failed", "exception": error})

    def stderr_tail(self, most: int = QUOTED) -> str:
        """Returns the last `most` bytes of the child's stderr as text."""
        return self._stderr[-most:].decode("utf-8", "replace")

    async def finished(self) -> Exit:
        """Waits for the exit, and then at most `EXIT_GRACE` seconds for the end of stderr."""
        exit = await asyncio.shield(self.exit)
        if self._drained is not None:
            await asyncio.wait([self._drained], timeout=EXIT_GRACE)
        return exit

    def _release_after(self, opening: asyncio.Task[None]) -> None:
        if not opening.cancelled():
            opening.exception()
        self.release()

    def release(self) -> None:
        """Closes the pipes of a child that has exited or whose opening failed."""
        for transport in self._transports:
            transport.close()
        if self._drained is not None:
            self._drained.cancel()
            self.stdin.abort()
        else:
            # If the opening failed, some pipes have no transport that closes them.
            for pipe in (self.child.stdin, self.child.stdout, self.child.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the child and its process group, unless the child has exited. Does
        nothing in a fork."""
        if os.getpid() != self._parent:
            return  # this process is a fork, and the child is not its child
        with self._lock:
            # The lock prevents reaping, and the system does not reuse an unreaped process id.
            if self.child.returncode is None:
                try:
                    os.killpg(self.child.pid, number)
                except (ProcessLookupError, PermissionError):
                    pass  # the child has exited but is not reaped yet; macOS reports EPERM then

    def kill(self) -> None:
        """Kills the child and its process group."""
        self.signal(signal.SIGKILL)

    def _reap(self) -> None:
        # Waits without reaping, so that the thread does not hold the lock meanwhile.
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
            pass  # the loop is closed, so no task waits for the exit

    def _runs(self) -> bool:
        with self._lock:
            return self.child.poll() is None

    def _ended(self, exit: Exit) -> None:
        if not self.exit.done():
            self.exit.set_result(exit)
