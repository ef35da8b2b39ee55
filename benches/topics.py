#!/usr/bin/env python3
"""How many broadcasts of 256 B go from one node to another in a second, and how many are lost.

    benches/topics.py [--node target/release/p2p-node] [--number 100000] [--runs 3]
"""

import argparse
import json
import os
import subprocess
import tempfile
import threading
import time

#: Longer than a run takes, in seconds.
PATIENCE = 120


class Node:
    def __init__(self, binary: str, home: str) -> None:
        env = {"P2P_NODE_NETWORK": "dev", "P2P_NODE_LOCK_SCOPE": home, "PATH": os.environ["PATH"]}
        self.process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)

    def say(self, **command: object) -> None:
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def until(self, wanted) -> dict:
        for line in self.process.stdout:
            if wanted(event := json.loads(line)):
                return event
        raise EOFError("the node has ended")

    def ask(self, **command: object) -> dict:
        self.say(**command, id="asked")
        return self.until(lambda event: event.get("id") == "asked")

    def __enter__(self) -> "Node":
        # Whatever is lost, nobody waits for ever.
        self.deadline = threading.Timer(PATIENCE, self.process.kill)
        self.deadline.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.deadline.cancel()
        self.process.kill()
        self.process.wait()


def run(binary: str, number: int, home: str) -> str:
    with Node(binary, home) as speaker, Node(binary, home) as hearer:
        return measure(speaker, hearer, number)


def measure(speaker: Node, hearer: Node, number: int) -> str:
    hearer.say(type="connect", protocol=1)
    entry = hearer.until(lambda event: event["type"] == "ready")["addrs"][0]
    speaker.say(type="connect", protocol=1, bootstrapPeers=[entry])
    for node in speaker, hearer:
        node.ask(type="subscribe", topic="t")
    while not speaker.ask(type="send", topic="t", data="warm")["peers"]:
        time.sleep(0.01)
    hearer.until(lambda event: event["type"] == "message")

    line = json.dumps({"type": "send", "topic": "t", "data": "x" * 254}).encode() + b"\n"

    def write() -> None:
        for _ in range(number):
            speaker.process.stdin.write(line)
        speaker.say(type="send", topic="t", data="last")

    began, heard = time.monotonic(), 0
    writer = threading.Thread(target=write)
    writer.start()
    for line_heard in hearer.process.stdout:
        if b'"last"' in line_heard:
            break
        heard += b"x" * 254 in line_heard
    else:
        raise EOFError(f"the node has ended, or the last broadcast was lost, after {heard:,}")
    took = time.monotonic() - began
    writer.join()
    return f"{heard / took:,.0f} a second, {number - heard} of {number:,} lost"


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--node", default="target/release/p2p-node")
    options.add_argument("--number", type=int, default=100_000)
    options.add_argument("--runs", type=int, default=3)
    chosen = options.parse_args()
    for _ in range(chosen.runs):
        with tempfile.TemporaryDirectory() as home:
            print(run(chosen.node, chosen.number, home))
