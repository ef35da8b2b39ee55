#!/usr/bin/env python3
"""Sends messages one at a time from one node to another, and prints what each of them costs: CPU time,
context switches and, with --calls, system calls, of the sender and of the recipient.

    benches/lone.py [--node [NAME=]'COMMAND'] … [--number N] [--rate R] [--calls]

COMMAND is that of benches/pipe.py. --calls needs strace, which slows the nodes down, so it counts the
calls of other messages than those whose time is measured.
"""

import argparse
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from pipe import DEFAULT, SMALL, Figures, Node, Pair, latency, named, pair_of

#: Most kinds of system calls that the table names for each node.
MOST_CALLS = 8


def usage(node: Node) -> tuple[float, int]:
    """CPU time in µs, and context switches, of all threads of a node."""
    cpu, switches = 0, 0
    for task in Path(f"/proc/{node.process.pid}/task").iterdir():
        cpu += int((task / "schedstat").read_text().split()[0])
        status = (task / "status").read_text()
        switches += sum(int(n) for n in re.findall(r"ctxt_switches:\s*(\d+)", status))
    return cpu / 1000, switches


def cost(pair: Pair, number: int, rate: int) -> Figures:
    nodes = pair.sender, pair.recipient
    before = [usage(node) for node in nodes]
    latency(pair, number, rate)
    figures: Figures = {}
    for node, (cpu, switches) in zip(nodes, before, strict=True):
        after = usage(node)
        figures[f"{node.role}, CPU µs"] = (after[0] - cpu) / number
        figures[f"{node.role}, context switches"] = (after[1] - switches) / number
    return figures


def calls(pair: Pair, number: int, rate: int) -> Figures:
    """System calls for each message, by name."""
    with tempfile.TemporaryDirectory() as folder:
        tracers = {
            node.role: subprocess.Popen(
                ["strace", "-c", "-f", "-p", str(node.process.pid), "-o", f"{folder}/{node.role}"],
                stderr=subprocess.PIPE, text=True,
            )
            for node in (pair.sender, pair.recipient)
        }
        for tracer in tracers.values():
            tracer.stderr.readline()  # says that it is attached
        latency(pair, number, rate)
        figures: Figures = {}
        for role, tracer in tracers.items():
            tracer.send_signal(signal.SIGINT)
            tracer.wait(10)
            rows = [line.split() for line in Path(folder, role).read_text().splitlines()]
            counts = {row[-1]: int(row[3]) for row in rows if len(row) >= 5 and row[3].isdigit()}
            counts.pop("total", None)
            for name, count in sorted(counts.items(), key=lambda item: -item[1])[:MOST_CALLS]:
                figures[f"{role}, {name}"] = count / number
        return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--node", action="append", help=f"default: {DEFAULT}")
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=100, help="messages/s; default: 100")
    parser.add_argument("--calls", action="store_true")
    args = parser.parse_args()
    results: dict[str, Figures] = {}
    for node in args.node or [DEFAULT]:
        name, command = named(node)
        with pair_of(command) as pair:
            time.sleep(1)
            results[name] = cost(pair, args.number, args.rate)
            if args.calls:
                results[name] |= calls(pair, args.number, args.rate)
    print(f"Each of {args.number} messages of {SMALL} B, {args.rate} a second, {os.cpu_count()} processors\n")
    print(f"| | {' | '.join(results)} |\n|---|{'---:|' * len(results)}")
    for row in dict.fromkeys(row for figures in results.values() for row in figures):
        cells = (f"{figures[row]:.3g}" if row in figures else "" for figures in results.values())
        print(f"| {row} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
