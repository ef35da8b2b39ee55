#!/usr/bin/env python3
"""Sends messages one at a time to each of many nodes in turn, and prints what a message costs its
sender: it should cost the same, however many recipients there are.

    benches/recipients.py [--node [NAME=]'COMMAND'] [--recipients 2,10,100,300,1000] [--number M]

COMMAND is that of benches/pipe.py. All nodes join by the sender, a bootstrap node, which accepts 1,500
connections.
"""

import argparse
import os
import time
from contextlib import ExitStack, closing

from lone import usage
from pipe import DEFAULT, SMALL, Figures, Node, named, readable
from scale import check_limits

#: Seconds between the last `ready` and the first message that counts.
SETTLE = 5.0
LIMIT = 30.0


def line(target: str, data: str) -> bytes:
    return f'{{"type":"send","peerId":"{target}","data":"{data}"}}\n'.encode()


def deliver(sender: Node, recipient: Node, target: str, data: str) -> float:
    """Sends one message, waits until both ends have reported it, and returns ms until it arrived."""
    began = time.monotonic()
    sender.write(line(target, data))
    missing, took = {sender.stdout: sender, recipient.stdout: recipient}, 0.0
    while missing:
        ready = readable(missing, LIMIT)
        if not ready:
            raise TimeoutError(f"no message and delivery within {LIMIT:.0f} s")
        for stdout in ready:
            lines = missing[stdout].read()
            if b'"type":"message"' in lines:
                took = (time.monotonic() - began) * 1000
                del missing[stdout]
            elif b'"state":"delivered"' in lines:
                del missing[stdout]
    return took


def end(nodes: list[Node]) -> None:
    """Ends all nodes at once. One after the other, each would wait for its peers to read the last
    answers."""
    for node in nodes:
        node.process.kill()


def run(command: str, recipients: int, number: int) -> Figures:
    with ExitStack() as stack:
        sender = stack.enter_context(closing(Node("sender", f"{command} --role bootstrap")))
        addrs = sender.connect([])["addrs"][:1]
        nodes = [stack.enter_context(closing(Node(f"recipient {n}", command))) for n in range(recipients)]
        targets = [node.connect(addrs)["address"] for node in nodes]
        stack.callback(end, nodes)
        for node, target in zip(nodes, targets, strict=True):
            deliver(sender, node, target, "begins the session")
        time.sleep(SETTLE)
        for node in [sender, *nodes]:
            while readable([node.stdout], 0):
                node.read()
        cpu, times = usage(sender)[0], []
        for n in range(number):
            node, target = nodes[n % recipients], targets[n % recipients]
            times.append(deliver(sender, node, target, "x" * (SMALL - 2)))
        times.sort()
        return {
            "sender, CPU µs for each message": (usage(sender)[0] - cpu) / number,
            "one way, p50, ms": times[number // 2],
            "sender, memory, MiB": sender.memory(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--node", default=DEFAULT, help=f"default: {DEFAULT}")
    parser.add_argument("--recipients", default="2,10,100,300,1000")
    parser.add_argument("--number", type=int, default=1000)
    args = parser.parse_args()
    command = named(args.node)[1]
    counts = [int(text) for text in args.recipients.split(",")]
    check_limits(max(counts))
    results = {count: run(command, count, args.number) for count in counts}
    print(f"{args.number} messages of {SMALL} B, one at a time, to each recipient in turn\n")
    print(f"| recipients | {' | '.join(map(str, counts))} |\n|---|{'---:|' * len(counts)}")
    for row in results[counts[0]]:
        print(f"| {row} | {' | '.join(f'{figures[row]:.3g}' for figures in results.values())} |")


if __name__ == "__main__":
    main()
