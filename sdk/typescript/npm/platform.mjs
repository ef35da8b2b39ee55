// Makes the package of this platform, which holds the binary and nothing else: `platform.mjs <binary> <directory>`.
// It has no install script, and the SDK starts the binary itself and no shim.
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { libcOf, readElf, withFile } from "../dist/binary.js";

const [binary, directory] = process.argv.slice(2);
const sdk = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
const name = `@p2p-node/${process.platform}-${process.arch}`;
if (!(name in sdk.optionalDependencies)) throw new Error(`${name} is no platform of the SDK`);

const target = join(directory, "platform");
mkdirSync(join(target, "bin"), { recursive: true });
copyFileSync(binary, join(target, "bin", "p2p-node"));
chmodSync(join(target, "bin", "p2p-node"), 0o755);
// A system with another libc has no loader for the binary; a static one runs everywhere.
const libc = process.platform === "linux" ? libcOf(withFile(binary, readElf)?.loader) : undefined;
const manifest = {
  name,
  version: sdk.version,
  description: `The binary of p2p-node for ${process.platform} on ${process.arch}`,
  license: sdk.license,
  os: [process.platform],
  cpu: [process.arch],
  ...(libc === undefined ? {} : { libc: [libc] }),
  files: ["bin"],
  // A binary cannot be run from within an archive.
  preferUnplugged: true,
};
writeFileSync(join(target, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
