#!/usr/bin/env python3
"""Lets a share of the nodes flood a topic with valid broadcasts, and prints what becomes of the mail and
the broadcasts of the others.

    benches/spam.py [--node target/release/p2p-node] [--nodes 50] [--spammers 0 5 10 20] [--rate 200]
                    [--calm 15] [--attack 30] [--class idle]

All nodes talk over loopback. The honest nodes apply limits, which nodes on loopback otherwise do not
(`--limits on`). The spammers are the same program without limits. They run when no other process wants to
(the scheduling class `SCHED_IDLE`): on machines of their own they would take no processor time of the others.
With `--class other` they are as good as all others. Each row is a network of its own: in the time
`--calm` the spammers are silent, then they send `--rate` broadcasts of 256 B a second each, one by one, so
that each is a frame, or with `--together` that many at once, which share a frame. A row also says how many
frames left the spammers, because they share the processors with all others, how many of the spammers some
honest node banned, how often an honest node banned an honest one, and who took the processors.
Honest nodes send each other 20 mails and 5 broadcasts a second in both times. The program ends by itself.
"""

import argparse
import functools
import json
import os
import random
import sys
import tempfile
import time

from scale import Network, Node, check_limits

TOPIC = "market"
#: Honest mails and broadcasts a second, of the whole network.
MAILS, BROADCASTS = 20, 5
#: How often the driver writes what honest nodes send, in seconds.
STEP = 0.05
#: What marks a line of spam. There are so many of them that the driver does not decode them.
SPAM = b'"data":"spam '
#: Time for the last mails and broadcasts to arrive, in seconds.
GRACE = 15.0
#: Length of the periods for which spam at honest parents is counted, in seconds.
PERIOD = 5.0
PADDING = "x" * 200


class Traffic:
    """What honest nodes sent in one of the two times, and what became of it."""

    def __init__(self) -> None:
        self.mails: dict[str, float] = {}
        self.mail_times: list[float] = []
        self.broadcasts: dict[str, float] = {}
        self.broadcast_times: list[float] = []
        self.rejected = 0

    def figures(self, listeners: int) -> list[str]:
        expected = len(self.broadcasts) * listeners
        return [
            f"{100 * len(self.mail_times) / max(1, len(self.mails)):.2f} %", *percentiles(self.mail_times),
            f"{100 * len(self.broadcast_times) / max(1, expected):.2f} %", *percentiles(self.broadcast_times),
        ]


def percentiles(times: list[float]) -> list[str]:
    ordered = sorted(times) or [float("nan")]
    return [f"{1000 * ordered[int(len(ordered) * share)]:.0f} ms" for share in (0.5, 0.99)]


class Attack:
    def __init__(self, options: argparse.Namespace, spammers: int, home: str) -> None:
        self.options, self.network = options, Network()
        self.rng = random.Random(spammers)
        self.traffic = Traffic()
        self.sent = 0
        #: Spam that reached honest parents, by the period in which it did.
        self.spam: list[int] = []
        self.attack_began: float | None = None
        #: The PeerId of each node that an honest node banned, once for each ban.
        self.banned: list[str] = []
        hub = self.network.start(options.node, home, "--role", "bootstrap", *options.honest)
        hub.command(type="connect", protocol=1)
        self.network.until_ready()
        entries = hub.ready["addrs"][:1]
        honest = options.nodes - spammers - 1
        self.honest = [self.network.start(options.node, home, *options.honest) for _ in range(honest)]
        spammer = ("chrt", home, f"--{options.spammer_class}", "0", options.node, *options.spammer)
        self.spammers = [self.network.start(*spammer) for _ in range(spammers)]
        for node in (*self.honest, *self.spammers):
            node.command(type="connect", protocol=1, bootstrapPeers=entries)
            node.command(type="subscribe", topic=TOPIC)
        self.network.until_ready()
        for node in self.spammers:
            node.events = functools.partial(drain, node)
        for node in self.honest:
            node.events = functools.partial(self.honest_events, node)

    def on_event(self, node: Node, event: dict) -> None:
        kind = event["type"]
        if kind == "delivery" and event["state"] == "delivered":
            if (began := self.traffic.mails.get(event.get("requestId"))) is not None:
                self.traffic.mail_times.append(time.monotonic() - began)
        elif kind == "message" and event.get("topic") == TOPIC:
            if (began := self.traffic.broadcasts.get(event["data"].split()[0])) is not None:
                self.traffic.broadcast_times.append(time.monotonic() - began)
        elif kind == "peer_banned" and "peerId" in event:
            self.banned.append(event["peerId"])

    def honest_events(self, node: Node) -> list[dict]:
        """Returns the events that can be read without waiting, but spam, which it counts."""
        read = node.process.stdout.read()
        if read == b"":
            raise EOFError("an honest node has ended")
        *lines, node.rest = (node.rest + (read or b"")).split(b"\n")
        others = [line for line in lines if SPAM not in line]
        if (spam := len(lines) - len(others)) and self.attack_began is not None:
            period = int((time.monotonic() - self.attack_began) / PERIOD)
            self.spam.extend([0] * (period + 1 - len(self.spam)))
            self.spam[period] += spam
        return [json.loads(line) for line in others]

    def step(self) -> None:
        """Writes what honest nodes send in one step."""
        for _ in range(int(MAILS * STEP) or self.rng.random() < MAILS * STEP):
            sender, recipient = self.rng.sample(self.honest, 2)
            self.sent += 1
            name = f"mail-{self.sent}"
            self.traffic.mails[name] = time.monotonic()
            sender.command(type="send", id=name, peerId=recipient.ready["address"], data="hello", ttlMs=60000)
        if self.rng.random() < BROADCASTS * STEP:
            self.sent += 1
            name = f"news-{self.sent}"
            self.traffic.broadcasts[name] = time.monotonic()
            self.rng.choice(self.honest).command(type="send", topic=TOPIC, data=f"{name} {PADDING}")

    def write_spam(self) -> None:
        """Writes what the spammers send at once."""
        for node in self.spammers:
            line = f'{{"type":"send","topic":"{TOPIC}","data":"spam {self.rng.random()} {PADDING}"}}\n'
            write_now(node, line.encode() * self.options.together)

    def go_on(self, seconds: float, spams: bool) -> Traffic:
        self.traffic = Traffic()
        began = time.monotonic()
        steps = spam = 0
        spam_step = self.options.together / self.options.rate
        while (passed := time.monotonic() - began) < seconds:
            if passed >= steps * STEP:
                self.step()
                steps += 1
            if spams and passed >= spam * spam_step:
                self.write_spam()
                # What the driver is too late for, it does not make up for.
                spam = max(spam + 1, int(passed / spam_step))
            due = min(steps * STEP, spam * spam_step) if spams else steps * STEP
            # At least a glance, so that the driver reads also when it is late.
            self.network.read(max(0.0002, began + due - time.monotonic()), self.on_event, lambda: False)
        everything = len(self.honest) - 1
        traffic = self.traffic
        self.network.read(GRACE, self.on_event, lambda: (
            len(traffic.mail_times) == len(traffic.mails)
            and len(traffic.broadcast_times) == everything * len(traffic.broadcasts)
        ))
        return traffic

    def cpu(self) -> tuple[float, float, float]:
        """Returns the processor time of the honest nodes, of the spammers and of this program, in seconds."""
        spammers = sum(node.cpu() for node in self.spammers)
        return self.network.cpu() - spammers, spammers, time.process_time()

    def frames_sent(self) -> int:
        """Returns the number of frames that left the spammers."""
        for node in self.spammers:
            del node.events
        self.network.until("written", self.on_event, lambda: all([write_now(node, b"") for node in self.spammers]))
        for node in self.spammers:
            os.set_blocking(node.process.stdin.fileno(), True)
        answers = self.network.ask(self.spammers, "status")
        return sum(answer["status"]["counters"].get("broadcast_frames_sent", 0) for answer in answers)

    def run(self) -> list[str]:
        try:
            self.network.read(5.0, self.on_event, lambda: False)
            calm = self.go_on(self.options.calm, spams=False)
            memory, cpu = max(node.memory() for node in self.honest), self.cpu()
            self.attack_began = time.monotonic()
            attack = self.go_on(self.options.attack, spams=True)
            grown = max(node.memory() for node in self.honest) - memory
            passed = time.monotonic() - self.attack_began
            cpu = [f"{100 * (after - before) / passed:.0f} %" for before, after in zip(cpu, self.cpu())]
            listeners = len(self.honest) - 1
            sent = self.frames_sent()
            spammers = {node.ready["peerId"] for node in self.spammers}
            banned = spammers.intersection(self.banned)
            wrong = [peer for peer in self.banned if peer not in spammers]
            each = [f"{spam / PERIOD / max(1, len(self.honest)):.1f}" for spam in self.spam]
            return [
                f"{len(self.spammers)} of {self.options.nodes}", *calm.figures(listeners), *attack.figures(listeners),
                " ".join(each) or "0", str(sent), str(len(banned)), str(len(wrong)),
                f"{grown:.0f} MiB", *cpu,
            ]
        finally:
            self.network.close()


def drain(node: Node) -> list[dict]:
    """Drops what a spammer writes, but the beginning of a line."""
    read = node.process.stdout.read()
    if read == b"":
        raise EOFError("a spammer has ended")
    node.rest = (node.rest + (read or b"")).rpartition(b"\n")[2]
    return []


def write_now(node: Node, lines: bytes) -> bool:
    """Writes lines to a node that may not read: what does not fit into its pipe is not sent. Returns `True`
    if no part of a line is left."""
    descriptor = node.process.stdin.fileno()
    os.set_blocking(descriptor, False)
    try:
        rest = getattr(node, "unsent", b"")
        data = rest or lines
        node.unsent = data[os.write(descriptor, data):]
    except BlockingIOError:
        pass
    return not getattr(node, "unsent", b"")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", default="target/release/p2p-node")
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--spammers", type=int, nargs="+", default=[0, 5, 10, 20])
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--together", type=int, default=1, help="broadcasts that a spammer sends at once")
    parser.add_argument("--calm", type=float, default=15.0)
    parser.add_argument("--attack", type=float, default=30.0)
    parser.add_argument("--class", dest="spammer_class", choices=("idle", "other"), default="idle")
    parser.add_argument("--honest", nargs="*", default=["--limits=on"], help="arguments of honest nodes")
    parser.add_argument("--spammer", nargs="*", default=["--limits=off"], help="arguments of spammers")
    options = parser.parse_args()
    options.node = os.path.abspath(options.node)
    if not os.access(options.node, os.X_OK):
        parser.error(f"{options.node} is no program: build it by `cargo build --release`, or use --node")
    check_limits(options.nodes)
    heads = ["spammers"]
    for when in ("calm", "attack"):
        heads += [f"{when}: mail delivered", "p50", "p99", f"{when}: broadcasts delivered", "p50", "p99"]
    heads += ["spam at each honest parent a second, by 5 s", "frames that left the spammers", "spammers banned"]
    heads += ["honest nodes banned", "memory of an honest node, most growth"]
    heads += ["CPU of the honest nodes", "of the spammers", "of this program"]
    print(f"| {' | '.join(heads)} |\n|{'---:|' * len(heads)}", flush=True)
    for spammers in options.spammers:
        with tempfile.TemporaryDirectory() as home:
            print(f"| {' | '.join(Attack(options, spammers, home).run())} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
