#!/usr/bin/env python3
"""Sends a file from one node to another, and prints its throughput beside that of raw TCP from file to file on
loopback.

    benches/files.py [--node 'COMMAND'] [--mib N] [--rounds N] [--durable] [--scp]

COMMAND is that of benches/pipe.py; use a release build. With --durable both nodes have a data directory, so that the
recipient writes the file to the disk before its message counts. The figures of rounds alternate, and their medians
are printed. Raw TCP reads a file, sends it in blocks of 256 KiB, and writes it, without a check of what arrived.
With --scp, `scp` sends it too, to an `sshd` of this program on loopback, which root can start only if /run/sshd
exists; the time that it takes for an empty file is that of the connection, and does not count.
"""

import argparse
import getpass
import json
import os
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from pipe import DEFAULT

LIMIT = 300.0
BLOCK = 256 << 10


class Agent:
    """A node that this process reads line by line."""

    def __init__(self, command: str, home: Path, key: str, flags: list[str]) -> None:
        environment = {"PATH": os.environ["PATH"], "PRIVATE_KEY": key * 32, "P2P_NODE_LOCK_SCOPE": str(home)}
        environment |= {"P2P_NODE_RENDEZVOUS": "off", "P2P_NODE_MDNS": "false", "P2P_NODE_UPNP": "false"}
        self.process = subprocess.Popen(
            [*shlex.split(command), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=home,
        )

    def write(self, command: dict[str, object]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def expect(self, kind: str) -> dict[str, object]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["type"] == kind:
                return event
            if event["type"] == "error":
                sys.exit(f"the node says {event}")
        sys.exit(f"stdout ended without {kind}")

    def connect(self, bootstraps: list[str]) -> dict[str, object]:
        self.write({"type": "connect", "protocol": 1, "bootstrapPeers": bootstraps})
        return self.expect("ready")

    def cpu(self) -> tuple[float, float]:
        """Returns the seconds that the process has run, and those of its main thread, which encrypts."""
        pid = self.process.pid
        paths = Path(f"/proc/{pid}/stat"), Path(f"/proc/{pid}/task/{pid}/stat")
        stats = [path.read_text().rpartition(")")[2].split() for path in paths]
        all_threads, main = ((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") for fields in stats)
        return all_threads, main


def raw(source: Path, target: Path) -> float:
    """Returns the seconds that raw TCP takes from file to file."""
    listener = socket.create_server(("127.0.0.1", 0))

    def receive() -> None:
        connection, _ = listener.accept()
        buffer = memoryview(bytearray(BLOCK))
        with connection, target.open("wb", buffering=0) as file:
            while count := connection.recv_into(buffer):
                file.write(buffer[:count])

    thread = threading.Thread(target=receive)
    thread.start()
    began = time.monotonic()
    with socket.create_connection(listener.getsockname()) as connection, source.open("rb", buffering=0) as file:
        buffer = memoryview(bytearray(BLOCK))
        while count := file.readinto(buffer):
            connection.sendall(buffer[:count])
    thread.join()
    listener.close()
    return time.monotonic() - began


@contextmanager
def ssh_server(home: Path) -> Iterator[list[str]]:
    """Starts an SSH server on loopback with keys of its own. Yields the command of `scp` to it, without the files."""
    directory = home / "ssh"
    directory.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    options = {
        "ListenAddress": "127.0.0.1", "HostKey": directory / "host", "AuthorizedKeysFile": directory / "user.pub",
        "PidFile": "none", "StrictModes": "no", "PasswordAuthentication": "no", "UsePAM": "no",
        "Subsystem": "sftp internal-sftp",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    server = subprocess.Popen([shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-f", "/dev/null", "-p", port, *words])
    known = directory / "known"
    known.write_text(f"[127.0.0.1]:{port} {(directory / 'host.pub').read_text()}")
    try:
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(port))).close()
                break
            except ConnectionRefusedError:
                if server.poll() is not None or time.monotonic() > deadline:
                    sys.exit("sshd does not start")
                time.sleep(0.05)
        yield [
            "scp", "-q", "-F", "none", "-P", port, "-i", str(directory / "user"),
            "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes",
        ]
    finally:
        server.terminate()
        server.wait()


def scp(command: list[str], source: Path, target: Path) -> float:
    """Returns the seconds that `scp` takes for a file, without those that it takes for an empty one."""
    empty = source.with_name("empty")
    empty.touch()
    seconds = []
    for file in (empty, source):
        began = time.monotonic()
        subprocess.run([*command, str(file), f"{getpass.getuser()}@127.0.0.1:{target}"], check=True)
        seconds.append(time.monotonic() - began)
    return seconds[1] - seconds[0]


def transfer(sender: Agent, recipient: Agent, address: object, source: Path) -> tuple[float, float, Path]:
    """Returns the seconds to read the file before the message is accepted, those until it arrived, and its path."""
    began = time.monotonic()
    sender.write({"type": "send", "id": "file", "peerId": address, "data": None, "file": str(source)})
    sender.expect("result")
    accepted = time.monotonic()
    message = recipient.expect("message")
    arrived = time.monotonic()
    sender.expect("delivery")
    file = message["file"]
    assert isinstance(file, dict)
    return accepted - began, arrived - accepted, Path(file["path"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--node", default=DEFAULT, help=f"default: {DEFAULT}")
    parser.add_argument("--mib", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--durable", action="store_true")
    parser.add_argument("--scp", action="store_true", help="also measure scp")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, ssh_server(Path(directory)) if args.scp else nullcontext() as ssh:
        home = Path(directory)
        source = home / "source"
        with source.open("wb") as file:
            for _ in range(args.mib):
                file.write(os.urandom(1 << 20))
        data = [["--data-dir", str(home / name)] if args.durable else [] for name in ("one", "two")]
        recipient = Agent(args.node, home, "b2", ["--files-dir", str(home / "files"), *data[1]])
        ready = recipient.connect([])
        addresses = ready["addrs"]
        assert isinstance(addresses, list)
        sender = Agent(args.node, home, "b1", data[0])
        sender.connect(addresses[:1])
        figures: dict[str, list[float]] = {"raw": [], "read": [], "node": [], "scp": []}
        try:
            for number in range(args.rounds + 1):
                seconds = raw(source, home / "raw")
                if ssh and number:
                    figures["scp"].append(scp(ssh, source, home / "copy"))
                cpu = sender.cpu(), recipient.cpu()
                read, took, path = transfer(sender, recipient, ready["address"], source)
                assert number or path.read_bytes() == source.read_bytes(), "the content differs"
                path.unlink()
                # The first round warms up the caches, and connects the nodes.
                if number:
                    figures["raw"].append(seconds)
                    figures["read"].append(read)
                    figures["node"].append(took)
                    for name, agent, before in zip(("sender", "recipient"), (sender, recipient), cpu):
                        for thread, since, now in zip(("", ", main thread"), before, agent.cpu()):
                            figures.setdefault(f"CPU of the {name}{thread}", []).append(now - since)
        finally:
            sender.process.kill()
            recipient.process.kill()
        median = {name: statistics.median(values) for name, values in figures.items() if values}
        rate = {name: args.mib / median[name] for name in ("raw", "read", "node", "scp") if name in median}
        print(f"raw TCP, file to file:  {rate['raw']:8.0f} MiB/s")
        print(f"node, file to file:     {rate['node']:8.0f} MiB/s  ({median['raw'] / median['node']:.2f} of raw)")
        print(f"reading before `accepted`: {rate['read']:5.0f} MiB/s")
        for name, seconds in median.items():
            if name.startswith("CPU"):
                print(f"{name}: {seconds:.2f} s")
        if ssh:
            print(f"scp, file to file:      {rate['scp']:8.0f} MiB/s  ({median['raw'] / median['scp']:.2f} of raw)")


if __name__ == "__main__":
    main()
