"""Calls that wait for credit, for the pipe or for a process, and the state of the next process."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import pickle
import random
import signal
import time

import p2p_node
from p2p_node.types import MAX_INFLIGHT, RESERVED_COMMANDS

from .common import IMPATIENT, PATIENCE, QUICK, TestCase, logging, misbehaving, open_files, until


class Waiting(TestCase):
    async def test_short_timeout_behind_long_write_expires_in_time(self) -> None:
        async with misbehaving("good") as node:
            assert node.pid is not None
            os.kill(node.pid, signal.SIGSTOP)
            stuck = asyncio.ensure_future(node.publish("t", "x" * (1 << 19)))
            await asyncio.sleep(0)
            before = time.monotonic()
            with self.assertRaises(p2p_node.CallTimeout):
                await node.ping(timeout=0.05)
            self.assertLess(time.monotonic() - before, 5)
            os.kill(node.pid, signal.SIGCONT)
            self.assertEqual((await stuck).peers, 3)

    async def test_stopped_child_is_killed_even_if_every_call_times_out_first(self) -> None:
        async with misbehaving("good", env=IMPATIENT) as node:
            events, first = node.events(), node.pid
            assert first is not None
            os.kill(first, signal.SIGSTOP)
            for _ in range(10):
                with self.assertRaises((p2p_node.P2PError, asyncio.TimeoutError)):
                    await asyncio.wait_for(node.publish("t", "x" * (1 << 17)), 0.01)
                child = node._supervised.child
                # Lines that do not fit into the pipe stay in the queue; the SDK buffers at most one.
                if child is not None:
                    self.assertLess(child.process.stdin._transport.get_write_buffer_size(), 1 << 18)
            while not isinstance(await asyncio.wait_for(anext(events), PATIENCE), p2p_node.Restarted):
                pass
            self.assertNotEqual(node.pid, first)

    async def test_child_that_reads_slowly_is_not_killed(self) -> None:
        async with misbehaving("good", env=IMPATIENT) as node:
            pid = node.pid
            assert pid is not None

            async def in_steps() -> None:
                while not call.done():
                    os.kill(pid, signal.SIGSTOP)
                    await asyncio.sleep(0.01)
                    os.kill(pid, signal.SIGCONT)
                    await asyncio.sleep(0.01)

            call = asyncio.ensure_future(node.publish("t", "x" * 900_000))
            await in_steps()
            self.assertEqual((await call).peers, 3)
            self.assertEqual(node.pid, pid)

    async def test_sends_unwritten_at_crash_go_to_the_next_process(self) -> None:
        async with misbehaving("crash") as node:
            await node.ping()  # after this `connect` is answered and uses no credit
            sends = [asyncio.ensure_future(node.send("0xB", number)) for number in range(MAX_INFLIGHT)]
            await asyncio.sleep(0)
            child = node._supervised.child
            assert child is not None
            self.assertEqual(child.channel.outstanding, (MAX_INFLIGHT - RESERVED_COMMANDS) // 2, "one recipient gets half of the credit")
            pings = [asyncio.ensure_future(node.ping()) for _ in range(100)]
            await asyncio.gather(*pings)
            for error in await asyncio.gather(*sends, return_exceptions=True):
                self.assertIsInstance(error, p2p_node.SidecarRestarted)

    async def test_cancellation_of_a_call_always_takes_effect(self) -> None:
        async with misbehaving("good") as node:
            for turns in range(40):
                task = asyncio.ensure_future(node.ping())
                for _ in range(turns):
                    await asyncio.sleep(0)
                if task.cancel():
                    with self.assertRaises(asyncio.CancelledError):
                        await task

    async def test_delivery_of_abandoned_send_arrives_as_event(self) -> None:
        async with misbehaving("good") as node:
            events = node.events()
            task = asyncio.ensure_future(node.send("0xB", 1))
            await asyncio.sleep(0)
            task.cancel()
            while not isinstance(event := await asyncio.wait_for(anext(events), PATIENCE), p2p_node.Delivery):
                pass
            self.assertEqual(event.state, "delivered")

    async def test_restarted_process_gets_desired_state_first(self) -> None:
        opening, written = logging(self.home, "crash")
        async with opening as node:
            gave_up = asyncio.ensure_future(node.subscribe("a"))
            await asyncio.sleep(0)
            gave_up.cancel()
            await node.subscribe("b")
            await node.request({"type": "subscribe", "topic": "c"})
            await node.unsubscribe("b")
            await node.block("0xC")
            await node.allow("0xD")
            await node.block("0xD")
            await node.block("0xE")
            await node.unblock("0xe")
            send, ping = asyncio.ensure_future(node.send("0xB", 1)), None
            while not isinstance(event := await anext(node.events()), p2p_node.Restarting):
                del event
            ping = asyncio.ensure_future(node.ping())
            await ping
            with self.assertRaises(p2p_node.SidecarRestarted):
                await send
        lines = written()
        second = [index for index, line in enumerate(lines) if line["type"] == "connect"][1]
        told = [(line["type"], line.get("topic") or line.get("peerId")) for line in lines[second + 1 :]]
        expected = [("block", "0xC"), ("block", "0xD"), ("subscribe", "a"), ("subscribe", "c"), ("ping", None)]
        self.assertEqual(told, [*expected, ("shutdown", None)])
        self.assertEqual(lines[second]["port"], 4001, "the port of the first `ready`")

    async def test_failed_start_counts_as_a_crash(self) -> None:
        async with misbehaving("crash", ready_timeout=0.2) as node:
            events = node.events()
            options = node._supervised.options
            options.args, options.env = ["silent"], {}
            with self.assertRaises(p2p_node.SidecarRestarted):
                await node.send("0xB", 1)
            reasons: list[tuple[str, p2p_node.Exit | None, int]] = []
            while len(reasons) < 2:
                event = await asyncio.wait_for(anext(events), PATIENCE)
                if isinstance(event, p2p_node.Restarting):
                    reasons.append((event.reason, event.exit, event.attempt))
            self.assertEqual(reasons[0], ("the node ended with exit code 70", p2p_node.Exit(code=70), 1))
            self.assertIn("not ready within 0.2 s", reasons[1][0])
            self.assertEqual(reasons[1][1:], (None, 2))
            options.args = ["good"]
            await node.ping()

    async def test_other_version_or_final_exit_after_restart_closes_the_node(self) -> None:
        for args, error in (["version"], p2p_node.VersionMismatch), (["early"], p2p_node.SidecarExited):
            async with misbehaving("crash") as node:
                node._supervised.options.args = args
                with self.assertRaises(p2p_node.SidecarRestarted):
                    await node.send("0xB", 1)
                with self.assertRaises(error):
                    await node.ping()
                last = [event async for event in node.events()][-1]
                assert isinstance(last, p2p_node.Closed)
                self.assertIsInstance(last.error, error)

    async def test_random_cancels_and_kills_leave_no_calls_or_files(self) -> None:
        chance = random.Random(7)
        # Some event loops open internal files for the first pipe.
        async with misbehaving("good"):
            pass
        before = open_files()
        async with misbehaving("good", restart=p2p_node.Restart(first=0.001, max=0.002)) as node:

            async def caller(number: int) -> None:
                for round in range(20):
                    calls = (
                        lambda: node.ping(),
                        lambda: node.send("0xB", "x" * chance.choice((1, 70_000))),
                        lambda: node.discover(),
                        lambda: node.subscribe(f"t{number}"),
                    )
                    task = asyncio.ensure_future(chance.choice(calls)())
                    for _ in range(chance.randrange(12)):
                        await asyncio.sleep(0)
                    if chance.random() < 0.5:
                        task.cancel()
                    elif chance.random() < 0.1 and node.pid is not None:
                        with contextlib.suppress(ProcessLookupError):  # the SDK may not know yet that the process has exited
                            os.kill(node.pid, signal.SIGKILL)
                    await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), PATIENCE)

            await asyncio.gather(*(caller(number) for number in range(10)))
            await node.ping()
            child = node._supervised.child
            assert child is not None
            await until("every call is answered", lambda: child.channel.outstanding == 0)
            self.assertEqual(len(node._supervised._queue), 0)
        await until("all files are closed", lambda: open_files() == before)


class Shapes(TestCase):
    async def test_errors_survive_copy_and_pickle(self) -> None:
        delivery = p2p_node.Delivery(attempts=2, message_id="m", state="expired", code="EXPIRED")
        errors = (
            p2p_node.SidecarExited(p2p_node.Exit(code=70), "words"),
            p2p_node.Undelivered(delivery, retryable=True),
            p2p_node.BinaryNotFound(["here"]),
            p2p_node.LineTooLong(2, 1),
        )
        for error in errors:
            for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
                self.assertEqual((type(other), str(other), other.__dict__), (type(error), str(error), error.__dict__))

    async def test_open_with_unknown_option_raises_type_error(self) -> None:
        # If `open` were untyped, mypy would report this `type: ignore` as unused.
        self.assertRaises(TypeError, lambda: p2p_node.open(nonsense=1))  # type: ignore[call-arg]
        self.assertNotIn("secret", repr(p2p_node.Options(private_key="secret", env={"PRIVATE_KEY": "secret"}, restart=QUICK)))

    async def test_publish_of_non_ascii_text_near_the_line_limit_succeeds(self) -> None:
        async with misbehaving("good") as node:
            self.assertEqual((await node.publish("t", "é" * 500_000)).peers, 3)
