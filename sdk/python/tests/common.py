"""Helpers that several tests share."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import p2p_node
from p2p_node.client import OpenContext

ROOT = Path(__file__).resolve().parents[3]
CHILD = str(ROOT / "sdk/testing/child.sh")
#: Timeout in seconds, longer than any step of a test. A passing test never waits this long.
PATIENCE = 30.0
#: Makes the child report a longest pause of 60 ms, so that it counts as stuck after 0.3 s.
IMPATIENT = {"MAX_PAUSE_MS": "60"}
#: A restart policy with short pauses.
QUICK = p2p_node.Restart(first=0.02, max=0.1)


def binary() -> str:
    named = os.environ.get("P2P_NODE_BIN")
    if not named:
        raise unittest.SkipTest("P2P_NODE_BIN does not name a binary")
    return named


def misbehaving(mode: str, **options: Any) -> OpenContext:
    """Opens a node whose process is the fake child in this mode."""
    options = {"binary": CHILD, "args": [mode], "restart": QUICK, **options}
    return Standing(p2p_node.Options(**options))


def logging(home: str, mode: str, **options: Any) -> tuple[OpenContext, Callable[[], list[dict[str, Any]]]]:
    """As `misbehaving`, with a function that returns the commands written to the child."""
    log, script = Path(home, f"{mode}.log"), Path(home, mode)
    log.touch()
    script.write_text(f"#!/bin/bash\nexec {CHILD} {mode} < <(tee -a {log})\n")
    script.chmod(0o755)
    return misbehaving(mode, binary=script, **options), lambda: [json.loads(line) for line in log.read_text().splitlines()]


class Standing(OpenContext):
    """Passes only `args` to the fake child: its first argument is the mode."""

    def __init__(self, options: p2p_node.Options) -> None:
        options.command_line = lambda: list(options.args)  # type: ignore[method-assign]
        super().__init__(options)


def real(home: str, **options: Any) -> OpenContext:
    """Opens a real node on the `dev` network of this machine."""
    env = {"P2P_NODE_NETWORK": "dev", "P2P_NODE_LOCK_SCOPE": home, "P2P_NODE_RENDEZVOUS": "off", **options.pop("env", {})}
    return p2p_node.open(**{"binary": binary(), "env": env, "cwd": home, "port": 0, "restart": QUICK, **options})


async def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE:g} s: {what}")
        await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


class TestCase(unittest.IsolatedAsyncioTestCase):
    """A test with a temporary home for nodes. Fails on errors that only the event loop sees."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.home = directory.name
        self.unseen: list[dict[str, Any]] = []

    async def asyncSetUp(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: self.unseen.append(context))

    async def asyncTearDown(self) -> None:
        import gc

        gc.collect()
        await asyncio.sleep(0)
        self.assertEqual(self.unseen, [])
