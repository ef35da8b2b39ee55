"""The examples that people start from."""

from __future__ import annotations

import os
import subprocess
import sys

from .common import PATIENCE, ROOT, TestCase, binary


class Examples(TestCase):
    def run_example(self, name: str) -> str:
        env = {**os.environ, "P2P_NODE_BIN": binary(), "PYTHONPATH": str(ROOT / "sdk/python/src"), "P2P_NODE_LOCK_SCOPE": self.home}
        script = ROOT / "examples/python" / name
        run = subprocess.run(
            [sys.executable, str(script)], env=env, cwd=self.home, capture_output=True, text=True, timeout=PATIENCE
        )
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        return run.stdout

    async def test_two_agents_chat(self) -> None:
        lines = self.run_example("chat.py").splitlines()
        self.assertEqual(len(lines), 6)
        self.assertIn("alice hears: Not a packet lost.", lines)
        self.assertIn("bob hears: Goodbye!", lines)

    async def test_requests_are_answered(self) -> None:
        out = self.run_example("request_reply.py")
        self.assertEqual(out.splitlines()[:2], ["7 squared: {'result': 49}", "12 squared: {'result': 144}"])
        self.assertIn("'error'", out)
