// Creates the package of this platform, which contains only the binary: `platform.mjs <binary> <directory>`.
// The package has no install script. The SDK starts the binary directly, without a shim.
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { libcOf, readElf, withFile } from "../dist/binary.js";

const [binary, directory] = process.argv.slice(2);
const sdk = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
const name = `@p2p-node/${process.platform}-${process.arch}`;
if (!(name in sdk.optionalDependencies)) throw new Error(`${name} is not a platform of the SDK`);

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
