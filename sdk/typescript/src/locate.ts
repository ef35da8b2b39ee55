/** Where the binary is: as named, as `P2P_NODE_BIN` says, in the package of this platform, or, only if asked, on PATH. */

import { accessSync, constants } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";

import { BinaryNotFound } from "./errors.js";

export const VARIABLE = "P2P_NODE_BIN";
export const NAME = "p2p-node";
/** The platforms for which there is a package with the binary. */
export const PLATFORMS: readonly string[] = ["darwin-arm64", "darwin-x64", "linux-arm64", "linux-x64"];

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * The path of the binary.
 *
 * @throws {BinaryNotFound} naming the places that were looked at, and what to do.
 */
export function findBinary(
  binary?: string,
  searchPath = false,
  platform = `${process.platform}-${process.arch}`,
): string {
  if (binary !== undefined) return binary;
  const named = process.env[VARIABLE];
  if (named !== undefined && named !== "") return named;
  const looked = [`${VARIABLE} (not set)`];
  const own = `@p2p-node/${platform}`;
  const require = createRequire(import.meta.url);
  const packaged = (name: string): string | undefined => {
    try {
      return join(dirname(require.resolve(`${name}/package.json`)), "bin", NAME);
    } catch {
      return undefined;
    }
  };
  const bundled = packaged(own);
  if (bundled !== undefined && isExecutable(bundled)) return bundled;
  looked.push(bundled === undefined ? `the package ${own} (not installed)` : bundled);
  if (searchPath) {
    for (const directory of (process.env["PATH"] ?? "").split(delimiter)) {
      const candidate = join(directory, NAME);
      if (directory !== "" && isExecutable(candidate)) return candidate;
    }
    looked.push("PATH");
  }
  const others = PLATFORMS.filter((other) => other !== platform && packaged(`@p2p-node/${other}`) !== undefined);
  const advice =
    others.length > 0 ?
      `there is one for ${others.join(", ")}: node_modules was copied from another machine, or Node.js runs under emulation; install it here`
    : PLATFORMS.includes(platform) ?
      "install without --omit=optional, name a binary (binary, P2P_NODE_BIN), or ask for a search of PATH (searchPath)"
    : "there is no package for this platform; build it from source and name it (binary, P2P_NODE_BIN)";
  throw new BinaryNotFound(looked, advice);
}
