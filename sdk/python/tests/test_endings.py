"""The end of a node or of its program leaves no process and no open pipe."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import unittest
from pathlib import Path

import p2p_node

from .common import PATIENCE, ROOT, TestCase, binary, is_alive, misbehaving, open_files, until


class Dropping(TestCase):
    async def test_node_without_references_is_killed(self) -> None:
        # Some event loops open internal files for the first pipe.
        async with misbehaving("good"):
            pass
        before = open_files()
        for mode in ("good", "deaf"):
            node = await misbehaving(mode)
            await node.ping()
            pid = node.pid
            assert pid is not None
            del node
            gc.collect()
            await until("the process exits", lambda: not is_alive(pid))
        await until("all files are closed", lambda: open_files() == before)

    async def test_node_referenced_by_stream_or_message_stays_alive(self) -> None:
        node = await misbehaving("good")
        await node.ping()
        pid = node.pid
        assert pid is not None
        mail = await node.send("0xB", 1, kind="never")
        messages = node.messages()
        await node.send("0xB", 1)
        del node
        gc.collect()
        self.assertEqual((await asyncio.wait_for(anext(messages), PATIENCE)).sender, "0xB")
        messages.close()
        gc.collect()
        self.assertTrue(is_alive(pid))
        del mail
        gc.collect()
        await until("the process exits", lambda: not is_alive(pid))

    async def test_node_dropped_during_restart_pause_is_not_restarted(self) -> None:
        node = await misbehaving("crash", restart=p2p_node.Restart(first=1000, max=1000))
        with self.assertRaises(p2p_node.SidecarRestarted):
            await node.send("0xB", 1)
        others = asyncio.all_tasks()
        del node
        gc.collect()
        await until("its tasks end", lambda: asyncio.all_tasks() <= {asyncio.current_task()} | (others - asyncio.all_tasks()))

    async def test_streams_without_references_are_collected(self) -> None:
        async with misbehaving("good") as node:
            for _ in range(100):
                messages = node.messages()
                await node.send("0xB", 1)
                async for _message in messages:
                    break
                del messages
            gc.collect()
            self.assertEqual(len(node._supervised.events._streams), 1, "one stream buffers events before the first `events()`")


class Opening(TestCase):
    async def test_open_cancelled_at_any_point_leaves_no_files_or_threads(self) -> None:
        async with misbehaving("good"):
            pass
        before = open_files()
        for turns in range(60):
            task = asyncio.ensure_future(misbehaving("good" if turns % 2 else "silent").__aenter__())
            for _ in range(turns // 2):
                await asyncio.sleep(0)
            # Cancels repeatedly, so that the cleanup is cancelled too.
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0)
            for result in await asyncio.gather(task, return_exceptions=True):
                # `open` may have finished before the cancellation.
                if isinstance(result, p2p_node.Node):
                    await result.close()
                else:
                    self.assertIsInstance(result, asyncio.CancelledError)
        await until("all files are closed", lambda: open_files() == before)
        await until("all processes are reaped", lambda: not any("reaper" in thread.name for thread in threading.enumerate()))

    async def test_system_without_waitid_restarts_and_closes_the_node(self) -> None:
        waitid = os.waitid
        del os.waitid
        try:
            async with misbehaving("crash") as node:
                with self.assertRaises(p2p_node.SidecarRestarted):
                    await node.send("0xB", 1)
                await node.ping()
            self.assertEqual((len(await node.close()), node.exit), (0, p2p_node.Exit(code=0)))
        finally:
            os.waitid = waitid


class Closing(TestCase):
    async def test_close_while_next_process_starts_kills_it_and_fails_calls(self) -> None:
        node = await misbehaving("crash")
        node._supervised.options.args = ["silent"]
        with self.assertRaises(p2p_node.SidecarRestarted):
            await node.send("0xB", 1)
        processes = node._supervised._processes
        await until("the next process runs", lambda: bool(processes))
        pids = [process.child.pid for process in processes]
        waiting = [asyncio.ensure_future(node.ping()) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.gather(*(node.close() for _ in range(3)))
        self.assertFalse(any(is_alive(pid) for pid in pids))
        for error in await asyncio.gather(*waiting, return_exceptions=True):
            self.assertIsInstance(error, p2p_node.NodeClosed)

    async def test_calls_in_progress_at_close_are_answered_or_fail(self) -> None:
        node = await misbehaving("good")
        asked = [asyncio.ensure_future(node.ping()) for _ in range(10)]
        never = await node.send("0xB", 1, kind="never")
        self.assertEqual((len(await node.close()), node.exit), (0, p2p_node.Exit(code=0)))
        await asyncio.gather(*asked)
        for _ in range(2):
            with self.assertRaises(p2p_node.NodeClosed):
                await never.delivered()
        self.assertEqual([event async for event in node.events() if isinstance(event, p2p_node.Closed)], [p2p_node.Closed(None)])

    async def test_close_after_final_exit_returns_no_mail(self) -> None:
        node = await misbehaving("good")
        assert node.pid is not None
        os.kill(node.pid, signal.SIGKILL)
        node._supervised.options.args = ["early"]
        events = node.events()
        last = [event async for event in events][-1]
        assert isinstance(last, p2p_node.Closed) and isinstance(last.error, p2p_node.SidecarExited)
        self.assertIn("--nonsense", str(last.error))
        self.assertEqual(await node.close(), [])


class Programs(TestCase):
    def start(self, script: str) -> subprocess.Popen[str]:
        # A background job may ignore SIGINT; this restores the default.
        heed = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        program = subprocess.Popen(
            [sys.executable, "-c", heed + textwrap.dedent(script)],
            cwd=self.home,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join((str(ROOT / "sdk/python/src"), str(ROOT / "sdk/python"))),
                "P2P_NODE_BIN": binary(),
                "P2P_NODE_LOCK_SCOPE": self.home,
                "P2P_NODE_RENDEZVOUS": "off",
                "P2P_NODE_NETWORK": "dev",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(program.communicate)
        self.addCleanup(program.kill)
        return program

    def line(self, program: subprocess.Popen[str]) -> str:
        assert program.stdout is not None
        line = program.stdout.readline()
        if not line:
            self.fail(program.stderr.read() if program.stderr else "")
        return line.strip()

    async def test_node_of_killed_program_exits(self) -> None:
        program = self.start(
            """
            import asyncio, p2p_node
            async def main():
                async with p2p_node.open() as node:
                    print(node.pid, flush=True)
                    await asyncio.Event().wait()
            asyncio.run(main())
            """
        )
        pid = int(self.line(program))
        program.kill()
        await until("the process exits", lambda: not is_alive(pid))

    async def test_program_interrupted_by_sigint_closes_its_node(self) -> None:
        program = self.start(
            """
            import asyncio, p2p_node
            async def main():
                node = await p2p_node.open()
                try:
                    print(node.pid, flush=True)
                    await asyncio.Event().wait()
                finally:
                    await node.close()
                    print(node.exit, flush=True)
            try:
                asyncio.run(main())
            except KeyboardInterrupt:
                pass
            """
        )
        pid = int(self.line(program))
        program.send_signal(signal.SIGINT)
        self.assertEqual(self.line(program), "exit code 0")
        self.assertEqual((program.wait(PATIENCE), is_alive(pid)), (0, False))

    @unittest.skipIf(os.environ.get("P2P_NODE_TEST_LOOP") == "uvloop", "the exit of a fork breaks uvloop's loop in the parent")
    async def test_fork_that_exits_leaves_the_node_running(self) -> None:
        program = self.start(
            """
            import asyncio, os, p2p_node
            from tests.common import misbehaving
            async def main():
                async with misbehaving("good") as node:
                    pid = node.pid
                    if os.fork() == 0:
                        raise SystemExit
                    os.wait()
                    await node.ping()
                    print(node.pid == pid, flush=True)
            asyncio.run(main())
            """
        )
        self.assertEqual(self.line(program), "True")

    async def test_readme_agent_example_runs(self) -> None:
        readme = (ROOT / "sdk/python/README.md").read_text()
        agent = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[1]
        program = self.start(agent.replace("import asyncio", "import asyncio, functools\nprint = functools.partial(print, flush=True)", 1))
        self.assertRegex(self.line(program), "^I am 0x[0-9a-fA-F]{40}$")
        program.send_signal(signal.SIGINT)
        program.wait(PATIENCE)
        self.assertTrue(Path(self.home, "alice").is_dir(), "the data directory of the example exists")

