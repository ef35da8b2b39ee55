#!/usr/bin/env python3
"""Measures what it costs that somebody looks on: two nodes as they come, and two nodes with everything on.

    benches/observed.py [--node target/release/p2p-node] [--runs 5] [--tests latency,window,burst,burst16k]
    benches/observed.py --compare FILE...

Everything: `--http` with a reader of /metrics each second and one of /api/stream, `--observe`, logs as JSON, and
traces by OTLP to a collector that takes them and does nothing. The readers and the collector run in the
scheduling class `SCHED_IDLE`: in an installation they have a machine of their own. The tests are those of
`pipe.py`, in turns, each turn in another random order. "off again" is a second column of nodes as they come:
what it differs from the first one is the noise of the machine. "readers elsewhere" are nodes as they come while the
same readers read two other nodes, which do nothing else and run in that class too: what it differs from "off" is
the cost of the readers on the same processors. `--parts` adds a column for each part alone, to tell which costs what.

`--json FILE` keeps the figures of every run. `--compare` measures nothing: it compares the runs of several such files
together.
"""

import argparse
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pipe
from pipe import Node, Pair, burst, latency, window

#: What can be on.
PARTS = ("http", "log", "traces")
#: The name of the column whose readers read other nodes.
ELSEWHERE = "readers elsewhere"
TESTS = {
    "latency": latency, "window": lambda pair: window(pair, 200_000), "burst": lambda pair: burst(pair, 500_000),
    "burst16k": lambda pair: burst(pair, 10_000, pipe.LARGE),
}
SCRAPE_SECS = 1.0
RESAMPLED = 5000


class Collector(BaseHTTPRequestHandler):
    """Takes traces and answers as an OTLP collector does."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def look_on(stdin, stdout) -> None:
    """Runs the collector, prints its port, and reads the nodes whose addresses come as lines, until the end
    of the lines. This is the process that looks on."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], file=stdout, flush=True)
    for line in stdin:
        address = line.strip().removeprefix("http://").rstrip("/")
        for reader in (scrape, stream):
            threading.Thread(target=reader, args=(address,), daemon=True).start()


def scrape(address: str) -> None:
    """Reads /metrics until the node has ended."""
    with suppress(OSError, http.client.HTTPException):
        while True:
            connection = http.client.HTTPConnection(address, timeout=pipe.LIMIT)
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            if response.status != 200 or b"p2p_node" not in response.read():
                print(f"observed.py: {address}/metrics answered {response.status}", file=sys.stderr)
                return
            connection.close()
            time.sleep(SCRAPE_SECS)


def stream(address: str) -> None:
    """Reads /api/stream until the node has ended."""
    with suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection(address, timeout=pipe.LIMIT)
        connection.request("GET", "/api/stream")
        response = connection.getresponse()
        while response.read(1 << 10):
            pass


class Observer:
    """The process that looks on."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--look-on"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        self.port = int(self.process.stdout.readline())

    def watch(self, ready: dict) -> None:
        self.process.stdin.write(f"{ready['http']}\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(pipe.LIMIT)


def command(program: str, parts: tuple[str, ...], observer: Observer, in_idle: bool) -> str:
    """The command of a node with these parts on."""
    words = ["exec", *(["chrt", "--idle", "0"] if in_idle else []), program, "--network", "dev"]
    if "http" in parts:
        words += ["--http", "127.0.0.1:0", "--observe"]
    if "log" in parts:
        words += ["--log-format", "json", "--log-level", "info"]
    if "traces" in parts:
        words = [f"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{observer.port}", *words]
    return f"sh -c '{' '.join(words)} 2>/dev/null'"


@contextmanager
def pair_of(program: str, parts: tuple[str, ...], observer: Observer, in_idle: bool = False) -> Iterator[Pair]:
    line = command(program, parts, observer, in_idle)
    with closing(Node("recipient", line)) as recipient:
        ready = recipient.connect([])
        with closing(Node("sender", line)) as sender:
            other = sender.connect(ready["addrs"][:1])
            if "http" in parts:
                observer.watch(ready)
                observer.watch(other)
            yield Pair(sender, recipient, ready["address"])


def share(values: list[float], bases: list[float]) -> str:
    """Returns what the values have of the bases, run by run, and between which values 95 of 100 medians of
    resampled runs are."""
    rng = random.Random(1)
    ratios = [value / base for value, base in zip(values, bases)]
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(RESAMPLED))
    low, high = medians[RESAMPLED // 40], medians[-RESAMPLED // 40]
    return f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"


def compared(results: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    """Yields for each row what "on" has of the mean of both columns "off", and of "readers elsewhere"."""
    for row, on in results["on"].items():
        off = [statistics.mean(pair) for pair in zip(results["off"][row], results["off again"][row])]
        elsewhere = results[ELSEWHERE][row]
        yield f"{row}: on has {share(on, off)} of off, and {share(on, elsewhere)} of {ELSEWHERE}"


def together(files: list[str]) -> dict[str, dict[str, list[float]]]:
    """Returns the figures of all runs of several files of `--json`."""
    results: dict[str, dict[str, list[float]]] = {}
    for file in files:
        with open(file) as text:
            for name, rows in json.load(text).items():
                for row, values in rows.items():
                    results.setdefault(name, {}).setdefault(row, []).extend(values)
    return results


def cpu_of(pair: Pair) -> float:
    """Seconds that both nodes have run."""
    return pair.sender.cpu() + pair.recipient.cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", default="target/release/p2p-node")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tests", default=",".join(TESTS), help="default: %(default)s")
    parser.add_argument("--parts", action="store_true", help="also a column for each part alone")
    parser.add_argument("--json", metavar="FILE", help="also write every figure of every run")
    parser.add_argument("--compare", metavar="FILE", nargs="+", help="measure nothing: compare the runs of these files")
    parser.add_argument("--look-on", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.look_on:
        return look_on(sys.stdin, sys.stdout)
    if options.compare:
        print("\n".join(compared(together(options.compare))))
        return None
    columns = {"off": (), "on": PARTS, "off again": (), ELSEWHERE: ()}
    if options.parts:
        columns |= {part: (part,) for part in PARTS}
    results: dict[str, dict[str, list[float]]] = {name: {} for name in columns}
    used: list[float] = []
    order = random.Random(1)
    with closing(Observer()) as observer:
        for _ in range(options.runs):
            for name in order.sample(list(columns), len(columns)):
                for test in options.tests.split(","):
                    with ExitStack() as nodes:
                        others = []
                        if name == ELSEWHERE:
                            others.append(nodes.enter_context(pair_of(options.node, PARTS, observer, in_idle=True)))
                        pair = nodes.enter_context(pair_of(options.node, columns[name], observer))
                        began, cpu = time.monotonic(), sum(map(cpu_of, others))
                        for row, value in TESTS[test](pair).items():
                            results[name].setdefault(row, []).append(value)
                        if others:
                            used.append((sum(map(cpu_of, others)) - cpu) / (time.monotonic() - began))
    print("\n".join(pipe.table(results)))
    print("\n".join(compared(results)))
    print(f"the two nodes elsewhere used {100 * statistics.median(used):.1f} % of a processor")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    sys.exit(main())
