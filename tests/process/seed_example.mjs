// The example of the original sidecar's documentation, as a test: spawn, connect on a port, read events by splitting
// chunks, shut down on a signal. The path of the binary and the port come as arguments.
import { spawn } from "child_process";

const [binary, port] = process.argv.slice(2);
const node = spawn(binary, ["-p", port, "-n", "agent1"]);

node.stdin.write(JSON.stringify({ type: "connect", port: Number(port) }) + "\n");

node.stdout.on("data", (data) => {
  const events = data.toString().split("\n").filter(Boolean);
  for (const event of events) {
    const parsed = JSON.parse(event);
    console.log("Received event:", parsed.type, parsed.peerId ?? "");
    if (parsed.type === "ready") process.kill(process.pid, "SIGTERM");
  }
});

process.on("SIGTERM", () => {
  node.stdin.write(JSON.stringify({ type: "shutdown" }) + "\n");
});

node.on("exit", (code) => {
  console.log("Exited:", code);
  process.exit(code);
});
