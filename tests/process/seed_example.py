"""The same as seed_example.mjs, in Python."""
import json
import signal
import subprocess
import sys

binary, port = sys.argv[1:]
node = subprocess.Popen([binary, "-p", port, "-n", "agent1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def say(**command):
    node.stdin.write(json.dumps(command).encode() + b"\n")
    node.stdin.flush()


signal.signal(signal.SIGTERM, lambda *_: say(type="shutdown"))
say(type="connect", port=int(port))

for line in node.stdout:
    event = json.loads(line)
    print("Received event:", event["type"], event.get("peerId", ""))
    if event["type"] == "ready":
        signal.raise_signal(signal.SIGTERM)

print("Exited:", node.wait())
sys.exit(node.returncode)
