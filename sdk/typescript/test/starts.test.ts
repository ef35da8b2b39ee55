/** Failed starts and their errors. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { BinaryUnusable, P2PNode, SidecarExited, StartFailed, type BinaryReason } from "../src/index.js";
import { libcOf, readElf, withFile } from "../src/binary.js";
import { binary, CHILD, HOME, is, misbehaving, once, real } from "./common.js";

const linux = process.platform === "linux" ? false : "needs Linux";

/** Writes a copy of the real binary with one change; returns its path. */
function patched(name: string, change: (bytes: Buffer) => Buffer): string {
  const path = join(HOME, name);
  writeFileSync(path, change(Buffer.from(readFileSync(binary()))), { mode: 0o755 });
  return path;
}

async function fails(path: string, reason: BinaryReason, ...words: string[]): Promise<void> {
  await assert.rejects(P2PNode.open({ binary: path }), (error: Error) => {
    assert.ok(error instanceof BinaryUnusable, `${reason}: ${String(error)}`);
    assert.deepEqual([error.code, error.reason, error.path], ["BINARY_UNUSABLE", reason, path], error.message);
    for (const word of [path, ...words]) assert.ok(error.message.includes(word), error.message);
    return true;
  });
}

test("open with a configuration that the node rejects fails with the node's report", async () => {
  await assert.rejects(real({ privateKey: "zz" }), (error: Error) => {
    assert.ok(error instanceof StartFailed && error instanceof SidecarExited);
    assert.deepEqual([error.code, error.exit.code, error.report?.code], ["IDENTITY_INVALID", 78, "IDENTITY_INVALID"]);
    assert.match(error.message, /exit code 78: IDENTITY_INVALID: .*64 hexadecimal digits/);
    assert.ok(error.stderrTail.includes("64 hexadecimal digits") && !error.message.includes("zz"));
    return true;
  });
  await assert.rejects(real({ bootstrapPeers: ["nonsense"] }), (error: Error) => {
    assert.ok(error instanceof StartFailed && error.code === "INVALID_ARGUMENT", String(error));
    return error.message.includes("nonsense");
  });
  await assert.rejects(real({ args: ["--nonsense"] }), (error: Error) => is("INVALID_ARGUMENT")(error) && error.message.includes("nonsense"));
});

test("a crash after an error event fails calls with that error", async () => {
  const node = await misbehaving("fatal", { restart: false });
  const closed = once(node, "closed");
  await assert.rejects(node.send("0xB", 1), (error: Error) => is("SIDECAR_EXITED")(error) && error.message.includes("exit code 70: INTERNAL: a defect, told"));
  assert.equal(((await closed) as SidecarExited).report?.code, "INTERNAL");
});

test("a file that the system cannot run is rejected with reason and path", { skip: linux }, async () => {
  await fails(join(HOME, "nowhere"), "missing", "does not exist");
  await fails(HOME, "not_a_file");
  const empty = join(HOME, "empty");
  writeFileSync(empty, "", { mode: 0o755 });
  await fails(empty, "empty");
  const text = join(HOME, "text");
  writeFileSync(text, `touch ${join(HOME, "was-run")}\n`, { mode: 0o755 });
  await fails(text, "not_a_program");
  assert.throws(() => readFileSync(join(HOME, "was-run")), "a shell ran the file");
  const script = join(HOME, "script");
  writeFileSync(script, "#!/nowhere/sh\n", { mode: 0o755 });
  await fails(script, "missing_interpreter", "/nowhere/sh");
  const plain = join(HOME, "plain");
  copyFileSync(CHILD, plain);
  chmodSync(plain, 0o644);
  await fails(plain, "not_executable", "chmod +x");
});

test("a damaged or foreign binary is rejected with reason and path", { skip: linux }, async () => {
  await fails(patched("foreign", (bytes) => (bytes.writeUInt16LE(process.arch === "x64" ? 183 : 62, 18), bytes)), "wrong_architecture", process.arch);
  const loader = withFile(binary(), readElf)?.loader ?? "";
  assert.notEqual(loader, "", "the binary under test is linked to a libc");
  await fails(patched("musl", (bytes) => (bytes.write("/lib/ld-musl-nowhere\0", bytes.indexOf(loader), "latin1"), bytes)), "missing_loader", "/lib/ld-musl-nowhere", "musl");
  for (const part of [10, 100, 0.5, 0.999]) {
    const cut = patched("cut", (bytes) => bytes);
    truncateSync(cut, part < 1 ? Math.floor(readFileSync(cut).length * part) : part);
    await fails(cut, "truncated");
  }
});

test("readElf of random bytes never throws", () => {
  const whole = withFile(binary(), (read) => read(0, 4096));
  for (let round = 0; round < 3000; round++) {
    const bytes = Buffer.from(whole.subarray(0, Math.floor(Math.random() * 1024)));
    for (let flips = 0; flips < 8 && bytes.length > 0; flips++) bytes[Math.floor(Math.random() * Math.min(bytes.length, 512))] = Math.floor(Math.random() * 256);
    const read = (offset: number, length: number): Buffer => bytes.subarray(offset, offset + length);
    const elf = readElf(read);
    assert.ok(elf === undefined || elf.bytes >= 0);
  }
  assert.deepEqual([undefined, "/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"].map(libcOf), [undefined, "glibc", "musl"]);
});

test("a binary on a noexec mount is rejected with the reason noexec", { skip: linux }, async (t) => {
  const directory = join(HOME, "noexec");
  mkdirSync(directory);
  const index = fileURLToPath(new URL("../src/index.js", import.meta.url));
  const program = `
    const { P2PNode } = await import(${JSON.stringify(index)});
    await P2PNode.open({ binary: ${JSON.stringify(join(directory, "node"))} }).catch((error) => console.log(error.reason));`;
  const inside = `mount -t tmpfs -o noexec none ${directory} && cp ${CHILD} ${directory}/node && exec ${process.execPath} --input-type=module -e '${program}'`;
  const result = await promisify(execFile)("unshare", ["-rm", "sh", "-c", inside]).catch((error: Error) => error.message);
  if (typeof result === "string") return t.skip(`no mount of our own here: ${result}`);
  assert.equal(result.stdout, "noexec\n");
});

test("a binary in an Electron archive is replaced by its unpacked copy", async () => {
  const [inside, beside] = [join(HOME, "app.asar", "bin"), join(HOME, "app.asar.unpacked", "bin")];
  for (const directory of [inside, beside]) mkdirSync(directory, { recursive: true });
  copyFileSync(CHILD, join(beside, "p2p-node"));
  const node = await misbehaving("good", { binary: join(inside, "p2p-node") });
  await node.close();
  const packed = join(HOME, "other.asar");
  mkdirSync(packed);
  copyFileSync(CHILD, join(packed, "p2p-node"));
  await fails(join(packed, "p2p-node"), "in_archive", "asarUnpack");
});

test("a binary without a directory is searched on PATH, and a missing cwd is named", async () => {
  await assert.rejects(P2PNode.open({ binary: "no-such-program" }), (error: Error) => is("BINARY_NOT_FOUND")(error) && error.message.includes("no-such-program"));
  await assert.rejects(misbehaving("good", { cwd: "/nowhere" }), (error: Error) => is("INVALID_ARGUMENT")(error) && error.message.includes("/nowhere"));
  const node = await P2PNode.open({ binary: "sh", args: [CHILD, "good"], restart: false });
  await node.close();
});

test("a program that exits before it is ready fails the start with a probable cause", async () => {
  for (const [body, word] of [["kill -SEGV $$", "is damaged"], ["exit 0", "may be another program"]] as const) {
    const path = join(HOME, "ends");
    writeFileSync(path, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
    await assert.rejects(P2PNode.open({ binary: path }), (error: Error) => error instanceof StartFailed && error.code === "SIDECAR_EXITED" && error.message.includes(`${path} ${word}`));
  }
});
