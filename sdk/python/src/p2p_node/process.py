"""The child process: in a session of its own, its stderr always read, waited for by its exit and not by its pipes, always reaped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence

from .errors import Exit, SpawnFailed

#: Bytes of one read, and of stderr that are kept: what a Linux pipe holds.
CHUNK = 64 * 1024
#: What an error quotes of stderr: about twenty lines.
QUOTED = 2048
#: How long pipes are read on after the exit: a grandchild may hold them for ever.
EXIT_GRACE = 1.0


class Process:
    """A running child. `kill` may be called from anywhere, also at the end of the interpreter."""

    def __init__(self, child: subprocess.Popen[bytes], on_stderr: Callable[[bytes], None] | None) -> None:
        self.child = child
        self.exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._on_stderr = on_stderr
        self._stderr = bytearray()
        self._released = False
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
            raise SpawnFailed("SPAWN_FAILED", f"cannot start {program}: {error}") from error
        process = cls(child, on_stderr)
        try:
            await process._open_pipes()
        except BaseException:
            process.kill()
            raise
        return process

    async def _open_pipes(self) -> None:
        loop, child = self._loop, self.child
        self.stdout = asyncio.StreamReader(limit=CHUNK)
        self._stdout_transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self.stdout), child.stdout
        )
        stderr = asyncio.StreamReader(limit=CHUNK)
        self._stderr_transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stderr), child.stderr
        )
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, child.stdin)
        self.stdin = asyncio.StreamWriter(transport, protocol, None, loop)
        self._drained = loop.create_task(self._drain(stderr))

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
        await asyncio.wait([self._drained], timeout=EXIT_GRACE)
        return exit

    def release(self) -> None:
        """Lets go of the pipes of a child that has ended, once."""
        if self._released:
            return
        self._released = True
        self._stdout_transport.close()
        self._stderr_transport.close()
        # What it has not read, nobody will. A transport that is closed already cannot be closed again.
        stdin = self.stdin.transport
        if not stdin.is_closing() or stdin.get_write_buffer_size() > 0:
            stdin.abort()
        self._drained.cancel()

    def signal(self, number: signal.Signals) -> None:
        """Signals the child and its children, unless it has ended."""
        with self._lock:
            # While it is not reaped, and the lock keeps it so, no other process has its number.
            if self.child.returncode is None:
                try:
                    os.killpg(self.child.pid, number)
                except ProcessLookupError:
                    pass

    def kill(self) -> None:
        """Ends the child and its children at once."""
        self.signal(signal.SIGKILL)

    def _reap(self) -> None:
        # Without reaping, so that the lock is not held meanwhile.
        try:
            os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            pass
        with self._lock:
            code = self.child.wait()
        exit = Exit(code=code) if code >= 0 else Exit(signal=-code)
        try:
            self._loop.call_soon_threadsafe(self._ended, exit)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    def _ended(self, exit: Exit) -> None:
        if not self.exit.done():
            self.exit.set_result(exit)
