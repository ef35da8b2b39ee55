"""Heavy load with the real binary: a message is reported delivered only if the program read it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Coroutine
from typing import Any, TypeVar

import p2p_node
from p2p_node.child import mark_retrieved

from .common import PATIENCE, ROOT, TestCase, binary, real, until

T = TypeVar("T")

#: Timeout in seconds of a test with thousands of messages, for a debug build on a busy machine.
LOAD_PATIENCE = 200.0


def begun(call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Starts a task whose error the event loop does not log."""
    task = asyncio.ensure_future(call)
    task.add_done_callback(mark_retrieved)
    return task


async def accepted(node: p2p_node.Node, to: str, data: Any, **more: Any) -> p2p_node.SentMessage:
    """Sends a message; repeats it while the node answers `BUSY`."""
    while True:
        try:
            return await node.send(to, data, timeout=LOAD_PATIENCE, **more)
        except p2p_node.CommandRefused as error:
            if error.code != "BUSY":
                raise
            await asyncio.sleep(0.5)


async def outcome(node: p2p_node.Node, to: str, data: Any, **more: Any) -> str:
    """Sends a message and returns the final state of its delivery."""
    mail = await accepted(node, to, data, **more)
    try:
        return (await mail.delivered()).state
    except p2p_node.Undelivered as error:
        return error.delivery.state


class Load(TestCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        # Turns off asyncio's debug mode, which is many times slower.
        asyncio.get_running_loop().set_debug(False)

    async def test_slow_program_reads_every_message_reported_delivered(self) -> None:
        count = 5000
        async with real(self.home) as slow, real(self.home, bootstrap_peers=[slow.ready.addrs[0]]) as sender:
            taken: list[int] = []

            async def work() -> None:
                async for message in slow.messages():
                    await slow.ping()
                    taken.append(message.data)

            working = begun(work())
            pids = slow.pid, sender.pid
            sends = [begun(outcome(sender, slow.address, number)) for number in range(count)]
            states = await asyncio.wait_for(asyncio.gather(*sends), LOAD_PATIENCE)
            self.assertEqual(states.count("delivered"), count)
            self.assertEqual(taken, list(range(count)), "each message once, in order")
            self.assertEqual((slow.mail_dropped, slow.acks_not_found), (0, 0))
            self.assertEqual((slow.pid, sender.pid), pids)
            working.cancel()

    async def test_mail_unfinished_at_kill_of_program_is_not_reported_delivered(self) -> None:
        script = """
            import asyncio, os, p2p_node
            async def main():
                async with p2p_node.open(port=0) as node:
                    print(node.address, node.ready.addrs[0], flush=True)
                    async for message in node.messages():
                        await node.ping()
                        if message.data == 700:
                            os.kill(os.getpid(), 9)
                        print(message.data, flush=True)
            asyncio.run(main())
        """
        env = {**os.environ, "PYTHONPATH": str(ROOT / "sdk/python/src"), "P2P_NODE_BIN": binary()}
        program = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)],
            cwd=self.home,
            env={**env, "XDG_RUNTIME_DIR": self.home, "P2P_NODE_NETWORK": "dev", "NETWORK": "dev"},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(program.communicate)
        self.addCleanup(program.kill)
        assert program.stdout is not None
        address, addr = program.stdout.readline().split()
        async with real(self.home, bootstrap_peers=[addr]) as sender:
            sends = [begun(outcome(sender, address, number, ttl=8)) for number in range(1000)]
            finished = [int(line) for line in await asyncio.to_thread(program.stdout.readlines)]
            self.assertEqual(finished, list(range(700)))
            states = await asyncio.wait_for(asyncio.gather(*sends), LOAD_PATIENCE)
            delivered = {number for number, state in enumerate(states) if state == "delivered"}
            self.assertLessEqual(delivered, set(finished))
            self.assertGreater(len(delivered), 0)

    async def test_broadcast_flood_drops_no_mail(self) -> None:
        async with real(self.home, broadcast_buffer=5, event_buffer=5) as slow, real(
            self.home, bootstrap_peers=[slow.ready.addrs[0]]
        ) as sender:
            await slow.subscribe("noise")
            mails = [await accepted(sender, slow.address, number) for number in range(50)]
            for number in range(500):
                await sender.publish("noise", number)
            messages, events = slow.messages(), slow.events()
            taken, heard = list[int](), 0
            async for message in messages:
                heard += message.topic is not None
                if message.topic is None:
                    taken.append(message.data)
                if len(taken) == 50:
                    await slow.ack(message)
                    break
            self.assertEqual(taken, list(range(50)))
            for mail in mails:
                await mail.delivered(PATIENCE)
            while not isinstance(await anext(events), p2p_node.Ready):
                pass

    async def test_two_agents_that_send_4000_messages_before_they_read_both_finish(self) -> None:
        count = 4000
        async with real(self.home, ack="manual") as alice, real(
            self.home, ack="manual", bootstrap_peers=[alice.ready.addrs[0]]
        ) as bob:
            pids = alice.pid, bob.pid

            async def agent(node: p2p_node.Node, to: str) -> None:
                data, taken = "x" * 1000, set[str]()
                sends = [begun(outcome(node, to, f"{number} {data}")) for number in range(count)]
                # Neither agent reads before its node has answered the first sends, or `BUSY`.
                await asyncio.sleep(3)
                async for message in node.messages():
                    taken.add(message.data)
                    await node.ack(message)
                    if len(taken) == count:
                        break
                self.assertEqual({*await asyncio.gather(*sends)}, {"delivered"})

            await asyncio.wait_for(asyncio.gather(agent(alice, bob.address), agent(bob, alice.address)), LOAD_PATIENCE)
            self.assertEqual((alice.pid, bob.pid), pids, "no node was killed")

    async def test_recipient_that_reads_nothing_delays_neither_node_nor_others(self) -> None:
        async with real(self.home, mail_buffer=10) as stuck, real(
            self.home, bootstrap_peers=[stuck.ready.addrs[0]]
        ) as other, real(self.home, bootstrap_peers=[stuck.ready.addrs[0], other.ready.addrs[0]]) as sender:
            pid = sender.pid
            taken: list[int] = []

            async def take() -> None:
                async for message in other.messages():
                    taken.append(message.data)

            taking = begun(take())
            flood = [begun(accepted(sender, stuck.address, "x" * 1000)) for _ in range(4000)]
            await until("the stuck recipient has unread mail", lambda: len(stuck._supervised.mailbox._waiting) > 0)
            for number in range(100):
                await sender.ping(timeout=2)
                await asyncio.wait_for(outcome(sender, other.address, number), PATIENCE)
            self.assertEqual((taken, sender.pid), (list(range(100)), pid))
            for one in (taking, *flood):
                one.cancel()
            await asyncio.wait([taking, *flood])
            self.assertIn(len(await stuck.close()), range(1, 11))
