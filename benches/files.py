#!/usr/bin/env python3
"""Sends a file from one node to another, and prints its throughput beside that of raw TCP from file to file on
loopback.

    benches/files.py [--node 'COMMAND'] [--mib N] [--rounds N] [--durable]

COMMAND is that of benches/pipe.py; use a release build. With --durable both nodes have a data directory, so that the
recipient writes the file to the disk before its message counts. The figures of rounds alternate, and their medians
are printed. Raw TCP reads a file, sends it in blocks of 256 KiB, and writes it, without a check of what arrived.
"""

import argparse
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from pipe import DEFAULT

LIMIT = 300.0
BLOCK = 256 << 10


class Agent:
    """A node that this process reads line by line."""

    def __init__(self, command: str, home: Path, key: str, flags: list[str]) -> None:
        environment = {"PATH": os.environ["PATH"], "PRIVATE_KEY": key * 32, "P2P_NODE_LOCK_SCOPE": str(home)}
        environment |= {"P2P_NODE_RENDEZVOUS": "off", "P2P_NODE_MDNS": "false", "P2P_NODE_UPNP": "false"}
        self.process = subprocess.Popen(
            [*shlex.split(command), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=home,
        )

    def write(self, command: dict[str, object]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def expect(self, kind: str) -> dict[str, object]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["type"] == kind:
                return event
            if event["type"] == "error":
                sys.exit(f"the node says {event}")
        sys.exit(f"stdout ended without {kind}")

    def connect(self, bootstraps: list[str]) -> dict[str, object]:
        self.write({"type": "connect", "protocol": 1, "bootstrapPeers": bootstraps})
        return self.expect("ready")

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def raw(source: Path, target: Path) -> float:
    """Returns the seconds that raw TCP takes from file to file."""
    listener = socket.create_server(("127.0.0.1", 0))

    def receive() -> None:
        connection, _ = listener.accept()
        buffer = memoryview(bytearray(BLOCK))
        with connection, target.open("wb", buffering=0) as file:
            while count := connection.recv_into(buffer):
                file.write(buffer[:count])

    thread = threading.Thread(target=receive)
    thread.start()
    began = time.monotonic()
    with socket.create_connection(listener.getsockname()) as connection, source.open("rb", buffering=0) as file:
        buffer = memoryview(bytearray(BLOCK))
        while count := file.readinto(buffer):
            connection.sendall(buffer[:count])
    thread.join()
    listener.close()
    return time.monotonic() - began


def transfer(sender: Agent, recipient: Agent, address: object, source: Path) -> tuple[float, float, Path]:
    """Returns the seconds to read the file before the message is accepted, those until it arrived, and its path."""
    began = time.monotonic()
    sender.write({"type": "send", "id": "file", "peerId": address, "data": None, "file": str(source)})
    sender.expect("result")
    accepted = time.monotonic()
    message = recipient.expect("message")
    arrived = time.monotonic()
    sender.expect("delivery")
    file = message["file"]
    assert isinstance(file, dict)
    return accepted - began, arrived - accepted, Path(file["path"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--node", default=DEFAULT, help=f"default: {DEFAULT}")
    parser.add_argument("--mib", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--durable", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        source = home / "source"
        with source.open("wb") as file:
            for _ in range(args.mib):
                file.write(os.urandom(1 << 20))
        data = [["--data-dir", str(home / name)] if args.durable else [] for name in ("one", "two")]
        recipient = Agent(args.node, home, "b2", ["--files-dir", str(home / "files"), *data[1]])
        ready = recipient.connect([])
        addresses = ready["addrs"]
        assert isinstance(addresses, list)
        sender = Agent(args.node, home, "b1", data[0])
        sender.connect(addresses[:1])
        figures: dict[str, list[float]] = {"raw": [], "read": [], "node": []}
        try:
            for number in range(args.rounds + 1):
                seconds = raw(source, home / "raw")
                cpu = sender.cpu(), recipient.cpu()
                read, took, path = transfer(sender, recipient, ready["address"], source)
                assert number or path.read_bytes() == source.read_bytes(), "the content differs"
                path.unlink()
                # The first round warms up the caches, and connects the nodes.
                if number:
                    figures["raw"].append(seconds)
                    figures["read"].append(read)
                    figures["node"].append(took)
                    spent = sender.cpu() - cpu[0], recipient.cpu() - cpu[1]
                    print(f"CPU: sender {spent[0]:.2f} s, recipient {spent[1]:.2f} s", file=sys.stderr)
        finally:
            sender.process.kill()
            recipient.process.kill()
        median = {name: statistics.median(values) for name, values in figures.items()}
        rate = {name: args.mib / seconds for name, seconds in median.items()}
        print(f"raw TCP, file to file:  {rate['raw']:8.0f} MiB/s")
        print(f"node, file to file:     {rate['node']:8.0f} MiB/s  ({median['raw'] / median['node']:.2f} of raw)")
        print(f"reading before `accepted`: {rate['read']:5.0f} MiB/s")


if __name__ == "__main__":
    main()
