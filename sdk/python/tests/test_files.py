"""Files of messages, between real nodes."""

from __future__ import annotations

import os
from pathlib import Path

import p2p_node
from p2p_node import CommandRefused, InvalidArgument

from .common import TestCase, real


class Files(TestCase):
    async def test_file_arrives_whole_with_its_message(self) -> None:
        content = os.urandom(3 << 20)
        Path(self.home, "a file.bin").write_bytes(content)
        flags = ["--files-dir", str(Path(self.home, "received"))]
        async with real(self.home) as sender:
            async with real(self.home, args=flags, bootstrap_peers=sender.ready.addrs[:1]) as other:
                # A relative path belongs to the working directory of the program.
                path = os.path.relpath(Path(self.home, "a file.bin"))
                sent = await sender.send(other.address, {"note": 1}, file=path)
                async for message in other.messages():
                    file = message.file
                    assert file is not None
                    self.assertEqual((message.message_id, message.data), (sent.message_id, {"note": 1}))
                    self.assertEqual((file.size, file.name), (len(content), "a file.bin"))
                    self.assertEqual(Path(file.path).read_bytes(), content)
                    break
                await other.ack(message)
                await sent.delivered()
                async for event in other.events():
                    if isinstance(event, p2p_node.Transfer):
                        self.assertEqual((event.direction, event.message_id), ("receive", sent.message_id))
                        self.assertEqual(event.bytes, event.total)
                        break

    async def test_file_that_cannot_be_read_is_refused(self) -> None:
        async with real(self.home) as node:
            to = "0x" + "11" * 20
            with self.assertRaises(CommandRefused) as refused:
                await node.send(to, file=Path(self.home, "missing"))
            self.assertEqual(refused.exception.code, "FILE_UNAVAILABLE")
            with self.assertRaises(InvalidArgument):
                await node.send(to, file=b"bytes")  # type: ignore[arg-type]
