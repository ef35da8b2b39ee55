"""A fork of the program inherits the node object and must not use it."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import unittest
from collections.abc import Callable, Coroutine
from typing import Any

import p2p_node

from .common import PATIENCE, TestCase, is_alive, misbehaving


def in_a_fork(work: Callable[[], Any]) -> Any:
    """Returns the result of `work` in a fork of this process. The fork exits without cleanup."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, pickle.dumps(work()))
        except BaseException as error:
            os.write(write, pickle.dumps(repr(error)))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        result = pickle.loads(pipe.read())
    os.waitpid(pid, 0)
    return result


def code_of(call: Coroutine[Any, Any, Any]) -> str:
    """Runs a call in a new event loop and returns the code of its error."""
    try:
        # The fork inherits the mark that the parent's loop runs in this thread; this clears it.
        asyncio.events._set_running_loop(None)
        asyncio.run(asyncio.wait_for(call, PATIENCE))
    except p2p_node.P2PError as error:
        return error.code
    return "none"


class Forks(TestCase):
    async def test_calls_in_a_fork_raise_forked_and_the_parent_keeps_the_node(self) -> None:
        async with misbehaving("good") as node:
            messages, events = node.messages(), node.events()
            calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
                lambda: node.send("0xB", 1),
                lambda: node.ping(),
                lambda: node.joined(timeout=1),
                lambda: node.close(),
                lambda: messages.__anext__(),
                lambda: events.__anext__(),
            ]
            codes = in_a_fork(lambda: [code_of(call()) for call in calls])
            self.assertEqual(codes, ["FORKED"] * len(calls))
            await node.ping()
            await (await node.send("0xB", 1)).delivered()

    async def test_finalizers_in_a_fork_do_not_affect_the_node(self) -> None:
        async with misbehaving("burst") as node:
            messages = node.messages()
            first = await anext(messages)
            pid = node.pid
            assert pid is not None

            def drop() -> str:
                nonlocal node, messages
                node._supervised.abandon()
                del messages, node
                gc.collect()
                return "dropped"

            self.assertEqual(in_a_fork(drop), "dropped")
            self.assertTrue(is_alive(pid))
            await node.ping()
            self.assertNotEqual((await anext(messages)).message_id, first.message_id)


if __name__ == "__main__":
    unittest.main()
