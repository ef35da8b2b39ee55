#!/usr/bin/env python3
"""Starts one bootstrap node and N agents at once, and prints what the network costs: the time until all
are ready, the time until random mails are delivered, CPU time while idle, and memory.

    benches/scale.py [--node target/release/p2p-node] [--agents 50 100 300] [--mails 100] [--settle 60]
                     [--idle 20]

The nodes talk over loopback and have a runtime directory of their own.
"""

import argparse
import json
import os
import random
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable

#: Most seconds until all nodes are ready, and until all mails are delivered.
TIMEOUT = 180.0
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Node:
    def __init__(self, binary: str, home: str, *arguments: str) -> None:
        env = {"P2P_NODE_NETWORK": "dev", "P2P_NODE_LOCK_SCOPE": home, "XDG_RUNTIME_DIR": home, "PATH": os.environ["PATH"]}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [binary, *arguments], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=env, cwd=home
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.rest = b""
        self.ready: dict | None = None

    def command(self, **fields: object) -> None:
        self.process.stdin.write(json.dumps(fields).encode() + b"\n")
        self.process.stdin.flush()

    def events(self) -> Iterable[dict]:
        """Returns the events that can be read without waiting."""
        read = self.process.stdout.read() or b""
        *lines, self.rest = (self.rest + read).split(b"\n")
        return [json.loads(line) for line in lines]

    def cpu(self) -> float:
        """Returns the CPU time of the process in seconds."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> float:
        """Returns the resident memory of the process in MiB."""
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * PAGE / 2**20


class Network:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.selector = selectors.DefaultSelector()

    def start(self, *arguments: str) -> Node:
        node = Node(*arguments)
        self.nodes.append(node)
        self.selector.register(node.process.stdout, selectors.EVENT_READ, node)
        return node

    def read(self, seconds: float, on: Callable[[Node, dict], None], done: Callable[[], bool]) -> float:
        """Reads events for some time, or until `done`. Returns the time that it took."""
        began = time.monotonic()
        while not done():
            left = began + seconds - time.monotonic()
            if left <= 0:
                break
            for key, _ in self.selector.select(left):
                for event in key.data.events():
                    on(key.data, event)
        return time.monotonic() - began

    def until(self, what: str, on: Callable[[Node, dict], None], done: Callable[[], bool]) -> float:
        spent = self.read(TIMEOUT, on, done)
        if not done():
            raise TimeoutError(f"not {what} within {TIMEOUT:.0f} s")
        return spent

    def cpu(self) -> float:
        return sum(node.cpu() for node in self.nodes)

    def close(self) -> None:
        for node in self.nodes:
            node.process.kill()
        for node in self.nodes:
            node.process.wait()


def measure(options: argparse.Namespace, agents: int, home: str) -> list[str]:
    network = Network()
    try:
        hub = network.start(options.node, home, "--role", "bootstrap")
        hub.command(type="connect", protocol=1)

        def on_ready(node: Node, event: dict) -> None:
            if event["type"] == "ready":
                node.ready = event

        network.until("ready", on_ready, lambda: hub.ready is not None)
        entry = [hub.ready["addrs"][0]]
        began = time.monotonic()
        for _ in range(agents):
            node = network.start(options.node, home)
            node.command(type="connect", protocol=1, bootstrapPeers=entry)
        network.until("ready", on_ready, lambda: all(node.ready for node in network.nodes))
        ready = time.monotonic() - began
        cpu_ready = network.cpu()

        rng, delivered = random.Random(agents), 0

        def on_delivery(_: Node, event: dict) -> None:
            nonlocal delivered
            delivered += event["type"] == "delivery" and event["state"] == "delivered"

        for _ in range(options.mails):
            sender, recipient = rng.sample(network.nodes[1:], 2)
            sender.command(type="send", peerId=recipient.ready["address"], data="hello")
        mails = network.until("delivered", on_delivery, lambda: delivered == options.mails)
        network.read(options.settle, lambda *_: None, lambda: False)
        cpu_before = network.cpu()
        network.read(options.idle, lambda *_: None, lambda: False)
        idle = (network.cpu() - cpu_before) / options.idle
        memory = sum(node.memory() for node in network.nodes[1:]) / agents
        return [
            f"{agents}", f"{ready:.1f} s", f"{mails:.1f} s", f"{1000 * cpu_ready / agents:.0f} ms",
            f"{1000 * (cpu_before) / agents:.0f} ms", f"{100 * idle:.1f} %", f"{memory:.1f} MiB",
            f"{hub.memory():.1f} MiB",
        ]
    finally:
        network.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", default="target/release/p2p-node")
    parser.add_argument("--agents", type=int, nargs="+", default=[50, 100, 300])
    parser.add_argument("--mails", type=int, default=100)
    parser.add_argument("--settle", type=float, default=60.0)
    parser.add_argument("--idle", type=float, default=20.0)
    options = parser.parse_args()
    options.node = os.path.abspath(options.node)
    heads = [
        "agents", "all ready", f"{options.mails} mails", "CPU of each until ready", "CPU of each until idle",
        "CPU of all, idle", "memory of each", "memory of the bootstrap node",
    ]
    print(f"| {' | '.join(heads)} |\n|{'---:|' * len(heads)}", flush=True)
    for agents in options.agents:
        with tempfile.TemporaryDirectory() as home:
            print(f"| {' | '.join(measure(options, agents, home))} |", flush=True)


if __name__ == "__main__":
    main()
