"""Tests with the real binary."""

from __future__ import annotations

import asyncio
import os
import signal
import unittest

import p2p_node

from .common import PATIENCE, TestCase, is_alive, open_files, real, until


async def take_all(node: p2p_node.Node) -> None:
    async for _ in node.messages():
        pass


class Real(TestCase):
    async def test_two_nodes_exchange_mail_broadcasts_and_access_rules(self) -> None:
        async with real(self.home, name="alice") as alice, real(
            self.home, name="bob", bootstrap_peers=[alice.ready.addrs[0]]
        ) as bob:
            found = await bob.discover(address=alice.address, look_for=20)
            self.assertEqual((found[0].name, found.complete), ("alice", True))
            to_alice, to_bob = alice.messages(), bob.messages()
            mail = await bob.send(alice.address, {"n": [1, 2.5, None]}, kind="greeting", conversation_id="c", ttl=60)
            message = await anext(to_alice)
            self.assertEqual((message.sender, message.data, message.kind), (bob.address, {"n": [1, 2.5, None]}, "greeting"))
            await alice.ack(message)
            self.assertEqual((await mail.delivered()).message_id, message.message_id)
            await alice.reply(message, b"\x00\xff")
            answer = await anext(to_bob)
            self.assertEqual(p2p_node.content(answer), b"\x00\xff")
            self.assertEqual((answer.reply_to, answer.conversation_id), (mail.message_id, "c"))
            await bob.subscribe("news")
            await alice.publish("news", [1])
            self.assertEqual((await anext(to_bob)).topic, "news")
            self.assertEqual([peer.address for peer in await alice.peers()], [bob.address])
            await alice.block(bob.address)
            with self.assertRaises(p2p_node.Undelivered) as refused:
                await (await bob.send(alice.address, 1)).delivered()
            self.assertEqual((refused.exception.code, refused.exception.delivery.state), ("PEER_REJECTED", "rejected"))
            await alice.unblock(bob.address)
            await alice.allow(bob.address)
            mail = await bob.send(alice.address, 2)
            async with to_alice:
                self.assertEqual((await anext(to_alice)).trust, "allowed")
            await mail.delivered()
            self.assertEqual((await alice.status()).peers, 1)
            with self.assertRaises(p2p_node.CommandRefused) as bad:
                await bob.send("nobody", 1)
            self.assertFalse(bad.exception.retryable)
            with self.assertRaises(p2p_node.CommandRefused) as missing:
                await bob.registry(alice.address)
            self.assertEqual(missing.exception.code, "NO_REGISTRY")
            answer2 = await bob.request({"type": "ping"})
            self.assertIsNotNone(answer2.time_ms)

    async def test_mail_without_ack_is_redelivered_and_delivered_after_ack(self) -> None:
        home = os.path.join(self.home, "alice")
        async with real(self.home, ack="manual", data_dir=home) as alice, real(
            self.home, bootstrap_peers=[alice.ready.addrs[0]]
        ) as bob:
            to_alice = alice.messages()
            mail = await bob.send(alice.address, "work", ttl=60)
            first = await anext(to_alice)
            self.assertFalse(first.redelivered)
            assert alice.pid is not None
            os.kill(alice.pid, signal.SIGKILL)
            again = await asyncio.wait_for(anext(to_alice), PATIENCE)
            self.assertEqual((again.message_id, again.redelivered), (first.message_id, True))
            await alice.ack(again)
            await mail.delivered(PATIENCE)
            with self.assertRaises(p2p_node.CommandRefused) as twice:
                await alice.ack(again)
            self.assertEqual(twice.exception.code, "MESSAGE_NOT_FOUND")

    async def test_second_node_with_same_identity_is_rejected(self) -> None:
        key = "0x" + "b1" * 32
        async with real(self.home, private_key=key):
            with self.assertRaises(p2p_node.SidecarExited) as taken:
                await real(self.home, private_key=key)
            self.assertEqual(taken.exception.exit, p2p_node.Exit(code=73))

    async def test_node_killed_twenty_times_is_restored(self) -> None:
        async with real(self.home, name="bob") as bob:
            before = open_files()
            async with real(self.home, name="alice", bootstrap_peers=[bob.ready.addrs[0]]) as alice:
                address, addrs, pids = alice.address, alice.ready.addrs, set()
                await alice.subscribe("news")
                events, messages = alice.events(), alice.messages()
                taking = asyncio.ensure_future(take_all(bob))
                for round in range(20):
                    pid = alice.pid
                    assert pid is not None
                    pids.add(pid)
                    # The SDK reports a send in progress at the kill and never repeats it.
                    mail = await alice.send("0x000000000000000000000000000000000000dEaD", round)
                    os.kill(pid, signal.SIGKILL)
                    with self.assertRaises(p2p_node.SidecarRestarted) as lost:
                        await mail.delivered(PATIENCE)
                    self.assertFalse(lost.exception.retryable)
                    while not isinstance(event := await asyncio.wait_for(anext(events), PATIENCE), p2p_node.Restarted):
                        pass
                    self.assertEqual((event.ready.address, event.ready.addrs), (address, addrs))
                    self.assertFalse(is_alive(pid))
                    # Mail works in both directions, and the subscription is restored.
                    to_alice = await bob.send(address, round)
                    await (await alice.send(bob.address, round)).delivered(PATIENCE)
                    message = await asyncio.wait_for(anext(messages), PATIENCE)
                    self.assertEqual((message.topic, message.data), (None, round))
                    await alice.ack(message)
                    await to_alice.delivered(PATIENCE)
                    await bob.publish("news", round)
                    message = await asyncio.wait_for(anext(messages), PATIENCE)
                    self.assertEqual((message.topic, message.data), ("news", round))
                taking.cancel()
                self.assertEqual(len(pids), 20)
            await until("all files are closed", lambda: open_files() == before)


if __name__ == "__main__":
    unittest.main()
