"""Tests without a process: mail and acks, the credit of sends, the buffers of streams."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import unittest
from typing import Any

from p2p_node.errors import CommandRefused, P2PError
from p2p_node.events import Closed, NodeEvents
from p2p_node.flow import CommandQueue, Send
from p2p_node.mailbox import MAX_FINISHED, Mailbox
from p2p_node.types import MAX_ACK_MESSAGES, RESERVED_COMMANDS
from p2p_node.types import Limits, Message, PeerConnected


def message(name: str, topic: str | None = None) -> Message:
    return Message(
        data=name, sender="0xB", message_id=name, peer_id="p", priority="medium", received_at_ms=2, route="direct",
        sent_at_ms=1, trust="unverified", topic=topic,
    )  # fmt: skip


def box(capacity: int, count: int) -> Mailbox:
    mailbox = Mailbox(capacity)
    for number in range(count):
        mailbox.put(number, message(f"m{number}"))
    return mailbox


def take(mailbox: Mailbox, *, finish: bool) -> str:
    taken = mailbox.take()
    assert taken is not None
    if finish:
        mailbox.finish(taken)
    return taken.message.message_id


class Mail(unittest.TestCase):
    def test_finished_mail_is_acked_in_batches_with_one_unanswered(self) -> None:
        mailbox = box(3000, 2500)
        self.assertFalse(mailbox.has_acks)
        for _ in range(2500):
            take(mailbox, finish=True)
        first = mailbox.next_batch()
        self.assertEqual((len(first), first[0], mailbox.has_acks), (MAX_ACK_MESSAGES, "m0", False))
        mailbox.confirmed()
        self.assertEqual(mailbox.next_batch()[0], f"m{MAX_ACK_MESSAGES}")
        self.assertEqual([len(batch) for batch in mailbox.last_batches()], [2500 - 2 * MAX_ACK_MESSAGES])

    def test_ack_batch_rejected_as_busy_is_repeated_and_others_are_not(self) -> None:
        mailbox = box(9, 6)
        answers: list[tuple[P2PError, bool]] = [
            (CommandRefused("BUSY", "", retryable=True), True),
            (CommandRefused("DISK_FULL", "", retryable=True), False),
            (CommandRefused("MESSAGE_NOT_FOUND", "", retryable=False, details={"messageIds": ["m2"]}), False),
            (CommandRefused("MESSAGE_NOT_FOUND", "", retryable=False), False),
        ]
        for error, again in answers:
            names = [take(mailbox, finish=True)]
            self.assertEqual(mailbox.next_batch(), names)
            self.assertEqual(mailbox.refused(error), again, error)
            if again:
                names.append(take(mailbox, finish=True))
                self.assertEqual(mailbox.next_batch(), names)
                mailbox.confirmed()
            self.assertFalse(mailbox.has_acks)
        self.assertEqual(mailbox.acks_not_found, 2)

    def test_mail_finished_without_confirmed_ack_is_acked_on_redelivery_and_not_delivered(self) -> None:
        mailbox = box(9, 5)
        for _ in range(2):
            take(mailbox, finish=True)
        mailbox.next_batch()
        take(mailbox, finish=True)
        held = mailbox.take()
        assert held is not None
        mailbox.process_ended()
        self.assertEqual((mailbox.first, mailbox.has_acks), (None, False), "the senders send unread mail again")
        for number in range(5):
            mailbox.put(10 + number, message(f"m{number}"))
        self.assertEqual(mailbox.next_batch(), ["m0", "m1", "m2"])
        mailbox.confirmed()
        mailbox.finish(held)
        self.assertEqual(mailbox.next_batch(), ["m3"], "redelivered and finished, so not delivered again")
        self.assertEqual(take(mailbox, finish=False), "m4")

    def test_mail_of_earlier_process_is_acked_only_after_redelivery(self) -> None:
        mailbox = box(9, 1)
        held = mailbox.take()
        assert held is not None
        mailbox.process_ended()
        mailbox.finish(held)
        self.assertFalse(mailbox.has_acks)
        mailbox.put(1, message("m0"))
        self.assertEqual((mailbox.next_batch(), mailbox.first), (["m0"], None))

    def test_mail_put_back_is_delivered_first_and_in_order(self) -> None:
        mailbox = box(9, 5)
        taken = [mailbox.take() for _ in range(3)]
        for one in (taken[1], taken[0]):
            assert one is not None
            mailbox.put_back(one)
        self.assertEqual([take(mailbox, finish=False) for _ in range(4)], ["m0", "m1", "m3", "m4"])
        mailbox.process_ended()
        assert taken[2] is not None
        mailbox.put_back(taken[2])
        self.assertIsNone(mailbox.first, "the sender sends it again")

    def test_unread_mail_is_returned_at_the_end(self) -> None:
        mailbox = box(9, 3)
        taken = mailbox.take()
        assert taken is not None
        mailbox.close()
        self.assertIsNone(mailbox.take())
        mailbox.put_back(taken)
        mailbox.put(3, message("m3"))
        self.assertEqual([one.message_id for one in mailbox.take_rest()], ["m0", "m1", "m2", "m3"])
        self.assertEqual(mailbox.take_rest(), [])

    def test_mailbox_above_its_limits_drops_oldest_and_counts_drops(self) -> None:
        mailbox = box(5, 13)
        self.assertEqual((mailbox.dropped, take(mailbox, finish=False)), (3, "m3"))
        mailbox = Mailbox(4)
        for number in range(MAX_FINISHED + 2):
            mailbox.put(number, message(f"m{number}"))
            take(mailbox, finish=True)
            mailbox.process_ended()
        mailbox.put(0, message("m0"))
        self.assertFalse(mailbox.has_acks, "the mailbox has dropped its id")
        self.assertEqual(take(mailbox, finish=False), "m0")
        mailbox.put(0, message("m2"))
        self.assertTrue(mailbox.has_acks)


LIMITS = Limits(
    max_direct_bytes=1, max_file_bytes=1, max_inflight=RESERVED_COMMANDS + 20, max_inflight_bytes=1000, max_line_bytes=1,
    max_pause_ms=1, max_requests=1, max_topic_bytes=1, max_unacked=1,
)  # fmt: skip


class Credit(unittest.TestCase):
    def setUp(self) -> None:
        self.queue: CommandQueue[str] = CommandQueue()
        self.queue.set_limits(LIMITS)
        self.sends: dict[str, Send] = {}

    def put(self, name: str, to: str, size: int = 1) -> None:
        self.sends[name] = Send(to, size)
        self.queue.put(name, self.sends[name])

    def written(self, outstanding: int = 0) -> list[str]:
        names: list[str] = []
        while (name := self.queue.pop(outstanding + len(names))) is not None:
            names.append(name)
        return names

    def test_other_commands_overtake_waiting_sends_and_use_the_reserve(self) -> None:
        for number in range(30):
            self.put(f"a{number}", "a")
            self.put(f"b{number}", "b")
        self.assertEqual(len(self.written()), 20)
        self.queue.put("ping", None)
        self.queue.put("ack", None)
        self.assertEqual(self.written(20), ["ping", "ack"])
        self.queue.put("status", None)
        self.assertEqual(self.written(RESERVED_COMMANDS + 20), [], "the node would pause its stdin")

    def test_recipient_gets_half_of_the_credit_and_others_take_turns_in_order(self) -> None:
        for number in range(30):
            self.put(f"a{number}", "a")
        self.assertEqual(self.written(), [f"a{number}" for number in range(10)])
        for number in range(3):
            self.put(f"b{number}", "b")
            self.put(f"c{number}", "c")
        self.assertEqual(self.written(), ["b0", "c0", "b1", "c1", "b2", "c2"])
        self.queue.answered(self.sends["a0"])
        self.assertEqual(self.written(), ["a10"])

    def test_large_send_among_small_ones_gets_its_turn_within_byte_credit(self) -> None:
        self.put("a0", "a", 450)
        self.put("a1", "a", 100)
        self.put("b0", "b", 450)
        self.assertEqual(self.written(), ["a0", "b0"], "half of the credit for each")
        self.put("c0", "c", 400)
        self.put("d0", "d", 1)
        self.assertEqual(self.written(), [], "c waits for all the credit that it needs, and d waits for its turn")
        self.queue.answered(self.sends["a0"])
        self.assertEqual(self.written(), ["c0", "d0", "a1"])
        self.put("e0", "e", 5000)
        for name in ("b0", "c0", "d0"):
            self.queue.answered(self.sends[name])
            self.assertEqual(self.written(), [])
        self.queue.answered(self.sends["a1"])
        self.assertEqual(self.written(), ["e0"], "a send larger than the credit goes alone")

    def test_removed_or_drained_commands_leave_no_state(self) -> None:
        self.queue.put("ping", None)
        for name in ("a0", "a1", "b0"):
            self.put(name, name[0])
        self.queue.remove("b0", self.sends["b0"])
        self.queue.remove("b0", self.sends["b0"])
        self.queue.remove("ping", None)
        self.assertEqual((self.written(), len(self.queue)), (["a0", "a1"], 0))
        self.put("a2", "a")
        self.queue.put("ping", None)
        self.assertEqual((self.queue.drain(), len(self.queue)), (["ping", "a2"], 0))
        for name in ("a0", "a1"):
            self.queue.answered(self.sends[name])
        self.assertEqual(self.queue._lanes, {})

    def test_random_operations_respect_credit_and_write_sends_in_order(self) -> None:
        for seed in range(50):
            self.setUp()
            chance, waiting, unanswered, last = random.Random(seed), 0, list[str](), dict[str, int]()
            for number in range(400):
                self.put(f"{number}", chance.choice("aaaabc"), chance.choice((1, 10, 400)))
                waiting += 1
                for name in self.written(len(unanswered)):
                    send = self.sends[name]
                    self.assertLess(last.get(send.to, -1), int(name), "in order")
                    last[send.to] = int(name)
                    unanswered.append(name)
                    waiting -= 1
                sizes = [self.sends[name].size for name in unanswered]
                self.assertLessEqual((len(sizes) <= 20, sum(sizes) <= 1000), (True, True), seed)
                while unanswered and chance.random() < 0.6:
                    self.queue.answered(self.sends[unanswered.pop(chance.randrange(len(unanswered)))])
            while waiting or unanswered:
                unanswered += (more := self.written(len(unanswered)))
                waiting -= len(more)
                self.queue.answered(self.sends[unanswered.pop()])
            self.assertEqual((waiting, self.queue._lanes, self.queue._bytes), (0, {}, 0))


class Streams(unittest.IsolatedAsyncioTestCase):
    def events(self, buffer: int = 3) -> NodeEvents:
        return NodeEvents(Mailbox(100), buffer, buffer, True, lambda: None)

    def flood(self, events: NodeEvents, count: int) -> None:
        for number in range(count):
            events.tell(message(f"m{number}"))
            events.tell(message(f"t{number}", topic="t"))
            events.tell(PeerConnected(peer_id=f"p{number}"))

    async def names(self, stream: Any, count: int) -> list[str]:
        return [(await anext(stream)).message_id for _ in range(count)]

    async def test_flood_of_one_kind_drops_no_events_of_other_kinds(self) -> None:
        for looks_before in (True, False):
            events = self.events()
            early = (events.messages(None, None), events.events(None, None)) if looks_before else None
            events.tell(Closed(None))
            self.flood(events, 10)
            messages, news = early or (events.messages(None, None), events.events(None, None))
            expected = [f"m{number}" for number in range(7)] + ["m7", "t7", "m8", "t8", "m9", "t9"]
            self.assertEqual(await self.names(messages, 13), expected)
            self.assertEqual((messages.dropped, news.dropped), (7, 7))
            self.assertEqual(await anext(news), Closed(None))
            self.assertEqual(await anext(news), PeerConnected(peer_id="p7"))

    async def test_two_streams_get_each_message_once_and_each_broadcast_twice(self) -> None:
        events = self.events()
        first, second = events.messages(None, None), events.messages(None, None)
        self.flood(events, 2)
        self.assertEqual(await self.names(first, 1), ["m0"])
        self.assertEqual(await self.names(second, 3), ["t0", "m1", "t1"])
        self.assertEqual(await self.names(first, 2), ["t0", "t1"])

    async def test_waiting_loop_gets_mail_of_loop_left_in_the_middle(self) -> None:
        events = self.events()
        stream = events.messages(None, None)
        events.tell(message("m0"))

        async def leave() -> None:
            async for one in stream:
                await asyncio.sleep(0)
                raise ValueError(one.message_id)

        leaving = asyncio.ensure_future(leave())
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(self.names(stream, 1))
        with self.assertRaises(ValueError):
            await leaving
        del leaving
        self.assertEqual(await asyncio.wait_for(waiting, 5), ["m0"])
        self.assertFalse(events.mailbox.has_acks)

    async def test_loop_collected_in_another_thread_gives_its_mail_back(self) -> None:
        events = self.events()
        events.tell(message("m0"))
        circle: list[Any] = [events.messages(None, None)]
        circle.append(circle)
        await anext(circle[0])
        del circle
        threads = [threading.Thread(target=gc.collect)]
        threads[0].start()
        while threads[0].is_alive():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        self.assertEqual(await self.names(events.messages(None, None), 1), ["m0"])

    async def test_stream_block_without_exception_acks_mail_of_anext_else_gives_it_back(self) -> None:
        events = self.events()
        self.flood(events, 2)
        async with events.messages(None, None) as stream:
            await self.names(stream, 1)
        self.assertEqual(events.mailbox.next_batch(), ["m0"])
        events.mailbox.confirmed()
        with self.assertRaises(ValueError):
            async with events.messages(None, None) as stream:
                await self.names(stream, 1)
                raise ValueError
        self.assertFalse(events.mailbox.has_acks)
        self.assertEqual(await self.names(events.messages(None, None), 1), ["m1"])
        with self.assertRaises(StopAsyncIteration):
            await anext(stream)


if __name__ == "__main__":
    unittest.main()
