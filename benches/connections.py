#!/usr/bin/env python3
"""Starts bootstrap nodes with different numbers of idle peers at the same time, and prints what a
connection costs a bootstrap node: memory, CPU time and bandwidth.

    benches/connections.py [--node target/release/p2p-node] [--peers 10 50 200] [--minutes 60]

The peers are agents that join by the bootstrap node and send nothing. All of them use TCP, whose bytes
`ss` of iproute2 tells. An interrupt (Ctrl-C) ends the measurement early and prints the table.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress

from scale import Network, Node, check_limits

#: Only TCP, on loopback.
LISTEN = ("--listen", "/ip4/127.0.0.1/tcp/0")
#: Seconds for which a bootstrap node without peers rests before its memory is read, and for which all
#: nodes rest after they have joined.
ALONE, SETTLE = 5.0, 120.0
#: Seconds between two looks at the sockets. What a connection carries in the last of these, before it
#: ends, does not count.
SAMPLE = 5.0
#: Bytes of the headers of IPv4, and of TCP with its timestamps, in each packet.
HEADERS = 20 + 32

SOCKET = re.compile(r"(\S+)\s+(\S+)\s+users:.*?pid=(\d+),")


class Traffic:
    """The bytes and packets of the TCP sockets of some processes."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids
        self.sockets: dict[tuple[int, str, str], list[int]] = {}

    def look(self) -> None:
        output = subprocess.run(["ss", "-tinpHO"], capture_output=True, text=True, check=True).stdout
        for line in output.splitlines():
            if (found := SOCKET.search(line)) and (pid := int(found[3])) in self.pids:
                counts = [self.field(line, name) for name in ("bytes_sent", "bytes_received", "segs_out", "segs_in")]
                self.sockets[pid, found[1], found[2]] = counts

    @staticmethod
    def field(line: str, name: str) -> int:
        found = re.search(rf"\b{name}:(\d+)", line)
        return int(found[1]) if found else 0

    def of(self, pid: int) -> list[int]:
        """Returns bytes sent and received, and packets sent and received."""
        counts = [counts for (owner, *_), counts in self.sockets.items() if owner == pid]
        return [sum(column) for column in zip(*counts, strict=True)]


class Hub:
    """A bootstrap node, and what it had cost when the measurement began."""

    def __init__(self, node: Node, peers: int) -> None:
        self.node, self.peers, self.alone = node, peers, node.own_memory()

    def begin(self, traffic: Traffic) -> None:
        self.cpu, self.traffic = self.node.cpu(), traffic.of(self.node.process.pid)

    def row(self, connected: int, seconds: float, traffic: Traffic) -> list[str]:
        sent, received, packets_out, packets_in = (
            (after - before) / seconds / connected
            for before, after in zip(self.traffic, traffic.of(self.node.process.pid), strict=True)
        )
        memory = self.node.own_memory()
        cpu = 100 * (self.node.cpu() - self.cpu) / seconds
        return [
            f"{connected}", f"{self.alone:.1f} → {memory:.1f} MiB", f"{1024 * (memory - self.alone) / connected:.0f} KiB",
            f"{cpu:.2f} %", f"{100 * cpu / connected:.2f} %", f"{sent:.0f} + {received:.0f} B/s",
            f"{(sent + received + HEADERS * (packets_out + packets_in)) / 1000:.2f} KB/s",
        ]


HEADS = [
    "peers", "memory of its own, without and with peers", "memory per connection", "CPU",
    "CPU per 100 connections", "sent + received per connection", "both, with the headers of packets",
]


def measure(options: argparse.Namespace, network: Network, home: str) -> list[list[str]]:
    hubs = []
    for peers in options.peers:
        node = network.start(options.node, home, "--role", "bootstrap", *LISTEN)
        node.command(type="connect", protocol=1)
        network.until_ready()
        network.read(ALONE, lambda *_: None, lambda: False)
        hubs.append(Hub(node, peers))
    for hub in hubs:
        for _ in range(hub.peers):
            agent = network.start(options.node, home, *LISTEN)
            agent.command(type="connect", protocol=1, bootstrapPeers=hub.node.ready["addrs"])
    network.until_ready()
    network.read(SETTLE, lambda *_: None, lambda: False)
    traffic = Traffic([hub.node.process.pid for hub in hubs])
    traffic.look()
    for hub in hubs:
        hub.begin(traffic)
    began = time.monotonic()
    with suppress(KeyboardInterrupt):
        while time.monotonic() < began + 60 * options.minutes:
            network.read(SAMPLE, lambda *_: None, lambda: False)
            traffic.look()
            if sys.stderr.isatty():
                print(f"\r{(time.monotonic() - began) / 60:.1f} min ", end="", file=sys.stderr)
    seconds = time.monotonic() - began
    connected = [answer["status"]["peers"] for answer in network.ask([hub.node for hub in hubs], "status")]
    return [hub.row(number, seconds, traffic) for hub, number in zip(hubs, connected, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", default="target/release/p2p-node")
    parser.add_argument("--peers", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--minutes", type=float, default=60)
    options = parser.parse_args()
    options.node = os.path.abspath(options.node)
    if not os.access(options.node, os.X_OK):
        parser.error(f"{options.node} is no program: build it by `cargo build --release`, or use --node")
    check_limits(sum(options.peers) + len(options.peers))
    with tempfile.TemporaryDirectory() as home, closing(Network()) as network:
        rows = measure(options, network, home)
    print(f"| {' | '.join(HEADS)} |\n|{'---:|' * len(HEADS)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
