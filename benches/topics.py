#!/usr/bin/env python3
"""Measures how many broadcasts of 256 B one node receives from another per second, and how many
are lost.

    benches/topics.py [--node target/release/p2p-node] [--number 100000] [--runs 3]
"""

import argparse
import json
import os
import subprocess
import tempfile
import threading
import time

#: Most seconds of one run.
TIMEOUT = 120


class Node:
    def __init__(self, binary: str, home: str) -> None:
        env = {"P2P_NODE_NETWORK": "dev", "P2P_NODE_LOCK_SCOPE": home, "P2P_NODE_RENDEZVOUS": "off", "PATH": os.environ["PATH"]}
        self.process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)

    def command(self, **fields: object) -> None:
        self.process.stdin.write(json.dumps(fields).encode() + b"\n")
        self.process.stdin.flush()

    def until(self, matches) -> dict:
        for line in self.process.stdout:
            if matches(event := json.loads(line)):
                return event
        raise EOFError("the node has ended")

    def ask(self, **fields: object) -> dict:
        self.command(**fields, id="request")
        return self.until(lambda event: event.get("id") == "request")

    def __enter__(self) -> "Node":
        # The run ends even if a line is lost.
        self.deadline = threading.Timer(TIMEOUT, self.process.kill)
        self.deadline.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.deadline.cancel()
        self.process.kill()
        self.process.wait()


def run(binary: str, number: int, home: str) -> str:
    with Node(binary, home) as publisher, Node(binary, home) as subscriber:
        return measure(publisher, subscriber, number)


def measure(publisher: Node, subscriber: Node, number: int) -> str:
    subscriber.command(type="connect", protocol=1)
    entry = subscriber.until(lambda event: event["type"] == "ready")["addrs"][0]
    publisher.command(type="connect", protocol=1, bootstrapPeers=[entry])
    for node in publisher, subscriber:
        node.ask(type="subscribe", topic="t")
    while not publisher.ask(type="send", topic="t", data="warm")["peers"]:
        time.sleep(0.01)
    subscriber.until(lambda event: event["type"] == "message")

    line = json.dumps({"type": "send", "topic": "t", "data": "x" * 254}).encode() + b"\n"

    def write() -> None:
        for _ in range(number):
            publisher.process.stdin.write(line)
        publisher.command(type="send", topic="t", data="last")

    began, received = time.monotonic(), 0
    writer = threading.Thread(target=write)
    writer.start()
    for output in subscriber.process.stdout:
        if b'"last"' in output:
            break
        received += b"x" * 254 in output
    else:
        raise EOFError(f"the node has ended, or the last broadcast was lost, after {received:,}")
    seconds = time.monotonic() - began
    writer.join()
    return f"{received / seconds:,.0f} a second, {number - received} of {number:,} lost"


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--node", default="target/release/p2p-node")
    options.add_argument("--number", type=int, default=100_000)
    options.add_argument("--runs", type=int, default=3)
    args = options.parse_args()
    for _ in range(args.runs):
        with tempfile.TemporaryDirectory() as home:
            print(run(args.node, args.number, home))
