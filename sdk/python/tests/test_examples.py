"""The example programs."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import runpy
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import p2p_node
from p2p_node.client import OpenContext

from .common import PATIENCE, ROOT, TestCase, binary, real, until


def readme_agent(open: Callable[..., OpenContext]) -> Callable[[], Coroutine[Any, Any, None]]:
    """Returns `main` of the second program in the README, with `open` replaced."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "sdk/python/README.md").read_text(), re.DOTALL)
    found: dict[str, Any] = {}
    exec(blocks[1].replace("asyncio.run(main())", ""), found)
    found["p2p_node"] = SimpleNamespace(**{**vars(p2p_node), "open": open})
    main: Callable[[], Coroutine[Any, Any, None]] = found["main"]
    return main


class Examples(TestCase):
    def env(self) -> dict[str, str]:
        return {**os.environ, "P2P_NODE_BIN": binary(), "PYTHONPATH": str(ROOT / "sdk/python/src"), "P2P_NODE_LOCK_SCOPE": self.home, "P2P_NODE_RENDEZVOUS": "off"}

    def start(self, name: str, *args: str) -> subprocess.CompletedProcess[str]:
        script = ROOT / "examples/python" / name
        return subprocess.run(
            [sys.executable, str(script), *args], env=self.env(), cwd=self.home, capture_output=True, text=True, timeout=PATIENCE
        )

    def run_example(self, name: str) -> str:
        run = self.start(name)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        return run.stdout

    async def test_hello_example_of_readme_needs_no_option(self) -> None:
        program = (ROOT / "examples/python/hello.py").read_text().split('"""\n\n', 1)[1]
        self.assertIn(f"```python\n{program}```", (ROOT / "sdk/python/README.md").read_text())
        # A runtime directory of its own stands for a user without other nodes.
        without = {name: value for name, value in self.env().items() if not name.startswith("P2P_NODE_")}
        env = {**without, "P2P_NODE_BIN": binary(), "XDG_RUNTIME_DIR": self.home}
        script = str(ROOT / "examples/python/hello.py")
        run = subprocess.run([sys.executable, script], env=env, cwd=self.home, capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertRegex(run.stdout, r"\A0x\w{40} says hello bob\nalice knows that it is delivered\n\Z")

    async def test_chat_example_prints_all_lines(self) -> None:
        lines = self.run_example("chat.py").splitlines()
        self.assertEqual(len(lines), 6)
        self.assertIn("alice hears: Not a packet lost.", lines)
        self.assertIn("bob hears: Goodbye!", lines)

    async def lose_a_node(self, name: str) -> list[str]:
        """Runs an example, kills one of its nodes after the first line, and returns all lines."""
        program = await asyncio.create_subprocess_exec(
            sys.executable, str(ROOT / "examples/python" / name), env=self.env(), cwd=self.home, stdout=asyncio.subprocess.PIPE
        )
        assert program.stdout is not None
        first = await program.stdout.readline()
        children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
        self.assertEqual(len(children), 2)
        os.kill(int(children[0]), signal.SIGKILL)
        rest = await asyncio.wait_for(program.stdout.read(), 2 * PATIENCE)
        self.assertEqual(await program.wait(), 0, rest)
        return (first + rest).decode().splitlines()

    async def test_chat_example_with_killed_node_runs_to_its_end(self) -> None:
        lines = await self.lose_a_node("chat.py")
        for name in ("alice", "bob"):
            # The other agent hears each line, or the example reports it as not heard, or both: the
            # acknowledgement may be lost with the node.
            other = "bob" if name == "alice" else "alice"
            told = [line for line in lines if line.startswith((f"{name} is not heard", f"{other} hears"))]
            self.assertGreaterEqual(len(told), 3, lines)

    async def test_request_reply_example_with_killed_server_runs_to_its_end(self) -> None:
        lines = await self.lose_a_node("request_reply.py")
        self.assertEqual([line.split(":")[0] for line in lines], ["7 squared", "12 squared", "a dozen squared"])

    async def test_two_servers_that_request_each_other_reply_once_each(self) -> None:
        serve = runpy.run_path(str(ROOT / "examples/python/request_reply.py"))["serve"]
        async with real(self.home) as alice, real(self.home, bootstrap_peers=alice.ready.addrs[:1]) as bob:
            with mock.patch.object(alice, "reply", wraps=alice.reply) as one, mock.patch.object(bob, "reply", wraps=bob.reply) as other:
                serving = [asyncio.create_task(serve(alice)), asyncio.create_task(serve(bob))]
                mails = [await alice.send(bob.address, {"number": 2}, kind="square"), await bob.send(alice.address, {"number": 3}, kind="square")]
                for mail in mails:
                    await mail.delivered(PATIENCE)
                for node in (alice, bob):
                    await node.caught_up(quiet=0.5)
                self.assertEqual((one.call_count, other.call_count), (1, 1))
                for task in serving:
                    task.cancel()

    async def test_request_reply_example_prints_all_answers(self) -> None:
        out = self.run_example("request_reply.py")
        self.assertEqual(out.splitlines()[:2], ["7 squared: {'result': 49}", "12 squared: {'result': 144}"])
        self.assertIn("'error'", out)

    async def test_server_with_killed_client_serves_others_and_ignores_replies(self) -> None:
        found = runpy.run_path(str(ROOT / "examples/python/request_reply.py"))
        async with real(self.home, name="server") as server:
            entry, serving = [server.ready.addrs[0]], asyncio.create_task(found["serve"](server))
            async with real(self.home, bootstrap_peers=entry, restart=None) as dying:
                assert dying.pid is not None
                await (await dying.send(server.address, {"number": 2}, kind="square")).delivered(PATIENCE)
                os.kill(dying.pid, signal.SIGKILL)
            async with real(self.home, bootstrap_peers=entry) as node:
                client = found["Client"](node)
                listening = asyncio.create_task(client.listen())
                self.assertEqual(await client.ask(server.address, 7), {"result": 49})
                with mock.patch.object(server, "reply", side_effect=AssertionError("the server answers a reply")):
                    answer = await node.send(server.address, {"number": 3}, kind="square", reply_to=uuid.uuid4().hex)
                    await answer.delivered(PATIENCE)
                self.assertEqual(await client.ask(server.address, 8), {"result": 64})
                self.assertFalse(serving.done())
                listening.cancel()
            serving.cancel()

    async def test_send_example_exits_with_0_only_if_mail_was_delivered(self) -> None:
        async with real(self.home, name="bob") as bob:
            heard: list[Any] = []

            async def listen() -> None:
                async for message in bob.messages():
                    heard.append(message.data)

            listening = asyncio.create_task(listen())
            run = await asyncio.to_thread(self.start, "send.py", bob.ready.addrs[0], bob.address, "hello")
            self.assertEqual((run.returncode, run.stdout, heard), (0, "delivered\n", [{"text": "hello"}]), run.stderr)
            run = await asyncio.to_thread(self.start, "send.py", bob.ready.addrs[0], "nobody", "hello")
            self.assertEqual((run.returncode, run.stdout), (1, ""))
            run = await asyncio.to_thread(self.start, "send.py", bob.ready.addrs[0], bob.address.lower()[:-2], "hello")
            self.assertEqual((run.returncode, run.stdout), (1, ""))
            listening.cancel()

    async def test_collect_example_reads_pending_mail_and_exits(self) -> None:
        async with real(self.home, name="bob") as bob:
            entry = bob.ready.addrs[0]
            run = await asyncio.to_thread(self.start, "collect.py", "collector", entry)
            self.assertEqual(run.returncode, 0, run.stderr)
            address = run.stdout.split()[-1]
            mails = [await bob.send(address, number, ttl=PATIENCE) for number in range(5)]
            run = await asyncio.to_thread(self.start, "collect.py", "collector", entry)
            said = [f"{bob.address} says {number}" for number in range(5)]
            self.assertEqual((run.returncode, run.stdout.splitlines()[1:]), (0, said), run.stderr)
            for mail in mails:
                await mail.delivered(PATIENCE)


class ReadmeAgent(TestCase):
    """The second program of the README, unchanged except for `open`."""

    @contextlib.asynccontextmanager
    async def run_agents(self, count: int) -> AsyncIterator[tuple[list[p2p_node.Node], io.StringIO]]:
        nodes: list[p2p_node.Node] = []

        class Kept(OpenContext):
            async def __aenter__(self) -> p2p_node.Node:
                nodes.append(await super().__aenter__())
                return nodes[-1]

        def open(**options: Any) -> OpenContext:
            home = os.path.join(self.home, str(len(nodes)))
            os.mkdir(home)
            entries = [node.ready.addrs[0] for node in nodes]
            return Kept(real(home, bootstrap_peers=entries, **options)._options)

        main, tasks, out = readme_agent(open), [], io.StringIO()
        with contextlib.redirect_stdout(out):
            for number in range(count):
                tasks.append(asyncio.create_task(main()))
                await until("it is open", lambda: len(nodes) == number + 1)
            try:
                yield nodes, out
                self.assertFalse(any(task.done() for task in tasks), "an agent exited")
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def test_readme_example_with_killed_client_serves_others(self) -> None:
        async with self.run_agents(1) as ([server], out):
            entry = [server.ready.addrs[0]]
            async with real(self.home, bootstrap_peers=entry, restart=None) as dying:
                await dying.send(server.address, "bye")
                await until("the server has it", lambda: "bye" in out.getvalue())
                assert dying.pid is not None
                os.kill(dying.pid, signal.SIGKILL)
            async with real(self.home, bootstrap_peers=entry) as client:
                mail = await client.send(server.address, "hello")
                answer = await asyncio.wait_for(anext(client.messages()), PATIENCE / 2)
                self.assertEqual((answer.reply_to, answer.data), (mail.message_id, {"text": "thank you"}))

    async def test_readme_example_run_twice_exchanges_one_reply(self) -> None:
        async with self.run_agents(2) as ([alice, bob], out):
            await alice.send(bob.address, "hello")
            await until("the answer", lambda: "thank you" in out.getvalue())
            await alice.caught_up(quiet=0.5)
            await bob.caught_up(quiet=0.5)
            self.assertEqual(len(out.getvalue().splitlines()), 4, out.getvalue())
