/** Where the binary is: as named, as `P2P_NODE_BIN` says, in the package of this platform, or, only if asked, on PATH. */

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";

import { isExecutable, unpacked } from "./binary.js";
import { BinaryNotFound } from "./errors.js";

export const VARIABLE = "P2P_NODE_BIN";
export const NAME = "p2p-node";
/** The platforms for which there is a package with the binary. */
export const PLATFORMS: readonly string[] = ["darwin-arm64", "darwin-x64", "linux-arm64", "linux-x64"];
/** Loaders of musl: where there is one, npm does not install a package that needs glibc. */
const MUSL_LOADERS = ["/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1"];

declare const __filename: unknown;

/**
 * Where packages are looked for: beside this file, and beside the program. A bundler that writes CommonJS leaves `import.meta` empty; there
 * `__filename` is the bundle.
 */
function origins(): string[] {
  const own: unknown = import.meta.url;
  const bundle = typeof __filename === "string" ? __filename : undefined;
  const places = [own, bundle, process.argv[1], join(process.cwd(), "any.js")];
  return places.filter((place): place is string => typeof place === "string" && place !== "");
}

/** The binary in a package, if the package is installed. */
function packaged(name: string): string | undefined {
  for (const origin of origins()) {
    try {
      return unpacked(join(dirname(createRequire(origin).resolve(`${name}/package.json`)), "bin", NAME));
    } catch {
      // It is not to be seen from there, or there is no such place.
    }
  }
  return undefined;
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
  const bundled = packaged(own);
  // One that is there and cannot be run is an error of its own, with its cause.
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
    return `there is one for ${others.join(", ")}: node_modules was copied from another machine, or Node.js runs under emulation; install it here`;
  }
  if (!PLATFORMS.includes(platform)) return "there is no package for this platform; build it from source and name it (binary, P2P_NODE_BIN)";
  if (MUSL_LOADERS.some((loader) => existsSync(loader))) {
    return "the packages are for glibc, and this system has musl; build it from source and name it (binary, P2P_NODE_BIN)";
  }
  return (
    `install without --omit=optional, name a binary (binary, P2P_NODE_BIN), or ask for a search of PATH (searchPath); ` +
    `beside a bundled program the package @p2p-node/${platform} has to be in node_modules, or the binary to be named`
  );
}
