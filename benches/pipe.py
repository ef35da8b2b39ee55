#!/usr/bin/env python3
"""Starts two nodes, drives them by lines on their pipes, and measures how fast mail goes from one
to the other. Prints a Markdown table: the median of the runs, with (lowest–highest).

    benches/pipe.py [--node [NAME=]'COMMAND'] … [--runs N] [--tests start,latency,…] [--allow] [--json FILE]

COMMAND starts any program that speaks the lines of docs/pipe-protocol.md and writes them without
white space, `type` first. Each run starts two fresh nodes of each command, one command after the
other, in turns in both orders. With --allow each node allows the agent of the other. Memory and CPU time are those of the process itself, so a wrapper must end in `exec`.
"""

import argparse
import fcntl
import json
import os
import select
import shlex
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

LIMIT = 60.0  # most seconds that any wait lasts
QUIET = 5.0  # seconds without a line from either node, after which the rest of a burst is lost
CHUNK = 1 << 20  # bytes of one read or write, and of each pipe

SMALL, LARGE, WINDOW = 256, 16 * 1024, 64
TESTS = "start,latency,window,burst,burst16k,memory"
DEFAULT = "p2p-node=target/release/p2p-node --network dev"

#: What a test measured: the name of a row, and its value.
Figures = dict[str, float]


def readable(pipes: Iterable[int], seconds: float) -> list[int]:
    """Waits until some of the pipes can be read or have ended, and returns these. Any number of pipes may
    be open, which `select` does not allow."""
    poll = select.poll()
    for pipe in pipes:
        poll.register(pipe, select.POLLIN)
    return [pipe for pipe, _ in poll.poll(max(0.0, seconds) * 1000)]


def writable(pipe: int, seconds: float) -> bool:
    """Waits until the pipe can be written or has no reader."""
    poll = select.poll()
    poll.register(pipe, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


class Node:
    """A process that reads commands from its stdin and writes events to its stdout."""

    def __init__(self, role: str, command: str) -> None:
        self.role = role
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            shlex.split(command), bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=environment(), start_new_session=True,
        )
        self.stdin, self.stdout = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.partial = b""
        os.set_blocking(self.stdin, False)
        with suppress(OSError):
            fcntl.fcntl(self.stdin, fcntl.F_SETPIPE_SZ, CHUNK)
            fcntl.fcntl(self.stdout, fcntl.F_SETPIPE_SZ, CHUNK)

    def write(self, data: bytes) -> None:
        """Writes all of `data`, and waits while the pipe is full."""
        rest = memoryview(data)
        while rest:
            if not writable(self.stdin, LIMIT):
                raise TimeoutError(f"the {self.role} read nothing from its stdin for {LIMIT:.0f} s")
            with suppress(BlockingIOError):
                rest = rest[os.write(self.stdin, rest) :]

    def connect(self, peers: list[str]) -> dict:
        """Makes the node join, and returns its `ready`."""
        fields = {"type": "connect", "protocol": 1, "bootstrapPeers": peers}
        self.write(json.dumps(fields).encode() + b"\n")
        ready = self.until("ready")
        self.start = time.monotonic() - self.began
        return ready

    def allow(self, agent: str) -> None:
        """Makes the node lift the limits of an agent."""
        self.write(json.dumps({"type": "allow", "id": "allow", "peerId": agent}).encode() + b"\n")
        while self.until("result").get("id") != "allow":
            pass

    def read(self) -> bytes:
        """Reads what is there: whole lines, each with its newline."""
        chunk = os.read(self.stdout, CHUNK)
        if not chunk:
            raise EOFError(f"the {self.role} has ended")
        lines, newline, self.partial = (self.partial + chunk).rpartition(b"\n")
        return lines + newline

    def until(self, kind: str, limit: float = LIMIT) -> dict:
        """The next event of the type `kind`. Skips those before it."""
        deadline = time.monotonic() + limit
        while readable([self.stdout], deadline - time.monotonic()):
            for event in map(json.loads, self.read().splitlines()):
                if event["type"] == kind:
                    return event
                if event["type"] == "error":
                    raise ValueError(f"the {self.role} answered {json.dumps(event)}")
        raise TimeoutError(f"the {self.role} wrote no `{kind}` within {limit:.0f} s")

    def memory(self) -> float:
        """Resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def cpu(self) -> float:
        """Seconds that all threads of the process have run."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Asks the process to end, and kills it if it does not."""
        with suppress(OSError, EOFError, ValueError):
            if self.process.poll() is None:
                os.write(self.stdin, b'{"type":"shutdown"}\n')
                self.until("closing", 7)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        self.process.kill()
        self.process.wait(LIMIT)
        self.process.stdin.close()
        self.process.stdout.close()


class Pair:
    """A sender and a recipient that are connected, and counts of what they wrote."""

    def __init__(self, sender: Node, recipient: Node, target: str) -> None:
        self.sender, self.recipient, self.target = sender, recipient, target
        sender.write(self.line("warm"))
        recipient.until("message")
        sender.until("delivery")
        self.reset()

    def line(self, data: str) -> bytes:
        """A `send` to the recipient."""
        fields = {"type": "send", "peerId": self.target, "data": data}
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n"

    def reset(self) -> None:
        """Starts to count anew."""
        self.received, self.delivered, self.last = 0, 0, time.monotonic()

    def step(self, seconds: float) -> bytes | None:
        """Waits for output and counts it. Returns the recipient's lines, and None in silence."""
        pipes = readable([self.sender.stdout, self.recipient.stdout], seconds)
        lines = self.recipient.read() if self.recipient.stdout in pipes else b""
        if messages := (b"\n" + lines).count(b'\n{"type":"message",'):
            self.received += messages
            self.last = time.monotonic()
        if self.sender.stdout in pipes:
            self.delivered += self.sender.read().count(b'"state":"delivered"')
        return lines if pipes else None

    def cpu(self) -> float:
        return self.sender.cpu() + self.recipient.cpu()

    def unfinished(self, number: int) -> bool:
        return min(self.received, self.delivered) < number


def environment() -> dict[str, str]:
    """The environment without the settings of a node, which would make the two alike. The nodes meet no
    other nodes of this user."""
    ours = "P2P_NODE_", "PRIVATE_KEY"
    others = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**others, "P2P_NODE_RENDEZVOUS": "off"}


def named(text: str) -> tuple[str, str]:
    """Returns the name and the command of NAME=COMMAND, or of a command alone. Ends the program if there
    is no such command."""
    name, is_named, command = text.partition("=")
    if not is_named or set(name) & set("/ "):
        name, command = Path(shlex.split(text)[0]).name, text
    program = shlex.split(command)[0]
    if not shutil.which(program):
        sys.exit(f"{program} is no program: build it by `cargo build --release`, or give another by --node")
    return name, command


def latency(pair: Pair, number: int = 500, rate: int = 100) -> Figures:
    """Times messages that are too few to wait for each other."""
    sent: list[float] = []
    waits: list[float] = []
    pair.reset()
    began = time.monotonic()
    while pair.unfinished(number):
        now, due = time.monotonic(), began + len(sent) / rate
        if len(sent) < number and now >= due:
            line = pair.line(f"{len(sent):06}".ljust(SMALL - 2, "x"))
            sent.append(time.monotonic())
            pair.sender.write(line)
            continue
        lines = pair.step(due - now if len(sent) < number else LIMIT)
        arrived = time.monotonic()
        if lines is None and len(sent) == number:
            raise TimeoutError(f"{pair.received} of {number} messages arrived")
        for event in map(json.loads, (lines or b"").splitlines()):
            if event["type"] == "message":
                waits.append((arrived - sent[int(event["data"][:6])]) * 1000)
    waits.sort()
    return {f"one way, {rate} msg/s, p{p}, ms": waits[len(waits) * p // 100] for p in (50, 99)}


def window(pair: Pair, number: int = 10_000) -> Figures:
    """Sends the next message when an earlier one is delivered."""
    line = pair.line("x" * (SMALL - 2))
    pair.reset()
    cpu, began, sent = pair.cpu(), time.monotonic(), 0
    while pair.unfinished(number):
        if more := min(pair.delivered + WINDOW, number) - sent:
            pair.sender.write(line * more)
            sent += more
        if pair.step(LIMIT) is None:
            raise TimeoutError(f"{pair.delivered} of {number} messages were delivered")
    name = f"{number:,}, at most {WINDOW} in flight"
    return {f"{name}, msg/s": number / (pair.last - began), f"{name}, CPU s of both nodes": pair.cpu() - cpu}


def flood(node: Node, line: bytes, number: int) -> None:
    """Writes the line again and again, until the node has ended."""
    each = max(1, CHUNK // len(line))
    with suppress(OSError, ValueError):
        for first in range(0, number, each):
            node.write(line * min(each, number - first))


def burst(pair: Pair, number: int = 20_000, size: int = SMALL) -> Figures:
    """Sends as fast as the node reads."""
    line = pair.line("x" * (size - 2))
    pair.reset()
    cpu, began = pair.cpu(), time.monotonic()
    thread = threading.Thread(target=flood, args=(pair.sender, line, number), daemon=True)
    thread.start()
    while pair.unfinished(number) and pair.step(QUIET) is not None:
        if time.monotonic() - began > LIMIT:
            raise TimeoutError(f"{pair.received} of {number} arrived in {LIMIT:.0f} s")
    thread.join(QUIET)
    if thread.is_alive():
        raise TimeoutError(f"the sender reads no more; {pair.received} of {number} arrived")
    name = f"burst of {number:,} of {f'{size} B' if size < 1024 else f'{size // 1024} KiB'}"
    return {
        f"{name}, msg/s": pair.received / (pair.last - began),
        f"{name}, lost": number - pair.received,
        f"{name}, CPU s of both nodes": pair.cpu() - cpu,
    }


@contextmanager
def pair_of(command: str, allows: bool = False) -> Iterator[Pair]:
    """Starts the recipient and, when it is ready, the sender."""
    with closing(Node("recipient", command)) as recipient:
        ready = recipient.connect([])
        with closing(Node("sender", command)) as sender:
            other = sender.connect(ready["addrs"][:1])
            if allows:
                sender.allow(ready["address"])
                recipient.allow(other["address"])
            yield Pair(sender, recipient, ready.get("address") or ready["peerId"])


def memory(pair: Pair, when: str) -> Figures:
    return {f"memory {when}, {n.role}, MiB": n.memory() for n in (pair.sender, pair.recipient)}


def run(command: str, tests: list[str], allows: bool) -> Iterator[tuple[str, float]]:
    """Carries out the tests with two fresh nodes."""
    timed: dict[str, Callable[[Pair], Figures]] = {
        "start": lambda pair: {"start to `ready`, ms": pair.recipient.start * 1000},
        "latency": latency, "window": window, "burst": burst,
        "burst16k": lambda pair: burst(pair, 5_000, LARGE),
    }
    with pair_of(command, allows) as pair:
        if "memory" in tests:
            time.sleep(1)
            yield from memory(pair, "idle").items()
        for name in filter(timed.get, tests):
            yield from timed[name](pair).items()
        if "memory" in tests and len(tests) > 1:
            yield from memory(pair, "after the tests").items()


def cell(values: list[float]) -> str:
    figures = statistics.median(values), min(values), max(values)
    return "{} ({}–{})".format(*(f"{v:,.0f}" if v >= 1000 else f"{v:.3g}" for v in figures))


def table(results: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    yield f"| | {' | '.join(results)} |\n|---|{'---:|' * len(results)}"
    for row in next(iter(results.values())):
        yield f"| {row} | {' | '.join(cell(rows[row]) for rows in results.values())} |"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--node", action="append", help=f"default: {DEFAULT}")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tests", default=TESTS, help="default: %(default)s")
    parser.add_argument("--allow", action="store_true", help="each node allows the agent of the other")
    parser.add_argument("--json", metavar="FILE", help="also write every figure of every run")
    args = parser.parse_args()
    args.node, args.tests = args.node or [DEFAULT], args.tests.split(",")
    if args.runs < 1 or not set(args.tests) <= set(TESTS.split(",")):
        parser.error(f"--runs is at least 1, and --tests is of {TESTS}")
    return args


def main() -> None:
    args = options()
    commands = dict(map(named, args.node))
    results: dict[str, dict[str, list[float]]] = {name: {} for name in commands}
    for number in range(args.runs):
        for name, command in list(commands.items())[:: -1 if number % 2 else 1]:
            try:
                for row, value in run(command, args.tests, args.allow):
                    results[name].setdefault(row, []).append(value)
            except (OSError, EOFError, ValueError) as error:
                sys.exit(f"pipe.py: run {number + 1} of {name}: {error}")
    print("\n".join(table(results)))
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
