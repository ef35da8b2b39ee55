"""Invalid arguments and the advice of their errors."""

from __future__ import annotations

import datetime
import decimal
import math
import unittest
from collections.abc import Awaitable, Callable
from typing import Any

import p2p_node
from p2p_node.arguments import encode

from .common import TestCase, misbehaving

CYCLE: list[Any] = [1]
CYCLE.append({"again": CYCLE})
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


class Data(unittest.TestCase):
    def test_data_json_cannot_represent_error_names_the_path(self) -> None:
        cases: list[tuple[Any, str, str]] = [
            ({"when": datetime.datetime.now()}, "data.when", "isoformat"),
            ({"a": [1, {"b": math.nan}]}, "data.a[1].b", "nan"),
            (math.inf, "data", "inf"),
            ([b"raw"], "data[0]", "bytes as the whole"),
            ({"s": {1, 2}}, "data.s", "list"),
            (decimal.Decimal(1), "data", "str("),
            ({("a", "b"): 1}, "data", "key"),
            (CYCLE, "data[1].again", "contains itself"),
            ("half \ud800", "data", "surrogate"),
            ({"n": "\udfff"}, "data.n", "surrogate"),
            (object(), "data", "object"),
        ]
        for value, argument, words in cases:
            with self.subTest(argument=argument, words=words), self.assertRaises(p2p_node.InvalidArgument) as wrong:
                encode({"type": "send", "data": value})
            self.assertEqual((wrong.exception.argument, wrong.exception.code), (argument, "INVALID_ARGUMENT"))
            self.assertIn(words, str(wrong.exception))
            self.assertFalse(wrong.exception.retryable)

    def test_data_nested_100_000_deep_error_names_data(self) -> None:
        with self.assertRaises(p2p_node.InvalidArgument) as wrong:
            encode({"type": "send", "data": DEEP})
        self.assertTrue(wrong.exception.argument.startswith("data[0]"))

    def test_data_json_can_represent_is_accepted(self) -> None:
        value = {"a": [1, 2.5, None, True, "é\u2028😀", (1,)], "b": {}}
        self.assertIn('"b":{}', encode({"data": value}).decode())


class Calls(TestCase):
    async def test_call_with_wrong_argument_error_names_it_and_nothing_is_written(self) -> None:
        async with misbehaving("good") as node:
            messages: Any = node.messages()
            await (await node.send("0xB", 1)).delivered()
            message = await anext(messages)
            wrong: Any = node
            calls: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
                ("to", lambda: wrong.send(message, 1)),
                ("to", lambda: wrong.send(["0xB"], 1)),
                ("data.x", lambda: wrong.send("0xB", {"x": {1}})),
                ("ttl", lambda: wrong.send("0xB", 1, ttl=datetime.timedelta(seconds=1))),
                ("ttl", lambda: wrong.send("0xB", 1, ttl=-1)),
                ("ttl", lambda: wrong.send("0xB", 1, ttl=math.nan)),
                ("kind", lambda: wrong.send("0xB", 1, kind=7)),
                ("reply_to", lambda: wrong.send("0xB", 1, reply_to=message)),
                ("timeout", lambda: wrong.send("0xB", 1, timeout="5")),
                ("message", lambda: wrong.reply("0xB", 1)),
                ("messages[0]", lambda: wrong.ack([message])),
                ("messages[0]", lambda: wrong.ack(message.message_id)),
                ("topic", lambda: wrong.subscribe(["a"])),
                ("topic", lambda: wrong.publish(None, 1)),
                ("peer", lambda: wrong.block(message)),
                ("command", lambda: wrong.request("ping")),
                ("look_for", lambda: wrong.discover(look_for="2")),
                ("timeout", lambda: wrong.joined(timeout=None)),
                ("quiet", lambda: wrong.caught_up(quiet="x")),
            ]
            for argument, call in calls:
                with self.subTest(argument=argument), self.assertRaises(p2p_node.InvalidArgument) as error:
                    await call()
                self.assertEqual(error.exception.argument, argument)
            child = node._supervised.child
            assert child is not None
            self.assertEqual(child.channel.outstanding, 0)

    async def test_stream_or_node_used_without_async_error_gives_advice(self) -> None:
        async with misbehaving("good") as node:
            stream: Any = node.messages()
            with self.assertRaisesRegex(p2p_node.InvalidArgument, "async for"):
                for _ in stream:
                    pass
        with self.assertRaisesRegex(p2p_node.InvalidArgument, "async with"):
            opening: Any = misbehaving("good")
            with opening:
                pass

    def test_open_with_wrong_option_error_names_it(self) -> None:
        cases: list[tuple[str, dict[str, Any]]] = [
            ("bootstrap_peers", {"bootstrap_peers": "/ip4/127.0.0.1/tcp/1"}),
            ("bootstrap_peers", {"bootstrap_peers": 7}),
            ("bootstrap_peers[1]", {"bootstrap_peers": ["a", None]}),
            ("args", {"args": "--seed"}),
            ("port", {"port": "4001"}),
            ("port", {"port": 70_000}),
            ("name", {"name": 7}),
            ("private_key", {"private_key": b"\x01" * 32}),
            ("env", {"env": [("A", "b")]}),
            ("env['A']", {"env": {"A": 1}}),
            ("mail_buffer", {"mail_buffer": 0}),
            ("ready_timeout", {"ready_timeout": None}),
            ("close_timeouts", {"close_timeouts": 5}),
            ("close_timeouts", {"close_timeouts": (5,)}),
            ("close_timeouts[1]", {"close_timeouts": (5, "2")}),
            ("ack", {"ack": True}),
            ("restart", {"restart": True}),
            ("on_stderr", {"on_stderr": "log"}),
            ("data_dir", {"data_dir": 7}),
        ]
        for argument, options in cases:
            with self.subTest(argument=argument), self.assertRaises(p2p_node.InvalidArgument) as error:
                p2p_node.open(**options)
            self.assertEqual(error.exception.argument, argument)
        with self.assertRaises(p2p_node.InvalidArgument) as secret:
            p2p_node.open(private_key=0xDEADBEEF)  # type: ignore[arg-type]
        self.assertNotIn("3735928559", str(secret.exception))


if __name__ == "__main__":
    unittest.main()
