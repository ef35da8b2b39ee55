#!/usr/bin/env python3
"""Compares one client of a daemon with ten, of which one has stopped, one is killed in the middle of a line,
and one floods.

    benches/clients.py [--node target/release/p2p-node] [--seconds 10] [--rate 50] [--runs 3]

A daemon and a second node talk over loopback. One client sends the second node `--rate` messages of 256 B a second,
and the second node sends as many to the daemon, which every client gets. Latencies of this client: from its `send`
until its `delivery`, and from the `send` of the second node until it has the message. The first row is this client
alone. The second row is the same client beside six others that do the same, and the three that do harm, all in
processes of their own. The goal is a p99 of at most 1.5 times that of one client alone, and that nothing is lost. The
drivers take processor time too, so use a machine with free cores. The program ends by itself.
"""

import argparse
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time

PADDING = "x" * 256
#: Time for the last messages to arrive, in seconds.
GRACE = 10.0


class Lines:
    """A connection with lines of JSON in both directions."""

    def __init__(self, read: int, write: int) -> None:
        self.read_fd, self.write_fd = read, write
        self.buffer = b""

    def write(self, command: dict) -> None:
        data = memoryview(json.dumps(command, separators=(",", ":")).encode() + b"\n")
        while data:
            data = data[os.write(self.write_fd, data) :]

    def read(self) -> list[dict]:
        """Reads the lines that have arrived."""
        data = os.read(self.read_fd, 1 << 18)
        if not data:
            raise EOFError("the node has closed the connection")
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def until(self, wanted: str) -> dict:
        """Reads lines until one of this type."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for event in self.read():
                if event["type"] == wanted:
                    return event
        raise TimeoutError(f"no {wanted}")


class Client(Lines):
    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        super().__init__(self.socket.fileno(), self.socket.fileno())
        self.sent: dict[str, float] = {}
        self.got: set[int] = set()
        self.foreign = 0

    def connect(self) -> dict:
        self.write({"type": "connect", "protocol": 1})
        return self.until("ready")

    def start(self) -> None:
        self.sent, self.got, self.foreign = {}, set(), 0

    def send(self, number: int, peer: str) -> None:
        name = f"{self.read_fd}-{number}"
        self.sent[name] = time.monotonic()
        self.write({"type": "send", "id": name, "peerId": peer, "data": PADDING})

    def is_done(self, total: int) -> bool:
        return len(self.got) == total and not self.sent

    def lost(self, total: int) -> int:
        return len(self.sent) + total - len(self.got)

    def take(self, sent_by_peer: dict[int, float], figures: "Figures | None") -> None:
        """Reads what has come. `figures` gets the times."""
        events, now = self.read(), time.monotonic()
        for event in events:
            if event["type"] == "delivery" and event.get("requestId") is not None:
                began = self.sent.pop(event["requestId"], None)
                self.foreign += began is None
                if figures is not None and began is not None and event["state"] == "delivered":
                    figures.deliveries.append(now - began)
            elif event["type"] == "message" and isinstance(event["data"], dict):
                number = event["data"]["number"]
                self.foreign += number in self.got
                self.got.add(number)
                if figures is not None:
                    figures.messages.append(now - sent_by_peer[number])


def percentile(times: list[float], part: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1000 if ordered else float("nan")


class Figures:
    def __init__(self) -> None:
        self.deliveries: list[float] = []
        self.messages: list[float] = []
        self.lost = self.foreign = 0

    def row(self, name: str) -> str:
        times = [percentile(of, part) for of in (self.deliveries, self.messages) for part in (0.5, 0.99)]
        return f"| {name} | " + " | ".join(f"{ms:.2f}" for ms in times) + f" | {self.lost} | {self.foreign} |"


class Run:
    """One daemon, and one second node."""

    def __init__(self, node: str, home: str) -> None:
        env = {"P2P_NODE_NETWORK": "dev", "P2P_NODE_RENDEZVOUS": "off", "P2P_NODE_LOCK_SCOPE": home, "P2P_NODE_MDNS": "false"}
        self.path = os.path.join(home, "node.sock")
        self.daemon = subprocess.Popen(
            [node, "daemon", "--socket", self.path], env={**env, "PRIVATE_KEY": "11" * 32}, stdout=subprocess.DEVNULL
        )
        while not os.path.exists(self.path):
            time.sleep(0.01)
        self.client = Client(self.path)
        ready = self.client.connect()
        self.address = ready["address"]
        tcp = next(addr for addr in ready["addrs"] if "/tcp/" in addr)
        self.second = subprocess.Popen(
            [node], env={**env, "PRIVATE_KEY": "22" * 32}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.second.stdin and self.second.stdout
        self.peer = Lines(self.second.stdout.fileno(), self.second.stdin.fileno())
        self.peer.write({"type": "connect", "protocol": 1, "port": 0, "bootstrapPeers": [tcp]})
        self.peer_address = self.peer.until("ready")["address"]
        self.client.write({"type": "send", "peerId": self.peer_address, "data": "warm"})
        self.client.until("delivery")
        self.peer.write({"type": "send", "peerId": self.address, "data": "warm"})
        self.client.until("message")

    def end(self) -> None:
        for process in (self.daemon, self.second):
            process.terminate()
            process.wait()

    def measure(self, rate: float, seconds: float) -> Figures:
        """Measures the one client. What the driver does is the same with and without others."""
        self.client.start()
        figures, total, sent_by_peer = Figures(), int(rate * seconds), {}
        start = time.monotonic()
        while not self.client.is_done(total) and time.monotonic() < start + seconds + GRACE:
            number = len(sent_by_peer)
            if number < total and time.monotonic() >= start + number / rate:
                sent_by_peer[number] = time.monotonic()
                self.peer.write({"type": "send", "peerId": self.address, "data": {"number": number, "padding": PADDING}})
                self.client.send(number, self.peer_address)
            for fd in select.select([self.peer.read_fd, self.client.read_fd], [], [], 0.0005)[0]:
                if fd == self.peer.read_fd:
                    self.peer.read()
                else:
                    self.client.take(sent_by_peer, figures)
        figures.lost, figures.foreign = self.client.lost(total), self.client.foreign
        return figures


class Others:
    """A process with other clients. It says on stdout when they are attached, begins at a line on stdin, and says
    in the end what was lost."""

    def __init__(self, role: str, path: str, peer: str, rate: float, seconds: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--role", role, path, peer, str(rate), str(seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        self.process.stdout.readline()

    def begin(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> dict:
        result = json.loads(self.process.stdout.readline())
        self.process.wait()
        return result


def honest(path: str, peer: str, rate: float, seconds: float) -> dict:
    """Six honest clients, one that has stopped, and one that is killed in the middle of a line."""
    clients, stopped, killed = [Client(path) for _ in range(6)], Client(path), Client(path)
    for client in [*clients, stopped, killed]:
        client.connect()
    killed.socket.send(b'{"type":"send","peerId":"0x')
    killed.socket.close()
    print(flush=True)
    sys.stdin.readline()
    total, number = int(rate * seconds), 0
    by_fd = {client.read_fd: client for client in clients}
    start = time.monotonic()
    while not all(client.is_done(total) for client in clients) and time.monotonic() < start + seconds + GRACE:
        if number < total and time.monotonic() >= start + number / rate:
            for client in clients:
                client.send(number, peer)
            number += 1
        for fd in select.select(by_fd, [], [], 0.0005)[0]:
            by_fd[fd].take({}, None)
    return {"lost": sum(client.lost(total) for client in clients), "foreign": sum(client.foreign for client in clients)}


def flood(path: str, _peer: str, _rate: float, seconds: float) -> dict:
    """A client that writes commands as fast as the daemon reads them."""
    client = Client(path)
    client.connect()
    print(flush=True)
    sys.stdin.readline()
    client.socket.setblocking(False)
    pings, ends = b'{"type":"ping"}\n' * 200, time.monotonic() + seconds
    while time.monotonic() < ends:
        readable, writable, _ = select.select([client.read_fd], [client.write_fd], [], 0.1)
        if readable:
            os.read(client.read_fd, 1 << 18)
        if writable:
            client.socket.send(pings)
    return {"lost": 0, "foreign": 0}


ROLES = {"honest": honest, "flood": flood}


def one(node: str, rate: float, seconds: float, roles: list[str]) -> tuple[Figures, Figures]:
    with tempfile.TemporaryDirectory() as home:
        run = Run(node, home)
        try:
            alone = run.measure(rate, seconds)
            others = [Others(role, run.path, run.peer_address, rate, seconds) for role in roles]
            for process in others:
                process.begin()
            together = run.measure(rate, seconds)
            for result in (process.end() for process in others):
                together.lost += result["lost"]
                together.foreign += result["foreign"]
            return alone, together
        finally:
            run.end()


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--node", default="target/release/p2p-node")
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--rate", type=float, default=50.0)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--calm", action="store_true", help="without the client that floods")
    options.add_argument("--role", nargs=5, help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.role:
        role, path, peer, rate, seconds = args.role
        print(json.dumps(ROLES[role](path, peer, float(rate), float(seconds))), flush=True)
        return 0
    print("| clients | delivery p50, ms | p99, ms | message p50, ms | p99, ms | lost | foreign |")
    print("|---|---|---|---|---|---|---|")
    is_good = True
    for _ in range(args.runs):
        alone, together = one(args.node, args.rate, args.seconds, list(ROLES)[: 1 if args.calm else None])
        print(alone.row("one"))
        print(together.row("ten"), flush=True)
        is_good &= together.lost == 0 and together.foreign == 0
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
