"""Tests without a process: framing, decoding, the channel, the restart policy."""

from __future__ import annotations

import json
import pydoc
import random
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

import p2p_node
from p2p_node import types
from p2p_node.arguments import encode
from p2p_node.channel import Channel, Reply
from p2p_node.decode import Undecodable, content, decode_event
from p2p_node.desired_state import DesiredState
from p2p_node.errors import CommandRefused, Exit, LineTooLong, NodeClosed, P2PError
from p2p_node.framer import Framer
from p2p_node.supervisor import Restart, RestartDecision, Supervisor
from p2p_node.types import FINAL_CODES, MAX_FOUND_AGENTS, MAX_TRACKED_MESSAGES

from .common import ROOT, binary


class Framing(unittest.TestCase):
    def test_stream_split_anywhere_gives_the_same_lines(self) -> None:
        stream = b"\xef\xbb\xbf{\"a\":\"\xc3\xa9\xf0\x9f\x98\x80\"}\r\n\n  \n{\"b\":\"\xe2\x80\xa8\"}\n" + b"x" * 50 + b"\nlast\npartial"
        expected = ['{"a":"é😀"}', '{"b":"\u2028"}', "last"]
        for seed in range(200):
            chance, framer, lines, at = random.Random(seed), Framer(32), [], 0
            while at < len(stream):
                length = chance.randint(1, 7)
                lines += framer.push(stream[at : at + length])
                at += length
            self.assertEqual([line.decode() for line in lines], expected, seed)
            self.assertEqual(framer.too_long, 1, seed)

    def test_line_at_the_limit_is_accepted(self) -> None:
        framer = Framer(4)
        self.assertEqual(framer.push(b"1234\r\n12345\n123"), [b"1234"])
        self.assertEqual(framer.push(b"4\n"), [b"1234"])
        self.assertEqual(framer.too_long, 1)

    def test_skipped_line_uses_no_memory(self) -> None:
        framer = Framer(100)
        for _ in range(1000):
            framer.push(b"x" * 1000)
            self.assertLess(len(framer._partial), 1200)
        self.assertEqual(framer.push(b"\nok\n"), [b"ok"])
        self.assertEqual(framer.too_long, 1)


class Decoding(unittest.TestCase):
    def test_shared_event_lines_decode_as_specified(self) -> None:
        rows = [json.loads(row) for row in (ROOT / "fixtures/protocol/events.ndjson").read_text().splitlines()]
        self.assertGreater(len(rows), 30)
        for row in rows:
            with self.subTest(row["name"]):
                line = row["line"].encode()
                if row.get("bad"):
                    self.assertRaises(Undecodable, decode_event, line)
                    continue
                event = decode_event(line)
                if row["type"] is None:
                    self.assertIsNone(event)
                    continue
                self.assertIsInstance(event, types.EVENTS[row["type"]])
                shown = wire(event)
                for name, value in row["fields"].items():
                    if name != "seq":
                        self.assertEqual(shown.get(name), value, name)

    def test_event_with_wrong_field_is_undecodable(self) -> None:
        for line in ['{"type":"message","from":7}', '{"type":"closing","reason":true}', '{"type":"overflow","dropped":1,"total":{}}']:
            self.assertRaises(Undecodable, decode_event, line.encode())

    def test_content_of_base64_message_returns_bytes(self) -> None:
        row = '{"type":"message","from":"a","data":"AAH/","peerId":"p","messageId":"m","priority":"low","sentAtMs":1,"receivedAtMs":1,"route":"direct","encoding":"base64","trust":"unverified"}'
        event = decode_event(row.encode())
        assert isinstance(event, types.Message)
        self.assertEqual(content(event), b"\x00\x01\xff")

    def test_generated_types_match_the_schema_of_the_binary(self) -> None:
        schema = subprocess.run([binary(), "schema", "--json"], capture_output=True, check=True).stdout
        generate = ROOT / "sdk/python/generate.py"
        made = subprocess.run([sys.executable, str(generate)], input=schema, capture_output=True, check=True).stdout
        self.assertEqual(made.decode(), Path(types.__file__).read_text(), "p2p-node schema --json | generate.py")


def wire(value: Any) -> Any:
    """Converts an event to the JSON of its line."""
    if hasattr(value, "FIELDS"):
        pairs = [(field.name, getattr(value, field.attribute)) for field in value.FIELDS]
        return {name: wire(one) for name, one in pairs if one is not None or name == "data"}
    if isinstance(value, list):
        return [wire(one) for one in value]
    if isinstance(value, dict):
        return {name: wire(one) for name, one in value.items()}
    return value


class Correlation(unittest.TestCase):
    def setUp(self) -> None:
        self.channel = Channel()
        self.told: list[tuple[str, Any, Any]] = []

    def ask(self, name: str, **command: Any) -> int:
        number, line = self.channel.request(
            encode({"type": "ping", **command}), lambda reply, error: self.told.append((name, reply, error))
        )
        self.assertEqual(json.loads(line), {"type": "ping", **command, "id": number})
        self.assertTrue(line.endswith(b"\n") and line.count(b"\n") == 1)
        return number

    def say(self, **event: Any) -> Any:
        decoded = decode_event(json.dumps(event).encode())
        assert decoded is not None
        return self.channel.receive(decoded)

    def found(self, request_id: int) -> Any:
        return self.say(type="peer_discovered", peerId="p", topics=[], address="0xA", trust="unverified", role="full", addrs=[], capabilities=[], expiresAtMs=1, requestId=request_id)

    def test_answers_in_any_order_reach_their_requests(self) -> None:
        first, second = self.ask("first"), self.ask("second")
        self.say(type="result", id=second, command="ping")
        self.say(type="error", id=first, code="BUSY", message="full", retryable=True, details={"a": 1})
        (name, reply, _), (other, none, error) = self.told
        self.assertEqual((name, other, none), ("second", "first", None))
        self.assertIsInstance(reply, Reply)
        assert isinstance(error, CommandRefused)
        self.assertEqual((error.code, error.retryable, error.details), ("BUSY", True, {"a": 1}))
        self.assertEqual(self.channel.outstanding, 0)

    def test_event_without_waiter_is_returned(self) -> None:
        number = self.ask("ping")
        self.assertIsNotNone(self.say(type="result", id=99, command="ping"))
        self.assertIsNotNone(self.say(type="result", id=str(number), command="ping"))
        self.assertIsNotNone(self.say(type="error", requestId=number, code="EXPIRED", message="", retryable=True))
        self.assertIsNotNone(self.say(type="delivery", messageId="m", state="delivered", attempts=1))
        self.assertEqual(self.told, [])
        self.assertIsNone(self.say(type="result", id=number, command="ping"))
        self.assertIsNotNone(self.say(type="result", id=number, command="ping"), "a second answer has no waiter")

    def test_discovered_agents_are_collected_up_to_the_limit(self) -> None:
        number = self.ask("discover")
        for _ in range(MAX_FOUND_AGENTS):
            self.assertIsNone(self.found(number))
        self.assertIsNotNone(self.found(number))
        self.say(type="result", id=number, command="discover", count=1)
        self.assertEqual(len(self.told[0][1].found), MAX_FOUND_AGENTS)

    def test_tracked_deliveries_are_reported_once_and_limited(self) -> None:
        told: list[Any] = []
        for number in range(MAX_TRACKED_MESSAGES):
            self.assertTrue(self.channel.track(f"m{number}", lambda delivery, error: told.append(delivery)))
        self.assertFalse(self.channel.track("one more", lambda delivery, error: None))
        for _ in range(2):
            self.say(type="delivery", messageId="m7", state="delivered", attempts=1)
        self.assertEqual([delivery.message_id for delivery in told], ["m7"])

    def test_closed_channel_fails_waiting_and_later_requests(self) -> None:
        self.ask("a")
        self.channel.track("m", lambda delivery, error: self.told.append(("mail", delivery, error)))
        self.channel.fail_all(NodeClosed())
        self.channel.fail_all(P2PError("OTHER", "later"))
        self.assertEqual([(name, error.code) for name, _, error in self.told], [("a", "CLOSED"), ("mail", "CLOSED")])
        self.assertRaises(NodeClosed, self.ask, "b")

    def test_command_above_line_limit_is_rejected(self) -> None:
        room = types.MAX_LINE_BYTES - len(b'{"type":"ping","pad":"","id":1}')
        self.ask("fits", pad="x" * room)
        self.assertRaises(LineTooLong, self.ask, "too long", pad="x" * (room + 1))
        self.assertRaises(ValueError, self.ask, "no JSON", pad=float("nan"))
        self.assertEqual(self.channel.outstanding, 1)


class Supervision(unittest.TestCase):
    def test_final_exit_codes_are_not_restarted(self) -> None:
        for code in range(256):
            verdict = Supervisor().ended(Exit(code=code), 0.0, 0.5)
            self.assertEqual(verdict is None, code in FINAL_CODES, code)
        self.assertEqual(FINAL_CODES, {0, 64, 65, 67, 68, 73, 77, 78})
        self.assertIsNotNone(Supervisor().ended(Exit(signal=9), 0.0, 0.5))
        self.assertIsNone(Supervisor(None).ended(Exit(signal=9), 0.0, 0.5))

    def ended(self, supervisor: Supervisor, now: float, chance: float = 1.0) -> RestartDecision:
        verdict = supervisor.ended(Exit(signal=9), now, chance)
        assert verdict is not None
        return verdict

    def test_pauses_double_up_to_60_s_with_half_jitter(self) -> None:
        supervisor, halves = Supervisor(), Supervisor()
        pauses = [self.ended(supervisor, 0.0).delay for _ in range(2000)]
        self.assertEqual(pauses[:8], [1, 2, 4, 8, 16, 32, 60, 60])
        self.assertEqual(pauses[-1], 60)
        self.assertEqual([self.ended(halves, 0.0, 0.0).delay for _ in range(3)], [0.5, 1, 2])

    def test_crash_loop_of_ten_minutes_restarts_15_times_and_reports_once(self) -> None:
        supervisor, now, starts, unhealthy = Supervisor(), 0.0, 0, 0
        while now < 600:
            supervisor.ready(now)
            now += 1.0
            again = self.ended(supervisor, now)
            starts, unhealthy = starts + 1, unhealthy + again.unhealthy
            self.assertEqual(again.attempt, starts)
            now += again.delay
        self.assertEqual((starts, unhealthy), (15, 1))

    def test_stable_run_resets_pause_and_report(self) -> None:
        supervisor = Supervisor()
        for now in (0.0, 1.0, 2.0):
            supervisor.ready(now)
            self.ended(supervisor, now)
        supervisor.ready(100.0)
        self.assertEqual(self.ended(supervisor, 159.9).delay, 8, "a short run does not reset the pause")
        supervisor.ready(200.0)
        self.assertEqual(self.ended(supervisor, 260.0).delay, 1)
        again = [self.ended(supervisor, 261.0), self.ended(supervisor, 262.0)]
        self.assertEqual([one.unhealthy for one in again], [False, True], "a new crash loop is reported again")

    def test_crashes_outside_the_window_are_not_unhealthy(self) -> None:
        supervisor = Supervisor(Restart())
        self.assertFalse(any(self.ended(supervisor, now).unhealthy for now in (0.0, 31.0, 61.0, 92.0, 122.0)))
        self.assertTrue(self.ended(supervisor, 123.0).unhealthy)


class Desired(unittest.TestCase):
    def test_replay_orders_access_rules_then_last_capabilities_then_topics(self) -> None:
        desired = DesiredState()
        desired.record({"type": "subscribe", "topic": "t"})
        desired.record({"type": "capabilities", "capabilities": ["a"]})
        desired.record({"type": "block", "peerId": "0xA"})
        desired.record({"type": "capabilities", "capabilities": ["b"]})
        self.assertEqual(
            desired.replay(),
            [
                {"type": "block", "peerId": "0xA"},
                {"type": "capabilities", "capabilities": ["b"]},
                {"type": "subscribe", "topic": "t"},
            ],
        )


class Constants(unittest.TestCase):
    def test_each_code_is_its_own_name_and_equals_the_code_of_an_error(self) -> None:
        codes = {name: code for name, code in vars(p2p_node.ErrorCode).items() if name.isupper()}
        self.assertEqual(list(codes), list(codes.values()))
        self.assertLessEqual(set(types.RETRYABLE), set(codes))
        self.assertEqual(NodeClosed().code, p2p_node.ErrorCode.CLOSED)
        self.assertEqual((p2p_node.DEFAULT_PRIORITY["vote"], p2p_node.DEFAULT_PRIORITY["ping"]), ("high", "low"))


class Help(unittest.TestCase):
    def test_help_of_open_shows_options_with_defaults(self) -> None:
        said = pydoc.render_doc(p2p_node.open)
        for words in ("bootstrap_peers: 'Sequence[str]' = ()", "call_timeout: 'float' = 30.0", "Times are in seconds"):
            self.assertIn(words, said)
        self.assertNotIn("OptionsOf", said)


if __name__ == "__main__":
    unittest.main()
