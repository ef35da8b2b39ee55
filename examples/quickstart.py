#!/usr/bin/env python3
"""Two agents on this machine: alice sends bob a message by his Ethereum address.

Needs only the standard library."""
import json
import os
import subprocess

NODE = os.environ.get("P2P_NODE_BIN", "target/release/p2p-node")


class Agent:
    def __init__(self, name):
        self.process = subprocess.Popen(
            [NODE, "--name", name, "--parent-pid", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def say(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def wait_for(self, kind):
        for line in self.process.stdout:
            event = json.loads(line)
            if event["type"] == kind:
                return event
            if event["type"] == "error":
                raise RuntimeError(line)
        raise RuntimeError(f"the node exited before its event {kind}; see its stderr above")

    def close(self):
        self.process.stdin.close()  # the node exits at the end of stdin
        self.process.stdout.read()
        self.process.wait(timeout=10)


bob = Agent("bob")
bob.say(type="connect", port=0, protocol=1)
bob_ready = bob.wait_for("ready")

alice = Agent("alice")
alice.say(type="connect", port=0, protocol=1, bootstrapPeers=bob_ready["addrs"])
alice_ready = alice.wait_for("ready")

alice.say(type="send", id=1, peerId=bob_ready["address"], ttlMs=20_000, data={"text": "hello bob"})
state = alice.wait_for("delivery")["state"]
print("alice knows that it is", state)
assert state == "delivered"
message = bob.wait_for("message")
print("bob received", message["data"], "from", message["from"])
assert message["from"] == alice_ready["address"]

alice.close()
bob.close()
