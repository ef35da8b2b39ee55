"""Requests between real nodes: answers, errors, cancellation, streams, groups, and many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import p2p_node
from p2p_node import AgentAnswer, ErrorCode, HandlerError, IncomingRequest, Node
from p2p_node.desired_state import DesiredState
from p2p_node.handlers import Handlers, _code

from .common import TestCase, real, until


class Requests(TestCase):
    @asynccontextmanager
    async def pair(self) -> AsyncIterator[tuple[Node, Node]]:
        """Opens an asker and an answering node, which know each other."""
        async with real(self.home) as asker, real(self.home, bootstrap_peers=asker.ready.addrs[:1]) as other:
            await other.allow(asker.address)
            await other.handle("hello", lambda request: request.data)
            # From now on the asker knows the other agent, also for short deadlines.
            await asker.ask(other.address, 1, kind="hello")
            yield asker, other

    async def test_answer_of_the_handler_reaches_the_asker(self) -> None:
        async with self.pair() as (asker, other):
            seen: list[IncomingRequest] = []

            async def add(request: IncomingRequest) -> Any:
                seen.append(request)
                return {"sum": sum(request.data)}

            await other.handle("sum", add)
            trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            answer = await asker.ask(other.address, [1, 2, 3], kind="sum", deadline=20, traceparent=trace)
            self.assertEqual(answer, {"sum": 6})
            self.assertEqual((seen[0].sender, seen[0].kind, seen[0].traceparent), (asker.address, "sum", trace))
            self.assertTrue(0 < seen[0].deadline_ms <= 20_000)
            await other.handle("echo", lambda request: request.data)
            self.assertEqual(await asker.ask(other.address, b"\x00\xff", kind="echo"), b"\x00\xff")
            self.assertIsNone(await asker.ask(other.address, None, kind="echo"))

    async def test_errors_arrive_with_their_codes(self) -> None:
        async with self.pair() as (asker, other):

            @other.handler("typed")
            async def typed(request: IncomingRequest) -> Any:
                raise HandlerError("TOO_LARGE", f"{request.data} is too large")

            @other.handler("defect")
            def defect(request: IncomingRequest) -> Any:
                raise ValueError("a secret")

            @other.handler("no_json")
            def no_json(request: IncomingRequest) -> Any:
                return {1, 2}

            await other.handle("typed", typed)  # waits until the node has all kinds
            with self.assertRaises(p2p_node.HandlerFailed) as caught:
                await asker.ask(other.address, 9, kind="typed")
            self.assertEqual((caught.exception.handler_code, caught.exception.message), ("TOO_LARGE", "9 is too large"))
            self.assertEqual((caught.exception.sender, caught.exception.code), (other.address, ErrorCode.HANDLER_FAILED))
            for kind, code in (("defect", "VALUE_ERROR"), ("no_json", "INVALID_ARGUMENT")):
                with self.assertLogs("p2p_node"), self.assertRaises(p2p_node.HandlerFailed) as caught:
                    await asker.ask(other.address, 9, kind=kind)
                self.assertEqual((caught.exception.handler_code, caught.exception.message), (code, "the handler failed"))
            await other.unhandle("typed")
            for kind in ("typed", "unknown"):
                with self.assertRaises(p2p_node.CommandRefused) as refused:
                    await asker.ask(other.address, 9, kind=kind)
                self.assertEqual(refused.exception.code, ErrorCode.NO_HANDLER)

    async def test_deadline_and_cancellation_reach_the_handler(self) -> None:
        async with self.pair() as (asker, other):
            events: list[str] = []

            async def wait(request: IncomingRequest) -> None:
                events.append("started")
                try:
                    await asyncio.sleep(600)
                finally:
                    events.append("cancelled")

            await other.handle("*", wait)
            with self.assertRaises(p2p_node.CommandRefused) as late:
                await asker.ask(other.address, 1, deadline=0.3)
            self.assertEqual(late.exception.code, ErrorCode.DEADLINE_EXCEEDED)
            await until("the deadline at the handler", lambda: events == ["started", "cancelled"])
            call = asyncio.ensure_future(asker.ask(other.address, 1, deadline=60))
            await until("the second request", lambda: len(events) == 3)
            call.cancel()
            await until("the cancel at the handler", lambda: len(events) == 4)
            self.assertTrue(call.cancelled() or (await asyncio.wait({call})))

    async def test_stream_arrives_in_order_and_a_slow_reader_stops_the_generator(self) -> None:
        async with self.pair() as (asker, other):
            made = 0
            closed = asyncio.Event()

            async def count(request: IncomingRequest) -> AsyncIterator[int]:
                nonlocal made
                try:
                    for number in range(request.data):
                        made += 1
                        yield number
                finally:
                    closed.set()

            await other.handle("count", count)
            parts = [part async for part in asker.ask_stream(other.address, 300, kind="count", credit=8)]
            self.assertEqual(parts, list(range(300)))
            # An asker that accepts one answer gets the list.
            self.assertEqual(await asker.ask(other.address, 3, kind="count"), [0, 1, 2])
            made = 0
            closed.clear()
            slow = asker.ask_stream(other.address, 1000, kind="count", credit=8)
            self.assertEqual(await anext(slow), 0)
            await asyncio.sleep(0.3)
            self.assertLessEqual(made, 8 + 8, "the handler has sent what the credit allows")
            await slow.aclose()
            await asyncio.wait_for(closed.wait(), 20)

    async def test_error_in_a_stream_comes_behind_its_parts(self) -> None:
        async with self.pair() as (asker, other):

            async def broken(request: IncomingRequest) -> AsyncIterator[int]:
                yield 1
                raise HandlerError("BROKEN", "no more")

            await other.handle("broken", broken)
            parts: list[int] = []
            with self.assertRaises(p2p_node.HandlerFailed) as caught:
                async for part in asker.ask_stream(other.address, None, kind="broken"):
                    parts.append(part)
            self.assertEqual((parts, caught.exception.handler_code), ([1], "BROKEN"))

    async def test_question_to_many_ends_with_its_quorum_or_at_its_deadline(self) -> None:
        async with self.pair() as (asker, one), real(self.home, bootstrap_peers=asker.ready.addrs[:1]) as two:
            await one.handle("name", lambda request: "one")
            await two.handle("name", lambda request: "two")
            dead = "0x" + "77" * 20
            answers = await asker.ask_all([one.address, two.address, dead], None, kind="name", deadline=3)
            self.assertEqual(sorted(answer.data for answer in answers), ["one", "two"])
            self.assertEqual([name.lower() for name in answers.missing], [dead])
            self.assertEqual((answers.complete, answers.failed[0].error is None), (False, False))
            answers = await asker.ask_all([one.address, two.address, dead], None, kind="name", quorum=2)
            self.assertEqual(len(answers), 2)
            with self.assertRaises(p2p_node.QuorumNotReached) as caught:
                await asker.ask_all([one.address, dead], None, kind="name", quorum=2, deadline=1)
            self.assertEqual(list(caught.exception.answers), [AgentAnswer(one.address, "one")])
            await one.subscribe("jobs")
            await two.subscribe("jobs")
            answers = await asker.ask_all("jobs", None, kind="name", quorum=2, deadline=20)
            self.assertEqual(sorted(answer.data for answer in answers), ["one", "two"])

    async def test_many_requests_wait_at_once_and_a_slow_handler_harms_no_other(self) -> None:
        async with self.pair() as (asker, other):
            release = asyncio.Event()
            most = running = 0

            async def slow(request: IncomingRequest) -> Any:
                nonlocal most, running
                running += 1
                most = max(most, running)
                await release.wait()
                running -= 1
                return request.data

            await other.handle("slow", slow, concurrency=100)
            await other.handle("fast", lambda request: request.data)
            waiting = [asyncio.ensure_future(asker.ask(other.address, number, kind="slow", deadline=120)) for number in range(2000)]
            await until("as many as the handler works on", lambda: running == 100)
            self.assertEqual(await asker.ask(other.address, "f", kind="fast"), "f")
            release.set()
            self.assertEqual(await asyncio.gather(*waiting), list(range(2000)))
            self.assertEqual(most, 100)


class Waiting(TestCase):
    """Handlers without a node."""

    def handlers(self) -> tuple[Handlers, list[dict[str, Any]]]:
        sent: list[dict[str, Any]] = []

        async def send(command: Any) -> Any:
            sent.append(dict(command))

        return Handlers(send), sent

    def request(self, ticket: str, kind: str = "k") -> IncomingRequest:
        return IncomingRequest(
            ticket=ticket, sender="0x1", peer_id="p", kind=kind, data=1, message_id="m", deadline_ms=1, credit=1, trust="unverified"
        )

    async def test_cancelled_request_that_waits_is_never_started(self) -> None:
        handlers, sent = self.handlers()
        release = asyncio.Event()
        started: list[str] = []

        async def work(request: IncomingRequest) -> None:
            started.append(request.ticket)
            await release.wait()

        handlers.add("k", work, 1)
        for ticket in ("a", "b", "c"):
            handlers.on_event(self.request(ticket))
        handlers.on_event(p2p_node.RequestCancelled(ticket="b", reason="cancelled"))
        await asyncio.sleep(0)
        release.set()
        await until("both answers", lambda: len(sent) == 2)
        self.assertEqual((started, [one["ticket"] for one in sent]), (["a", "c"], ["a", "c"]))

    def test_handled_kinds_are_restored_in_a_new_process(self) -> None:
        state = DesiredState()
        state.record({"type": "handle", "kinds": ["a"]})
        state.record({"type": "handle", "kinds": ["a", "b"]})
        state.record({"type": "subscribe", "topic": "t"})
        self.assertEqual(state.replay(), [{"type": "handle", "kinds": ["a", "b"]}, {"type": "subscribe", "topic": "t"}])

    async def test_names_of_exceptions_are_codes(self) -> None:
        class HTTP2Error(Exception): ...

        self.assertEqual([_code(ValueError()), _code(HTTP2Error()), _code(KeyError())], ["VALUE_ERROR", "HTTP2_ERROR", "KEY_ERROR"])
        many = type("E" * 60, (Exception,), {})
        self.assertEqual(len(_code(many())), 48)


