"""`joined` and `caught_up`."""

from __future__ import annotations

import asyncio
import time
import unittest

import p2p_node

from .common import PATIENCE, TestCase, misbehaving, real

#: An address without a listener: port 1 of this machine.
DEAD = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"


class Joining(TestCase):
    async def test_joined_with_unreachable_bootstrap_peer_error_names_peer_and_cause(self) -> None:
        async with real(self.home, bootstrap_peers=[DEAD]) as node:
            with self.assertRaises(p2p_node.NotJoined) as failed:
                await node.joined(timeout=2)
        error = failed.exception
        self.assertEqual((error.code, error.retryable, error.tried), ("NOT_JOINED", True, [DEAD]))
        self.assertIn(DEAD, str(error))
        self.assertIn("cannot be reached", str(error))

    async def test_joined_returns_when_the_first_peer_connects(self) -> None:
        async with real(self.home, name="alice") as alice:
            waiting = asyncio.ensure_future(alice.joined(timeout=PATIENCE))
            await asyncio.sleep(0)
            async with real(self.home, bootstrap_peers=[alice.ready.addrs[0]]) as bob:
                await bob.joined(timeout=PATIENCE)
                peers = await waiting
                self.assertEqual([peer.peer_id for peer in peers], [bob.ready.peer_id])

    async def test_joined_during_restart_pause_raises_not_joined_after_timeout(self) -> None:
        async with misbehaving("crash", restart=p2p_node.Restart(first=1000, max=1000)) as node:
            with self.assertRaises(p2p_node.SidecarRestarted):
                await node.send("0xB", 1)
            with self.assertRaises(p2p_node.NotJoined):
                await node.joined(timeout=0.05)

    async def test_joined_after_close_raises_closed(self) -> None:
        node = await misbehaving("good")
        await node.close()
        with self.assertRaises(p2p_node.NodeClosed):
            await node.joined()


class CaughtUp(TestCase):
    async def test_loop_until_caught_up_reads_all_pending_mail_and_ends(self) -> None:
        async with real(self.home, data_dir=f"{self.home}/alice", private_key="0x" + "a1" * 32) as alice, real(
            self.home, bootstrap_peers=[alice.ready.addrs[0]]
        ) as bob:
            address, port = alice.address, int(alice.ready.addrs[0].split("/")[4])
            await bob.discover(address=address, look_for=20)
            await alice.close()
            mails = [await bob.send(address, number, ttl=60) for number in range(300)]
            async with real(
                self.home,
                data_dir=f"{self.home}/alice",
                private_key="0x" + "a1" * 32,
                port=port,
                bootstrap_peers=[bob.ready.addrs[0]],
                mail_buffer=16,
            ) as again:
                took = [message.data async for message in again.messages(until_caught_up=True)]
                self.assertEqual(took, list(range(300)))
                for mail in mails:
                    await mail.delivered(PATIENCE)

    async def test_loop_until_caught_up_without_peer_raises_not_joined(self) -> None:
        async with real(self.home, bootstrap_peers=[DEAD]) as node:
            stream = node.messages()
            stream._until = lambda: node._catch_up(1, 0.5, None)
            with self.assertRaises(p2p_node.NotJoined):
                async for _ in stream:
                    self.fail("the stream yielded a message")

    async def test_caught_up_with_unread_mail_waits_for_the_program(self) -> None:
        async with real(self.home) as alice, real(self.home, bootstrap_peers=[alice.ready.addrs[0]]) as bob:
            mail = await bob.send(alice.address, 1)
            messages = alice.messages()
            await asyncio.wait_for(anext(messages), PATIENCE)
            await bob.send(alice.address, 2)
            with self.assertRaises(p2p_node.CallTimeout):
                await alice.caught_up(quiet=0.1, timeout=1)
            await anext(messages)
            began = time.monotonic()
            await alice.caught_up(quiet=0.2, timeout=PATIENCE)
            self.assertLess(time.monotonic() - began, PATIENCE / 2)
            await mail.delivered(PATIENCE)


if __name__ == "__main__":
    unittest.main()
