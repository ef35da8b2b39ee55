#!/usr/bin/env python3
"""Starts bootstrap nodes and N agents at once, and prints what the network costs: the time until all
are ready, the time until random mails are delivered, CPU time while idle, and memory.

    benches/scale.py [--node target/release/p2p-node] [--agents 50 100 300] [--mails 100] [--settle 60]
                     [--idle 20] [--bootstraps B] [--rendezvous]

The nodes talk over loopback and meet no other nodes of this user. Each agent knows up to two of the
bootstrap nodes. There is one of these for up to 600 agents, and one for each 300 in larger networks,
because a bootstrap node accepts 1,500 connections. With --rendezvous the nodes also meet in a directory.
"""

import argparse
import json
import os
import random
import resource
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable

#: Most seconds until all nodes are ready, and until all mails are delivered.
TIMEOUT = 180.0
#: Most agents with a single bootstrap node, and agents for each bootstrap node when there are more.
MOST_WITH_ONE, FOR_EACH = 600, 300
#: File descriptors that the script needs for each node, and for itself.
FOR_NODE, FOR_SCRIPT = 2, 50
#: See the macro MAKE_PROCESS_CPUCLOCK of Linux.
CPUCLOCK_SCHED = 2
PAGE = os.sysconf("SC_PAGE_SIZE")


class Node:
    def __init__(self, binary: str, home: str, *arguments: str, rendezvous: bool = False) -> None:
        env = {"P2P_NODE_NETWORK": "dev", "P2P_NODE_LOCK_SCOPE": home, "XDG_RUNTIME_DIR": home, "PATH": os.environ["PATH"]}
        if not rendezvous:
            env["P2P_NODE_RENDEZVOUS"] = "off"
        pipe = subprocess.PIPE
        with tempfile.NamedTemporaryFile(dir=home, suffix=".log", delete=False) as log:
            self.log = log.name
            self.process = subprocess.Popen(
                [binary, *arguments], stdin=pipe, stdout=pipe, stderr=log, env=env, cwd=home
            )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.rest = b""
        self.ready: dict | None = None

    def command(self, **fields: object) -> None:
        self.process.stdin.write(json.dumps(fields).encode() + b"\n")
        self.process.stdin.flush()

    def events(self) -> Iterable[dict]:
        """Returns the events that can be read without waiting."""
        read = self.process.stdout.read()
        if read == b"":
            with open(self.log) as log:
                raise EOFError(f"a node has ended with {self.process.wait()}: {log.read()[-2000:]}")
        *lines, self.rest = (self.rest + (read or b"")).split(b"\n")
        return [json.loads(line) for line in lines]

    def cpu(self) -> float:
        """Returns the CPU time of all threads in seconds: by the clock of the process, because /proc
        counts whole ticks."""
        return time.clock_gettime(~self.process.pid << 3 | CPUCLOCK_SCHED)

    def memory(self) -> float:
        """Returns the resident memory of the process in MiB."""
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * PAGE / 2**20

    def own_memory(self) -> float:
        """Returns the memory that the process has written, and so shares with no other, in MiB."""
        with open(f"/proc/{self.process.pid}/smaps_rollup") as rollup:
            return sum(int(line.split()[1]) for line in rollup if line.startswith("Anonymous:")) / 1024


class Network:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.selector = selectors.DefaultSelector()

    def start(self, binary: str, home: str, *arguments: str, rendezvous: bool = False) -> Node:
        node = Node(binary, home, *arguments, rendezvous=rendezvous)
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

    def until_ready(self) -> None:
        """Waits until all nodes are ready."""
        missing = [node for node in self.nodes if not node.ready]

        def on_ready(node: Node, event: dict) -> None:
            if event["type"] == "ready":
                node.ready = event
                missing.remove(node)

        self.until("ready", on_ready, lambda: not missing)

    def ask(self, nodes: list[Node], kind: str) -> list[dict]:
        """Returns the answers of the nodes to a command without fields."""
        answers: dict[Node, dict] = {}
        for node in nodes:
            node.command(type=kind, id="ask")

        def on_answer(node: Node, event: dict) -> None:
            if event.get("id") == "ask":
                answers[node] = event

        self.until("answered", on_answer, lambda: len(answers) == len(nodes))
        return [answers[node] for node in nodes]

    def cpu(self) -> float:
        return sum(node.cpu() for node in self.nodes)

    def close(self) -> None:
        for node in self.nodes:
            node.process.kill()
        for node in self.nodes:
            node.process.wait()
            node.process.stdin.close()
            node.process.stdout.close()
        self.selector.close()


def start(options: argparse.Namespace, network: Network, agents: int, home: str) -> list[Node]:
    """Starts the bootstrap nodes one after the other, and all agents at once. Returns the former."""
    hubs: list[Node] = []
    entries: list[str] = []
    for _ in range(options.bootstraps or (1 if agents <= MOST_WITH_ONE else -(-agents // FOR_EACH))):
        hubs.append(network.start(options.node, home, "--role", "bootstrap", rendezvous=options.rendezvous))
        hubs[-1].command(type="connect", protocol=1, bootstrapPeers=entries)
        network.until_ready()
        entries.append(hubs[-1].ready["addrs"][0])
    for number in range(agents):
        node = network.start(options.node, home, rendezvous=options.rendezvous)
        known = {entries[number % len(hubs)], entries[(number + 1) % len(hubs)]}
        node.command(type="connect", protocol=1, bootstrapPeers=sorted(known))
    return hubs


def measure(options: argparse.Namespace, agents: int, home: str) -> list[str]:
    network = Network()
    try:
        began = time.monotonic()
        hubs = start(options, network, agents, home)
        others = network.nodes[len(hubs):]
        network.until_ready()
        ready = time.monotonic() - began
        cpu_ready = network.cpu()

        rng, ends = random.Random(agents), []

        def on_delivery(_: Node, event: dict) -> None:
            if event["type"] == "delivery":
                ends.append(event.get("code", event["state"]))

        for _ in range(options.mails):
            sender, recipient = rng.sample(others, 2)
            sender.command(type="send", peerId=recipient.ready["address"], data="hello")
        mails = network.until("delivered", on_delivery, lambda: len(ends) == options.mails)
        if lost := [end for end in ends if end != "delivered"]:
            print(f"{len(lost)} mails were not delivered: {Counter(lost)}", file=sys.stderr)
        network.read(options.settle, lambda *_: None, lambda: False)
        cpu_before, cpu_hubs = network.cpu(), sum(hub.cpu() for hub in hubs)
        network.read(options.idle, lambda *_: None, lambda: False)
        idle = (network.cpu() - cpu_before) / options.idle
        idle_hubs = (sum(hub.cpu() for hub in hubs) - cpu_hubs) / options.idle
        memory = sum(node.memory() for node in others) / agents
        own = sum(node.own_memory() for node in others) / agents
        peers = sum(answer["status"]["peers"] for answer in network.ask(others, "status")) / agents
        return [
            f"{agents} + {len(hubs)}", f"{ready:.1f} s", f"{mails:.1f} s",
            f"{1000 * cpu_ready / agents:.0f} ms", f"{1000 * cpu_before / agents:.0f} ms",
            f"{100 * idle:.1f} %", f"{100 * idle_hubs:.1f} %",
            f"{1e6 * (idle - idle_hubs) / agents:.0f} µs/s", f"{peers:.0f}",
            f"{memory:.1f} ({own:.1f}) MiB", f"{max(hub.memory() for hub in hubs):.1f} MiB",
        ]
    finally:
        network.close()


def check_limits(agents: int) -> None:
    """Raises the limit of file descriptors for this many nodes, or ends the program."""
    needed, (soft, hard) = FOR_SCRIPT + FOR_NODE * agents, resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except ValueError:
        sys.exit(f"{agents} nodes need {needed} file descriptors, and {hard} are allowed (ulimit -Hn)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", default="target/release/p2p-node")
    parser.add_argument("--agents", type=int, nargs="+", default=[50, 100, 300])
    parser.add_argument("--bootstraps", type=int, help="default: by the number of agents")
    parser.add_argument("--mails", type=int, default=100)
    parser.add_argument("--settle", type=float, default=60.0)
    parser.add_argument("--idle", type=float, default=20.0)
    parser.add_argument("--rendezvous", action="store_true")
    options = parser.parse_args()
    options.node = os.path.abspath(options.node)
    if not os.access(options.node, os.X_OK):
        parser.error(f"{options.node} is no program: build it by `cargo build --release`, or use --node")
    check_limits(max(options.agents))
    heads = [
        "agents + bootstrap nodes", "all ready", f"{options.mails} mails", "CPU of each until ready",
        "CPU of each until idle", "CPU of all, idle", "of it bootstrap nodes", "of each agent",
        "connections of each", "memory of each (its own)", "memory of a bootstrap node",
    ]
    print(f"| {' | '.join(heads)} |\n|{'---:|' * len(heads)}", flush=True)
    for agents in options.agents:
        with tempfile.TemporaryDirectory() as home:
            print(f"| {' | '.join(measure(options, agents, home))} |", flush=True)


if __name__ == "__main__":
    main()
