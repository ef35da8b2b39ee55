/** Lines to events. No I/O. */

import type { Event, Message } from "./types.js";

/** The fields that each event must have, and of which type, as far as this package and its users rely on them. */
const NEEDED: { [kind in Event["type"]]: Record<string, "string" | "number" | "boolean" | "object" | "array" | "id" | "any"> } = {
  ready: { peerId: "string", address: "string", protocol: "number", version: "string", features: "array", addrs: "array", limits: "object" },
  message: { from: "string", peerId: "string", messageId: "string", data: "any", priority: "string", sentAtMs: "number" },
  peer_discovered: { peerId: "string", address: "string", topics: "array", addrs: "array", capabilities: "array" },
  error: { code: "string", message: "string", retryable: "boolean" },
  log: { level: "string", namespace: "string", message: "string" },
  result: { id: "id", command: "string" },
  delivery: { messageId: "string", state: "string", attempts: "number" },
  peer_connected: { peerId: "string" },
  peer_disconnected: { peerId: "string" },
  overflow: { dropped: "object", total: "object" },
  closing: { reason: "string" },
};

/** The line is no event. */
export class Undecodable extends Error {}

/**
 * The event that a line is; `undefined`: one of a later version, to be ignored.
 *
 * @throws {Undecodable} when it is not JSON, or not what its `type` promises.
 */
export function decodeEvent(line: string): Event | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new Undecodable(String(error));
  }
  if (typeof value !== "object" || value === null || !("type" in value) || typeof value.type !== "string") {
    throw new Undecodable("it is no object with a type");
  }
  if (!Object.hasOwn(NEEDED, value.type)) return undefined;
  const needed = NEEDED[value.type as Event["type"]];
  for (const [name, kind] of Object.entries(needed)) {
    const field: unknown = (value as Record<string, unknown>)[name];
    const fits =
      kind === "any" ? Object.hasOwn(value, name)
      : kind === "id" ? typeof field === "string" || typeof field === "number"
      : kind === "array" ? Array.isArray(field)
      : kind === "object" ? typeof field === "object" && field !== null
      : typeof field === kind;
    if (!fits) throw new Undecodable(`${value.type} has no ${name} that is ${kind}`);
  }
  return value as Event;
}

/** The data of a message; bytes if they were sent as such. */
export function content(message: Message): unknown {
  return message.encoding === "base64" ? Buffer.from(String(message.data), "base64") : message.data;
}
