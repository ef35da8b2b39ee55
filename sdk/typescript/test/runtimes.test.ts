/** The SDK under other runtimes and in bundles: two real nodes open, exchange mail and close. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { binary, DEV, HOME, PATIENCE_MS, RUNTIMES, runtime } from "./common.js";

const run = promisify(execFile);
const INDEX = fileURLToPath(new URL("../src/index.js", import.meta.url));
/** Returns the program that imports the SDK from `imported`. */
const program = (imported: string): string => `
  import { P2PNode } from ${JSON.stringify(imported)};
  async function main() {
    const alice = await P2PNode.open({ network: "dev", port: 0 });
    const bob = await P2PNode.open({ network: "dev", port: 0, bootstrapPeers: alice.ready.addrs.slice(0, 1) });
    await bob.joined();
    const mail = await bob.send(alice.address, "from afar");
    for await (const message of alice.messages()) {
      await alice.ack(message);
      console.log(message.data, (await mail.delivered()).state);
      break;
    }
    const left = await Promise.all([alice.close(), bob.close()]);
    console.log(left.flat().length, alice.exit.code, bob.exit.code);
  }
  main();`;

async function mails(command: string, args: string[], env: NodeJS.ProcessEnv = { P2P_NODE_BIN: binary() }): Promise<void> {
  const all = { ...process.env, P2P_NODE_LOCK_SCOPE: HOME, P2P_NODE_RENDEZVOUS: "off", ...env };
  const { stdout, stderr } = await run(command, args, { cwd: HOME, env: all, timeout: PATIENCE_MS });
  assert.equal(stdout, "from afar delivered\n0 0 0\n", stderr);
}

for (const { name, args } of RUNTIMES) {
  const { command, skip } = await runtime(name);
  test(`two nodes under ${name} open, exchange mail and close`, { skip }, async () => {
    const script = join(HOME, `${name}.mjs`);
    writeFileSync(script, program(INDEX));
    await mails(command, [...args, script]);
  });
}

interface Esbuild {
  build(options: object): Promise<{ warnings: { id: string; text: string }[] }>;
}

function loadEsbuild(): Esbuild | undefined {
  try {
    return createRequire(join(DEV, "any.js"))("esbuild") as Esbuild;
  } catch {
    return undefined;
  }
}

const esbuild = loadEsbuild();
for (const [format, extension] of [["cjs", "cjs"], ["esm", "mjs"]] as const) {
  test(`two nodes in a bundle as ${format} open, exchange mail and close`, { skip: esbuild === undefined && "there is no esbuild in dev" }, async () => {
    const directory = join(HOME, `bundle-${format}`);
    mkdirSync(directory);
    const [entry, outfile] = [join(directory, "entry.mjs"), join(directory, `app.${extension}`)];
    writeFileSync(entry, program(INDEX));
    const { warnings } = await (esbuild as Esbuild).build({ entryPoints: [entry], outfile, bundle: true, platform: "node", format, minify: true, logLevel: "silent" });
    assert.deepEqual(warnings.filter((warning) => warning.id !== "empty-import-meta"), []);
    await mails(process.execPath, [outfile]);
    // Without a binary the error lists the searched places and what a bundle needs.
    const env = { ...process.env, P2P_NODE_BIN: "" };
    const alone = await run(process.execPath, [outfile], { cwd: directory, env }).then(() => assert.fail(), (error: { stderr: string }) => error.stderr);
    assert.match(alone, /BINARY_NOT_FOUND/);
    assert.match(alone, /beside a bundled program must contain/);
    // With the package of the platform beside it, the bundle finds the binary from any directory.
    const packaged = join(directory, "node_modules/@p2p-node", `${process.platform}-${process.arch}`);
    mkdirSync(join(packaged, "bin"), { recursive: true });
    writeFileSync(join(packaged, "package.json"), "{}");
    symlinkSync(binary(), join(packaged, "bin/p2p-node"));
    await mails(process.execPath, [outfile], { P2P_NODE_BIN: "" });
  });
}
