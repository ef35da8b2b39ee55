"""Tests against a fake child that misbehaves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import unittest

import p2p_node
from p2p_node import locate

from .common import CHILD, IMPATIENT, PATIENCE, QUICK, ROOT, TestCase, is_alive, misbehaving, open_files, until


class Misbehaving(TestCase):
    async def test_calls_to_good_child_return_answers(self) -> None:
        async with misbehaving("good") as node:
            self.assertEqual(node.address, "0xA")
            messages = node.messages()
            mail = await node.send("0xB", {"a": 1})
            self.assertEqual((await mail.delivered()).attempts, 1)
            self.assertEqual((await mail.delivered()).attempts, 1, "`delivered` may be called twice")
            self.assertEqual((await anext(messages)).data, {"text": "hé"})
            self.assertEqual((await node.publish("t", 1)).peers, 3)
            found = await node.discover()
            self.assertEqual(([peer.address for peer in found], found.complete), (["0xB"], False))
            await node.subscribe("t")
            await node.ping()
            late = await node.send("0xB", 1, priority="low")
            with self.assertRaises(p2p_node.Undelivered) as expired:
                await late.delivered()
            self.assertEqual((expired.exception.code, expired.exception.retryable), ("EXPIRED", True))
            with self.assertRaises(p2p_node.CommandRefused) as refused:
                await node.send("nobody", 1)
            self.assertEqual((refused.exception.code, refused.exception.retryable), ("PEER_NOT_FOUND", True))
            with self.assertRaises(p2p_node.LineTooLong):
                await node.publish("t", "x" * (1 << 20))
            pid = node.pid
        assert pid is not None
        self.assertFalse(is_alive(pid))

    async def test_binary_of_other_version_or_protocol_error_names_it(self) -> None:
        for mode in ("version", "old"):
            with self.assertRaises(p2p_node.VersionMismatch) as mismatch:
                await misbehaving(mode)
            self.assertIn(CHILD, str(mismatch.exception))
            self.assertIn("0.1.0", str(mismatch.exception))

    async def test_child_without_ready_raises_not_ready(self) -> None:
        with self.assertRaises(p2p_node.NotReady) as silent:
            await misbehaving("silent", ready_timeout=0.1)
        self.assertEqual((silent.exception.code, silent.exception.retryable), ("NOT_READY", True))

    async def test_child_that_exits_early_error_quotes_stderr(self) -> None:
        with self.assertRaises(p2p_node.SidecarExited) as early:
            await misbehaving("early")
        self.assertEqual(early.exception.exit, p2p_node.Exit(code=64))
        self.assertIn("--nonsense is unknown", str(early.exception))

    async def test_undecodable_and_long_lines_are_counted_and_skipped(self) -> None:
        for mode, undecodable in (("garbage", 3), ("huge", 1), ("split", 0)):
            async with misbehaving(mode) as node:
                await node.ping()
                self.assertGreaterEqual(node.undecodable, undecodable)
                if mode == "split":
                    self.assertEqual(node.ready.name, "né")

    async def test_stderr_flood_and_failing_hook_do_not_stop_the_node(self) -> None:
        seen = bytearray()

        def hook(chunk: bytes) -> None:
            seen.extend(chunk)
            raise ValueError("a bad hook")

        async with misbehaving("stderr", on_stderr=hook) as node:
            await node.ping()
            await until("the hook gets all of stderr", lambda: seen.endswith(b"the last words\n"))
        self.assertGreater(len(seen), 1_000_000)
        self.assertTrue(self.unseen and all("on_stderr" in context["message"] for context in self.unseen))
        self.unseen.clear()

    async def test_crash_fails_calls_in_progress_and_restarts_the_node(self) -> None:
        async with misbehaving("crash") as node:
            events = node.events()
            await node.subscribe("t")
            first = node.pid
            ping, mail = await asyncio.gather(node.send("0xB", 1), node.send("0xB", 2), return_exceptions=True)
            for error in (ping, mail):
                assert isinstance(error, p2p_node.SidecarRestarted), error
                self.assertFalse(error.retryable, "the SDK wrote the first send, and maybe the second")
            self.assertIn("a defect", str(ping))
            await node.ping()
            self.assertNotEqual(node.pid, first)
            seen = [await anext(events), await anext(events)]
            while not isinstance(seen[-1], p2p_node.Restarted):
                seen.append(await anext(events))
            restarting = next(event for event in seen if isinstance(event, p2p_node.Restarting))
            self.assertEqual((restarting.exit, restarting.attempt), (p2p_node.Exit(code=70), 1))

    async def test_three_crashes_emit_unhealthy_and_restart_none_closes_the_node(self) -> None:
        async with misbehaving("crash") as node:
            events = node.events()
            for _ in range(3):
                with self.assertRaises(p2p_node.SidecarRestarted):
                    await node.send("0xB", 1)
            while not isinstance(await anext(events), p2p_node.Unhealthy):
                pass
        async with misbehaving("crash", restart=None) as node:
            events = node.events()
            with self.assertRaises(p2p_node.SidecarExited):
                await node.send("0xB", 1)
            with self.assertRaises(p2p_node.SidecarExited):
                await node.ping()
            last = [event async for event in events][-1]
            assert isinstance(last, p2p_node.Closed) and isinstance(last.error, p2p_node.SidecarExited)

    async def test_line_incomplete_at_exit_is_no_event(self) -> None:
        async with misbehaving("partial") as node:
            events = node.events()
            while not isinstance(event := await anext(events), p2p_node.Restarted):
                self.assertNotIsInstance(event, p2p_node.Message)

    async def test_pipe_held_by_grandchild_does_not_delay_the_restart(self) -> None:
        async with misbehaving("holder") as node:
            with self.assertRaises(p2p_node.SidecarRestarted):
                await asyncio.wait_for(node.send("0xB", 1), 10)
            await node.ping()

    async def test_child_that_never_reads_raises_not_ready(self) -> None:
        with self.assertRaises(p2p_node.SidecarError) as stuck:
            await misbehaving("stuck", ready_timeout=0.1)
        self.assertEqual(stuck.exception.code, "NOT_READY")

    async def test_child_that_stops_reading_is_killed_and_replaced(self) -> None:
        async with misbehaving("good", env=IMPATIENT) as node:
            events = node.events()
            assert node.pid is not None
            os.kill(node.pid, signal.SIGSTOP)
            with self.assertRaises(p2p_node.SidecarError) as stopped:
                await node.publish("t", "x" * (1 << 19))
            self.assertEqual((stopped.exception.code, stopped.exception.retryable), ("WRITE_TIMEOUT", False))
            while not isinstance(await asyncio.wait_for(anext(events), PATIENCE), p2p_node.Restarted):
                pass
            await node.ping()

    async def test_abandoned_calls_leave_no_request_outstanding(self) -> None:
        async with misbehaving("good") as node:
            for patience in (0, 0.0001, 0.001) * 20:
                try:
                    await asyncio.wait_for(node.ping(), patience)
                except asyncio.TimeoutError:
                    pass
            tasks = [asyncio.ensure_future(node.send("0xB", number)) for number in range(50)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with self.assertRaises(p2p_node.CallTimeout):
                await node.discover(capability="never", timeout=0.05)
            await node.ping()
            child = node._supervised.child
            assert child is not None
            await until("every call is answered", lambda: child.channel.outstanding == 0)

    async def test_two_thousand_concurrent_calls_are_answered(self) -> None:
        async with misbehaving("good") as node:
            await asyncio.gather(*(node.ping() for _ in range(2000)))

    async def test_close_sends_shutdown_then_sigterm_then_sigkill(self) -> None:
        node = await misbehaving("good")
        for _ in range(2):
            self.assertEqual((await node.close(), node.exit), ([], p2p_node.Exit(code=0)))
        with self.assertRaises(p2p_node.NodeClosed):
            await node.ping()
        node = await misbehaving("deaf", close_timeouts=(0.05, 0.05))
        pid = node.pid
        assert pid is not None
        closing = asyncio.ensure_future(node.close())
        await asyncio.sleep(0)
        closing.cancel()
        self.assertEqual(await node.close(), [])
        self.assertEqual(node.exit, p2p_node.Exit(signal=signal.SIGKILL), "the cancelled shutdown continues")
        self.assertFalse(is_alive(pid))

    async def test_close_timeouts_apply_to_shutdown_and_sigterm(self) -> None:
        node = await misbehaving("stopping", close_timeouts=(0.05, PATIENCE))
        self.assertEqual((await node.close(), node.exit), ([], p2p_node.Exit(code=4)), "exits on SIGTERM")
        node = await misbehaving("good", close_timeouts=(PATIENCE, 0))
        self.assertEqual((await node.close(), node.exit), ([], p2p_node.Exit(code=0)), "exits on shutdown")

    async def test_close_during_restart_pause_fails_waiting_calls(self) -> None:
        slow = p2p_node.Restart(first=1000, max=1000)
        node = await misbehaving("crash", restart=slow)
        with self.assertRaises(p2p_node.SidecarRestarted):
            await node.send("0xB", 1)
        with self.assertRaises(p2p_node.SidecarUnavailable):
            await node.ping(timeout=0.01)
        waiting = asyncio.ensure_future(node.ping())
        await asyncio.sleep(0)
        self.assertEqual(await node.close(), [])
        with self.assertRaises(p2p_node.NodeClosed):
            await waiting

    async def test_closed_and_failed_nodes_leave_no_open_files(self) -> None:
        async with misbehaving("good"):
            pass
        # Some event loops close a file one iteration later.
        await asyncio.sleep(0)
        before = open_files()
        for _ in range(5):
            async with misbehaving("good") as node:
                await node.ping()
            with self.assertRaises(p2p_node.SidecarExited):
                await misbehaving("early")
        await until("all files are closed", lambda: open_files() == before)

    def test_program_that_exits_without_close_leaves_no_process(self) -> None:
        script = f"""
            import asyncio, sys
            from tests.common import misbehaving
            async def main():
                node = await misbehaving("deaf")
                print(node.pid, flush=True)
            asyncio.run(main())
        """
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            cwd=ROOT / "sdk/python",
            env={**os.environ, "PYTHONPATH": str(ROOT / "sdk/python/src")},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        pid = int(run.stdout)
        asyncio.run(until("the process exits", lambda: not is_alive(pid)))


class Locating(TestCase):
    async def test_binary_search_uses_option_then_variable_then_package_then_path(self) -> None:
        self.assertEqual(locate.find_binary("/a"), "/a")
        before = os.environ.pop(locate.VARIABLE, None)
        path = os.environ["PATH"]
        try:
            os.environ[locate.VARIABLE] = "/b"
            self.assertEqual(locate.find_binary(), "/b")
            os.environ[locate.VARIABLE] = ""
            os.environ["PATH"] = self.home
            with self.assertRaises(p2p_node.BinaryNotFound) as missing:
                locate.find_binary(search_path=True)
            for word in ("P2P_NODE_BIN", "PATH", "binary="):
                self.assertIn(word, str(missing.exception))
            program = os.path.join(self.home, locate.NAME)
            with open(program, "w") as file:
                file.write("#!/bin/sh\n")
            os.chmod(program, 0o755)
            self.assertEqual(locate.find_binary(search_path=True), program)
            self.assertRaises(p2p_node.BinaryNotFound, locate.find_binary)
        finally:
            os.environ["PATH"] = path
            os.environ.pop(locate.VARIABLE, None)
            if before is not None:
                os.environ[locate.VARIABLE] = before

    async def test_missing_binary_error_names_the_path(self) -> None:
        with self.assertRaises(p2p_node.BinaryUnusable) as failed:
            await p2p_node.open(binary="/nowhere/p2p-node", restart=QUICK)
        self.assertEqual((failed.exception.path, failed.exception.reason), ("/nowhere/p2p-node", "missing"))


if __name__ == "__main__":
    unittest.main()
