/**
 * Finds the binary: the given path, else the path in `P2P_NODE_BIN`, else the package of this
 * platform, else, only on request, PATH.
 */

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";

import { isExecutable, unpacked } from "./binary.js";
import { BinaryNotFound } from "./errors.js";

export const VARIABLE = "P2P_NODE_BIN";
export const NAME = "p2p-node";
/** The platforms with a package that contains the binary. */
export const PLATFORMS: readonly string[] = ["darwin-arm64", "darwin-x64", "linux-arm64", "linux-x64"];
/** Loaders of musl. On a system with one of these, npm does not install a package for glibc. */
const MUSL_LOADERS = ["/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1"];

declare const __filename: unknown;

/**
 * Returns the files from which the SDK resolves packages: this file, the program and the working
 * directory. In a CommonJS bundle `import.meta` is empty, and `__filename` is the bundle.
 */
function origins(): string[] {
  const own: unknown = import.meta.url;
  const bundle = typeof __filename === "string" ? __filename : undefined;
  const places = [own, bundle, process.argv[1], join(process.cwd(), "any.js")];
  return places.filter((place): place is string => typeof place === "string" && place !== "");
}

/** Returns the path of the binary in a package, if the package is installed. */
function packaged(name: string): string | undefined {
  for (const origin of origins()) {
    try {
      return unpacked(join(dirname(createRequire(origin).resolve(`${name}/package.json`)), "bin", NAME));
    } catch {
      // The package is not visible from this origin, or the origin does not exist.
    }
  }
  return undefined;
}

/**
 * Returns the path of the binary.
 *
 * @throws {BinaryNotFound} with the searched places and advice.
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
  const bundled = packaged(own);
  // Also returns a file that the system cannot run: `checkBinary` reports the reason.
  if (bundled !== undefined && existsSync(bundled)) return bundled;
  looked.push(bundled === undefined ? `the package ${own} (not installed)` : bundled);
  if (searchPath) {
    for (const directory of (process.env["PATH"] ?? "").split(delimiter)) {
      const candidate = join(directory, NAME);
      if (directory !== "" && isExecutable(candidate)) return candidate;
    }
    looked.push("PATH");
  }
  throw new BinaryNotFound(looked, adviceFor(platform));
}

function adviceFor(platform: string): string {
  const others = PLATFORMS.filter((other) => other !== platform && packaged(`@p2p-node/${other}`) !== undefined);
  if (others.length > 0) {
    const cause = "node_modules is a copy from another machine, or Node.js runs under emulation";
    return `the installed package is for ${others.join(", ")}: ${cause}; install it on this machine`;
  }
  const build = "build the binary from source, and set `binary` or P2P_NODE_BIN";
  if (!PLATFORMS.includes(platform)) return `there is no package for this platform; ${build}`;
  if (MUSL_LOADERS.some((loader) => existsSync(loader))) {
    return `the packages are for glibc, and this system has musl; ${build}`;
  }
  return (
    "install without --omit=optional, set `binary` or P2P_NODE_BIN, or set `searchPath`; " +
    `a node_modules beside a bundled program must contain the package @p2p-node/${platform}`
  );
}
