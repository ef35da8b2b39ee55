"""Mail and acks, against the fake child."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any
from unittest import mock

import p2p_node
from p2p_node import supervised_node
from p2p_node.types import MAX_ACK_MESSAGES

from .common import IMPATIENT, PATIENCE, TestCase, is_alive, logging, misbehaving, until


def acked(lines: list[dict[str, Any]]) -> list[str]:
    return [name for line in lines if line["type"] == "ack" for name in line["messageIds"]]


class Acks(TestCase):
    async def test_thousand_messages_read_one_per_iteration_are_acked_in_few_lines(self) -> None:
        opening, written = logging(self.home, "burst")
        async with opening as node:
            taken = []
            async for message in node.messages():
                taken.append(message.message_id)
                await asyncio.sleep(0)
                if len(taken) == 1000:
                    await node.ack(message)
                    break
        self.assertEqual(taken, [f"m{number}" for number in range(1, 1001)])
        lines = [line for line in written() if line["type"] == "ack"]
        self.assertEqual(sorted(acked(lines)), sorted(taken), "each message once")
        self.assertLess(len(lines), 100)
        self.assertLessEqual(max(len(line["messageIds"]) for line in lines), MAX_ACK_MESSAGES)

    async def test_mail_read_in_one_iteration_is_acked_in_one_line(self) -> None:
        opening, written = logging(self.home, "burst")
        async with opening as node:
            await node.ping()
            messages = node.messages()
            for _ in range(500):
                await anext(messages)
            await until("the ack", lambda: len(acked(written())) == 499)
            self.assertEqual(len([line for line in written() if line["type"] == "ack"]), 1)

    async def test_connect_passes_mail_buffer_and_manual_ack(self) -> None:
        opening, written = logging(self.home, "good", mail_buffer=7)
        async with opening as node:
            self.assertIn("manual", p2p_node.Options().command_line())
            await node.ping()
        self.assertEqual(written()[0]["maxUnacked"], 7)
        self.assertEqual(p2p_node.Options().mail_buffer, 1024)

    async def test_mail_of_loop_left_in_the_middle_is_not_acked_and_starts_the_next_loop(self) -> None:
        opening, written = logging(self.home, "burst")
        async with opening as node:
            messages, seen = node.messages(), []
            with self.assertRaises(ValueError):
                async for message in messages:
                    seen.append(message.message_id)
                    if len(seen) == 3:
                        raise ValueError
            async for message in messages:
                seen.append(message.message_id)
                break
            async for message in node.messages():
                seen.append(message.message_id)
                if len(seen) > 5:
                    await node.ack(message)
                    break
            async for message in node.messages():
                seen.append(message.message_id)
                break
            self.assertEqual(seen, ["m1", "m2", "m3", "m3", "m3", "m4", "m5"])
        self.assertEqual(sorted(acked(written())), ["m1", "m2", "m3", "m4"])

    async def test_tasks_that_share_a_stream_get_each_message_once_and_ack_it_when_done(self) -> None:
        opening, written = logging(self.home, "burst")
        async with opening as node:
            messages, seen = node.messages(), list[str]()

            async def work(stuck: bool) -> None:
                async for message in messages:
                    seen.append(message.message_id)
                    await (asyncio.Event().wait() if stuck else asyncio.sleep(0))

            workers = [asyncio.ensure_future(work(number == 0)) for number in range(5)]
            await until("the tasks have read all mail", lambda: len(seen) == 1000)
            await until("all but one message are acknowledged", lambda: len(acked(written())) == 999)
            self.assertEqual((len(set(seen)), set(seen) - set(acked(written()))), (1000, {"m1"}))
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)
        self.assertNotIn("m1", acked(written()))

    async def test_manual_ack_writes_only_the_acks_of_the_program(self) -> None:
        opening, written = logging(self.home, "burst", ack="manual")
        async with opening as node:
            messages = node.messages()
            taken = [await anext(messages) for _ in range(10)]
            await node.ack(taken[7])
            await node.ack(*taken[:3])
            await node.ack()
        self.assertEqual([line["messageIds"] for line in written() if line["type"] == "ack"], [["m8"], ["m1", "m2", "m3"]])

    async def test_rejected_ack_does_not_stop_later_acks(self) -> None:
        for mode, lines, not_found in (("gone", 2, 2), ("full", 2, 0), ("busy", 3, 0)):
            with self.subTest(mode), mock.patch.object(supervised_node, "ACK_RETRY", 0.05):
                opening, written = logging(self.home, mode)
                async with opening as node:
                    messages = node.messages()
                    for number in range(2):
                        await node.send("0xB", number)
                        await anext(messages)
                        if number == 1:
                            await until("the first ack", lambda: len(acked(written())) >= (2 if mode == "busy" else 1))
                    messages.close()
                    await until("all acks", lambda: len([one for one in written() if one["type"] == "ack"]) == lines)
                    await node.ping()
                    self.assertEqual(node.acks_not_found, not_found)
                    if mode == "gone":
                        with self.assertRaises(p2p_node.CommandRefused) as gone:
                            await node.ack(await anext(await self.with_mail(node)))
                        self.assertEqual(gone.exception.code, "MESSAGE_NOT_FOUND")

    async def with_mail(self, node: p2p_node.Node) -> p2p_node.MessageStream:
        await node.send("0xB", 1)
        return node.messages()

    async def test_mail_finished_during_restart_is_acked_on_redelivery_and_not_delivered(self) -> None:
        for finishes in (True, False):
            opening, written = logging(self.home, "again")
            async with opening as node:
                messages, events = node.messages(), node.events()
                self.assertEqual((await anext(messages)).message_id, "x1")
                assert node.pid is not None
                os.kill(node.pid, signal.SIGKILL)
                if finishes:
                    messages.close()
                while not isinstance(await asyncio.wait_for(anext(events), PATIENCE), p2p_node.Restarted):
                    pass
                await node.ping()
                if finishes:
                    await until("the ack", lambda: "x1" in acked(written()))
                    self.assertIsNone(node._supervised.mailbox.first)
                    os.remove(os.path.join(self.home, "again.log"))
                else:
                    self.assertEqual(acked(written()), [])
                    self.assertEqual([message.message_id for message in await node.close()], ["x1"])


class Buffers(TestCase):
    async def test_flood_of_broadcasts_and_peer_events_drops_no_mail(self) -> None:
        async with misbehaving("flood", event_buffer=3, broadcast_buffer=3) as node:
            await node.ping()
            messages, events = node.messages(), node.events()
            got = [(await anext(messages)) for _ in range(23)]
            self.assertEqual([one.message_id for one in got if one.topic is None], [f"m{number}" for number in range(1, 21)])
            self.assertEqual((messages.dropped, events.dropped, node.mail_dropped), (3997, 3997, 0))
            self.assertIsInstance(await anext(events), p2p_node.Ready)

    async def test_close_returns_unread_mail(self) -> None:
        opening, written = logging(self.home, "burst")
        async with opening as node:
            await node.ping()
            messages = node.messages()
            for _ in range(10):
                await anext(messages)
            for _ in range(2):
                rest = await node.close()
                self.assertEqual([message.message_id for message in rest], [f"m{number}" for number in range(11, 1001)])
            with self.assertRaises(StopAsyncIteration):
                await anext(messages)
        self.assertEqual(acked(written()), [f"m{number}" for number in range(1, 10)])

    async def test_close_writes_waiting_acks_before_shutdown(self) -> None:
        opening, written = logging(self.home, "burst")
        async with opening as node:
            messages = node.messages()
            for _ in range(500):
                await anext(messages)
        lines = written()
        self.assertEqual((len(acked(lines)), lines[-1]["type"]), (500, "shutdown"))


class Repeating(TestCase):
    async def test_send_timeout_is_retryable_only_if_not_written(self) -> None:
        limits = {"MAX_INFLIGHT": "66"}
        opening, written = logging(self.home, "mute", env=limits)
        async with opening as node:
            calls = [node.send("0xB", number, timeout=0.3) for number in range(3)] + [node.send("0xC", 3, timeout=0.3)]
            errors = await asyncio.gather(*calls, return_exceptions=True)
            self.assertTrue(all(isinstance(error, p2p_node.CallTimeout) for error in errors), errors)
            # The SDK wrote one send for each recipient.
            self.assertEqual([error.retryable for error in errors if isinstance(error, p2p_node.P2PError)], [False, True, True, False])
            await node.ping()
            self.assertEqual([line["data"] for line in written() if line["type"] == "send"], [0, 3])

    async def test_failed_commands_other_than_send_are_retryable(self) -> None:
        async with misbehaving("good") as node:
            assert node.pid is not None
            os.kill(node.pid, signal.SIGSTOP)
            with self.assertRaises(p2p_node.CallTimeout) as late:
                await node.ping(timeout=0.05)
            self.assertTrue(late.exception.retryable)
            ping = asyncio.ensure_future(node.ping())
            await asyncio.sleep(0)
            os.kill(node.pid, signal.SIGKILL)
            with self.assertRaises(p2p_node.SidecarRestarted) as restarted:
                await ping
            self.assertTrue(restarted.exception.retryable)

    async def test_delivery_lost_with_the_process_is_not_retryable(self) -> None:
        async with misbehaving("good") as node:
            mail = await node.send("0xB", 1, kind="never")
            with self.assertRaises(p2p_node.CallTimeout) as late:
                await mail.delivered(timeout=0.01)
            assert node.pid is not None
            os.kill(node.pid, signal.SIGKILL)
            with self.assertRaises(p2p_node.SidecarRestarted) as lost:
                await mail.delivered()
            self.assertEqual((late.exception.retryable, lost.exception.retryable), (False, False))

    async def test_other_commands_overtake_unanswered_sends(self) -> None:
        opening, written = logging(self.home, "mute", env={"MAX_INFLIGHT": "84", "MAX_INFLIGHT_BYTES": "100000"})
        async with opening as node:
            sends = [asyncio.ensure_future(node.send(to, "x" * 10)) for _ in range(50) for to in ("0xB", "0xb", "0xC")]
            await asyncio.sleep(0)
            for _ in range(100):
                await node.ping(timeout=PATIENCE)
            lines = [line["peerId"] for line in written() if line["type"] == "send"]
            self.assertEqual((len(lines), lines.count("0xC")), (20, 10), "the case of an address does not matter")
            for send in sends:
                send.cancel()
            await asyncio.wait(sends)
            self.assertEqual(len(node._supervised._queue), 0)


class Liveness(TestCase):
    async def test_child_that_writes_but_does_not_read_is_not_killed(self) -> None:
        async with misbehaving("pause", env={**IMPATIENT, "PAUSE_LINES": "20"}) as node:
            first, before = node.pid, time.monotonic()
            self.assertEqual((await node.publish("t", "x" * (1 << 19))).peers, 3)
            self.assertGreater(time.monotonic() - before, 0.5, "longer than the timeout of a stuck child")
            self.assertEqual(node.pid, first)

    async def test_program_that_blocks_its_event_loop_does_not_kill_the_node(self) -> None:
        async with misbehaving("good", env=IMPATIENT) as node:
            pid = node.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            call = asyncio.ensure_future(node.publish("t", "x" * (1 << 19)))
            await asyncio.sleep(0)
            time.sleep(1)
            # Lets the delayed tick run, which sees no progress.
            await asyncio.sleep(0.01)
            os.kill(pid, signal.SIGCONT)
            self.assertEqual((await call).peers, 3)
            self.assertEqual((node.pid, is_alive(pid)), (pid, True))
