"""Processes that share one node."""

from __future__ import annotations

import os
import signal
import socket
import struct
from pathlib import Path

import p2p_node

from .common import TestCase, real


def owner(path: Path) -> int:
    """Returns the process that listens at a socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


class Shared(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.home, "shared.sock")
        self.addCleanup(self.end_daemon)

    def end_daemon(self) -> None:
        if self.path.exists():
            os.kill(owner(self.path), signal.SIGTERM)

    async def test_shared_node_is_started_once_and_outlives_its_users(self) -> None:
        async with real(self.home, shared=True, socket=self.path) as first:
            async with real(self.home, shared=True, socket=self.path) as second:
                self.assertEqual(first.address, second.address)
            daemon = owner(self.path)
        async with real(self.home, shared=True, socket=self.path) as third:
            self.assertEqual(third.address, first.address)
            self.assertEqual(owner(self.path), daemon)

    async def test_each_message_of_a_group_reaches_one_process_and_its_ack_the_sender(self) -> None:
        async with (
            real(self.home, shared=True, socket=self.path, group="workers") as one,
            real(self.home, socket=self.path, group="workers") as two,
            real(self.home, socket=self.path, inbox=False) as silent,
            real(self.home, bootstrap_peers=one.ready.addrs, env={"P2P_NODE_LOCK_SCOPE": "other"}) as sender,
        ):
            sent = [await sender.send(one.address, number) for number in range(4)]
            got = []
            for node in (one, two):
                messages = node.messages()
                for _ in range(2):
                    message = await anext(messages)
                    got.append(message.data)
                    await node.ack(message)
            self.assertEqual(sorted(got), [0, 1, 2, 3])
            for mail in sent:
                self.assertEqual((await mail.delivered()).state, "delivered")
            self.assertEqual(silent.address, one.address)

    async def test_connect_without_a_node_fails(self) -> None:
        with self.assertRaises(p2p_node.StartFailed) as failed:
            await real(self.home, socket=self.path, restart=None)
        self.assertEqual(failed.exception.code, "NOT_CONNECTED")
        with self.assertRaises(p2p_node.InvalidArgument):
            p2p_node.connect(self.path, inbox="no")
