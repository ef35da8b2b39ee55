"""Failed starts and their errors."""

from __future__ import annotations

import os
import shutil
import struct
import sys
import unittest
from pathlib import Path

import p2p_node
from p2p_node import binary

from .common import QUICK, TestCase, binary as node_binary, real


class FailedStart(TestCase):
    async def test_open_with_invalid_key_raises_the_error_of_the_node(self) -> None:
        with self.assertRaises(p2p_node.StartFailed) as failed:
            await real(self.home, env={"PRIVATE_KEY": "zz"})
        error = failed.exception
        self.assertEqual((error.code, error.exit), ("IDENTITY_INVALID", p2p_node.Exit(code=78)))
        assert error.report is not None
        self.assertIn("PRIVATE_KEY", error.report.message)
        self.assertIn(error.report.message, str(error))
        self.assertTrue(str(error).startswith("IDENTITY_INVALID: "), str(error))

    async def test_open_with_unknown_flag_error_quotes_stderr(self) -> None:
        with self.assertRaises(p2p_node.StartFailed) as failed:
            await real(self.home, args=["--nonsense"])
        self.assertEqual(failed.exception.exit, p2p_node.Exit(code=64))
        self.assertIn("--nonsense", str(failed.exception))

    async def test_open_with_port_in_use_raises_rejection_and_exit(self) -> None:
        async with real(self.home) as first:
            port = int(first.ready.addrs[0].split("/")[4])
            with self.assertRaises(p2p_node.StartFailed) as failed:
                await real(self.home, port=port)
        self.assertEqual((failed.exception.code, failed.exception.retryable), ("LISTEN_FAILED", True))

    async def test_open_with_missing_cwd_error_names_it(self) -> None:
        with self.assertRaises(p2p_node.InvalidArgument) as failed:
            await p2p_node.open(binary=node_binary(), cwd="/nowhere", restart=QUICK)
        self.assertEqual(failed.exception.argument, "cwd")


class UnusableBinary(TestCase):
    async def reason(self, path: str | Path) -> str:
        with self.assertRaises(p2p_node.BinaryUnusable) as failed:
            await p2p_node.open(binary=path, restart=QUICK)
        self.assertEqual((failed.exception.code, failed.exception.path), ("BINARY_UNUSABLE", str(path)))
        self.assertIn(str(path), str(failed.exception))
        return failed.exception.reason

    def file(self, content: bytes, mode: int = 0o755) -> Path:
        path = Path(self.home, "p2p-node")
        path.write_bytes(content)
        path.chmod(mode)
        return path

    async def test_binary_that_is_no_program_error_gives_the_reason(self) -> None:
        cases = {
            "empty": b"",
            "not_a_program": b"<!DOCTYPE html><html></html>\n",
            "wrong_architecture": b"MZ" + bytes(100),
            "truncated": Path(sys.executable).resolve().read_bytes()[:40],
        }
        for reason, content in cases.items():
            self.assertEqual(await self.reason(self.file(content)), reason)
        self.assertEqual(await self.reason(self.file(b"#!/nowhere/sh\n")), "missing_interpreter")
        self.assertEqual(await self.reason(self.file(b"#!/bin/sh\n", mode=0o644)), "not_executable")
        self.assertEqual(await self.reason(self.home), "not_a_file")

    async def test_binary_cut_at_any_length_is_truncated(self) -> None:
        whole = Path("/bin/sh").resolve().read_bytes()
        for length in (4, 63, 64, 100, 1000, 4096, len(whole) // 2, len(whole) - 1):
            path = self.file(whole[:length])
            with self.subTest(length=length):
                self.assertEqual(binary._fault(path), ("truncated", "the file is incomplete: install it again"))
        self.assertIsNone(binary._fault(self.file(whole)))

    async def test_binary_for_other_machine_or_libc_error_gives_the_reason(self) -> None:
        whole = bytearray(Path("/bin/sh").resolve().read_bytes())
        other = whole.copy()
        struct.pack_into("<H", other, 18, 183 if os.uname().machine == "x86_64" else 62)
        self.assertEqual(await self.reason(self.file(bytes(other))), "wrong_architecture")
        at = whole.index(b"/ld-")
        whole[at : at + 4] = b"/no-"
        self.assertEqual(await self.reason(self.file(bytes(whole))), "missing_loader")

    async def test_silent_program_that_exits_with_0_fails_the_start(self) -> None:
        with self.assertRaises(p2p_node.StartFailed) as failed:
            await p2p_node.open(binary=self.file(b"#!/bin/sh\n"), restart=QUICK)
        self.assertEqual(failed.exception.exit, p2p_node.Exit(code=0))

    def test_random_file_content_raises_no_other_exception(self) -> None:
        import random

        chance = random.Random(7)
        whole = Path("/bin/sh").resolve().read_bytes()[:4096]
        for _ in range(500):
            content = bytearray(whole[: chance.randrange(len(whole))])
            for _ in range(chance.randrange(8)):
                if content:
                    content[chance.randrange(min(len(content), 256))] = chance.randrange(256)
            binary._fault(self.file(bytes(content)))

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("unshare"), "a mount needs root")
    def test_binary_on_noexec_mount_error_gives_the_reason(self) -> None:
        import subprocess

        script = (
            f"mount -t tmpfs -o noexec none {self.home} && cp /bin/sh {self.home}/x && "
            f"exec {sys.executable} -c 'import sys; from pathlib import Path; from p2p_node import binary; "
            f"print(binary._fault(Path(sys.argv[1]))[0])' {self.home}/x"
        )
        source = str(Path(binary.__file__).parents[1])
        run = subprocess.run(
            ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": source}
        )
        if run.returncode != 0 and "mount" in run.stderr:
            self.skipTest("no mounts here")
        self.assertEqual(run.stdout.strip(), "noexec", run.stderr)


if __name__ == "__main__":
    unittest.main()
