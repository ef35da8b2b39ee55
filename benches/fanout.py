#!/usr/bin/env python3
"""Publishes broadcasts on a topic of several nodes, one at a time, and prints the time until all others
have each of them, and what it costs a node.

    benches/fanout.py [--node [NAME=]'COMMAND'] … [--nodes N] [--number M]

COMMAND is that of benches/pipe.py. All nodes join by the first; the second one publishes.
"""

import argparse
import json
import os
import time
from contextlib import ExitStack, closing

from lone import usage
from pipe import DEFAULT, SMALL, Figures, Node, named, readable

TOPIC = "bench"
#: Seconds after the subscriptions: gossipsub forms its meshes by heartbeats of one second.
MESH = 6.0
#: Seconds between two broadcasts.
PAUSE = 0.03
LIMIT = 10.0


def read_until(others: list[Node], tag: bytes, limit: float) -> bool:
    """Reads until each of the nodes wrote a line with the tag."""
    missing = {node.stdout: node for node in others}
    deadline = time.monotonic() + limit
    while missing:
        ready = readable(missing, deadline - time.monotonic())
        if not ready:
            return False
        for stdout in ready:
            if tag in missing[stdout].read():
                del missing[stdout]
    return True


def run(command: str, count: int, number: int) -> Figures:
    with ExitStack() as stack:
        nodes: list[Node] = []
        addrs: list[str] = []
        for index in range(count):
            nodes.append(stack.enter_context(closing(Node(f"node {index}", command))))
            ready = nodes[-1].connect(addrs)
            addrs = addrs or ready["addrs"][:1]
        for node in nodes:
            node.write(json.dumps({"type": "subscribe", "topic": TOPIC}).encode() + b"\n")
        time.sleep(MESH)
        source, others = nodes[1], [node for node in nodes if node is not nodes[1]]
        times: list[float] = []
        before = [usage(node) for node in nodes]
        for index in range(number):
            tag = f"#{index:06}#"
            fields = {"type": "send", "topic": TOPIC, "data": tag.ljust(SMALL - 2, "x")}
            began = time.monotonic()
            source.write(json.dumps(fields).encode() + b"\n")
            if not read_until(others, tag.encode(), LIMIT):
                raise TimeoutError(f"broadcast {index} did not reach all nodes within {LIMIT:.0f} s")
            times.append((time.monotonic() - began) * 1000)
            time.sleep(PAUSE)
        spent = [
            tuple(now - then for now, then in zip(usage(node), old, strict=True))
            for node, old in zip(nodes, before, strict=True)
        ]
    times.sort()
    figures = {f"all have it, p{p}, ms": times[len(times) * p // 100] for p in (50, 99)}
    figures["publisher, CPU µs"], figures["publisher, context switches"] = (n / number for n in spent[1])
    rest = spent[:1] + spent[2:]
    figures["each other node, CPU µs"] = sum(cpu for cpu, _ in rest) / len(rest) / number
    figures["each other node, context switches"] = sum(n for _, n in rest) / len(rest) / number
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--node", action="append", help=f"default: {DEFAULT}")
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--number", type=int, default=200)
    args = parser.parse_args()
    results: dict[str, Figures] = {}
    for node in args.node or [DEFAULT]:
        name, command = named(node)
        results[name] = run(command, args.nodes, args.number)
    print(
        f"Each of {args.number} broadcasts of {SMALL} B to {args.nodes - 1} others, "
        f"{os.cpu_count()} processors\n"
    )
    print(f"| | {' | '.join(results)} |\n|---|{'---:|' * len(results)}")
    for row in next(iter(results.values())):
        print(f"| {row} | {' | '.join(f'{figures[row]:.3g}' for figures in results.values())} |")


if __name__ == "__main__":
    main()
