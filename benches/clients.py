#!/usr/bin/env python3
"""Compares one client of a daemon with ten, of which one has stopped, one is killed in the middle of a line,
and one floods.

    benches/clients.py [--node target/release/p2p-node] [--seconds 10] [--rate 50] [--runs 3]

A daemon and a second node talk over loopback. Each honest client sends the second node `--rate` messages of
256 B a second, and the second node sends as many to the daemon, which every client gets. Latencies: from the
`send` of a client until its `delivery`, and from the `send` of the second node until a client has the
message. The first row is one client alone. The goal is a p99 of ten clients of at most 1.5 times that of one,
and that nothing is lost. The driver takes processor time too, so use a machine with free cores. The program
ends by itself.
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
    """One daemon, one second node, and some clients."""

    def __init__(self, node: str, home: str) -> None:
        env = {"P2P_NODE_NETWORK": "dev", "P2P_NODE_RENDEZVOUS": "off", "P2P_NODE_LOCK_SCOPE": home, "P2P_NODE_MDNS": "false"}
        self.path = os.path.join(home, "node.sock")
        self.daemon = subprocess.Popen(
            [node, "daemon", "--socket", self.path], env={**env, "PRIVATE_KEY": "11" * 32}, stdout=subprocess.DEVNULL
        )
        while not os.path.exists(self.path):
            time.sleep(0.01)
        first = Client(self.path)
        ready = first.connect()
        self.address = ready["address"]
        first.socket.close()
        tcp = next(addr for addr in ready["addrs"] if "/tcp/" in addr)
        self.second = subprocess.Popen(
            [node], env={**env, "PRIVATE_KEY": "22" * 32}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.second.stdin and self.second.stdout
        self.peer = Lines(self.second.stdout.fileno(), self.second.stdin.fileno())
        self.peer.write({"type": "connect", "protocol": 1, "port": 0, "bootstrapPeers": [tcp]})
        self.peer_address = self.peer.until("ready")["address"]

    def end(self) -> None:
        for process in (self.daemon, self.second):
            process.terminate()
            process.wait()

    def warm_up(self, client: Client) -> None:
        client.write({"type": "send", "peerId": self.peer_address, "data": "warm"})
        client.until("delivery")
        self.peer.write({"type": "send", "peerId": self.address, "data": "warm"})
        client.until("message")

    def measure(self, clients: list[Client], flood: Client | None, rate: float, seconds: float) -> Figures:
        figures = Figures()
        start = time.monotonic()
        number, sent_by_peer = 0, {}
        pings = b'{"type":"ping"}\n' * 200
        if flood is not None:
            flood.socket.setblocking(False)
        by_fd = {client.read_fd: client for client in clients}
        readers = [self.peer.read_fd, *by_fd, *([] if flood is None else [flood.read_fd])]
        ends = start + seconds
        while True:
            now = time.monotonic()
            open_sends = sum(len(client.sent) for client in clients)
            if now >= ends and (now >= ends + GRACE or (open_sends == 0 and all(len(client.got) == number for client in clients))):
                break
            if now < ends and now >= start + number / rate:
                sent_by_peer[number] = time.monotonic()
                self.peer.write({"type": "send", "peerId": self.address, "data": {"number": number, "padding": PADDING}})
                for index, client in enumerate(clients):
                    name = f"{index}-{number}"
                    client.sent[name] = time.monotonic()
                    client.write({"type": "send", "id": name, "peerId": self.peer_address, "data": PADDING})
                number += 1
            if flood is not None and now < ends:
                try:
                    flood.socket.send(pings)
                except BlockingIOError:
                    pass
            ready, _, _ = select.select(readers, [], [], 0.0005)
            for fd in ready:
                if fd == self.peer.read_fd:
                    self.peer.read()
                elif flood is not None and fd == flood.read_fd:
                    os.read(fd, 1 << 18)
                else:
                    self.read_client(by_fd[fd], sent_by_peer, figures)
        for client in clients:
            figures.lost += len(client.sent) + number - len(client.got)
            figures.foreign += client.foreign
        return figures

    @staticmethod
    def read_client(client: Client, sent_by_peer: dict[int, float], figures: Figures) -> None:
        events = client.read()
        now = time.monotonic()
        for event in events:
            if event["type"] == "delivery" and event.get("requestId") is not None:
                began = client.sent.pop(event["requestId"], None)
                if began is None:
                    client.foreign += 1
                elif event["state"] == "delivered":
                    figures.deliveries.append(now - began)
            elif event["type"] == "message" and isinstance(event["data"], dict):
                number = event["data"]["number"]
                client.foreign += number in client.got
                client.got.add(number)
                figures.messages.append(now - sent_by_peer[number])


def one(node: str, rate: float, seconds: float) -> tuple[Figures, Figures]:
    with tempfile.TemporaryDirectory() as home:
        run = Run(node, home)
        try:
            first = Client(run.path)
            first.connect()
            run.warm_up(first)
            alone = run.measure([first], None, rate, seconds)
            first.socket.close()
            clients = [Client(run.path) for _ in range(7)]
            stopped, killed, flood = Client(run.path), Client(run.path), Client(run.path)
            for client in [*clients, stopped, killed, flood]:
                client.connect()
            killed.socket.send(b'{"type":"send","peerId":"0x')
            killed.socket.close()
            run.warm_up(clients[0])
            for client in clients[1:]:
                client.until("message")
            together = run.measure(clients, flood, rate, seconds)
            return alone, together
        finally:
            run.end()


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--node", default="target/release/p2p-node")
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--rate", type=float, default=50.0)
    options.add_argument("--runs", type=int, default=3)
    args = options.parse_args()
    print("| clients | delivery p50, ms | p99, ms | message p50, ms | p99, ms | lost | foreign |")
    print("|---|---|---|---|---|---|---|")
    is_good = True
    for _ in range(args.runs):
        alone, together = one(args.node, args.rate, args.seconds)
        print(alone.row("one"))
        print(together.row("ten"), flush=True)
        is_good &= together.lost == 0 and together.foreign == 0
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
