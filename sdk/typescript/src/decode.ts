/** Decodes lines to events. No I/O. */

import type { Event, IncomingRequest, Message, Response } from "./types.js";

/** The required fields of each event, with the types that this package and its users rely on. */
const NEEDED: { [kind in Event["type"]]: Record<string, "string" | "number" | "boolean" | "object" | "array" | "id" | "any"> } = {
  ready: { peerId: "string", address: "string", protocol: "number", version: "string", features: "array", addrs: "array", limits: "object" },
  message: { from: "string", peerId: "string", messageId: "string", data: "any", priority: "string", sentAtMs: "number" },
  peer_discovered: { peerId: "string", address: "string", topics: "array", addrs: "array", capabilities: "array" },
  error: { code: "string", message: "string", retryable: "boolean" },
  log: { level: "string", namespace: "string", message: "string" },
  result: { id: "id", command: "string" },
  delivery: { messageId: "string", state: "string", attempts: "number" },
  request: { ticket: "string", from: "string", peerId: "string", data: "any", messageId: "string", deadlineMs: "number", credit: "number" },
  request_cancelled: { ticket: "string", reason: "string" },
  credit: { ticket: "string", parts: "number" },
  response: { requestId: "id", from: "string", part: "number", last: "boolean" },
  peer_connected: { peerId: "string" },
  peer_disconnected: { peerId: "string" },
  transfer: { messageId: "string", direction: "string", address: "string", bytes: "number", total: "number" },
  peer_banned: { reason: "string", score: "number", untilMs: "number" },
  peer_unbanned: { reason: "string" },
  overflow: { dropped: "object", total: "object" },
  closing: { reason: "string" },
};

/** The line is not a valid event. */
export class Undecodable extends Error {}

/**
 * Decodes a line to an event. Returns `undefined` for an event type that this version does not
 * know.
 *
 * @throws {Undecodable} if the line is not JSON, or lacks a required field of its type.
 */
export function decodeEvent(line: string): Event | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new Undecodable(String(error));
  }
  if (typeof value !== "object" || value === null || !("type" in value) || typeof value.type !== "string") {
    throw new Undecodable("the line is not an object with a type");
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
    if (!fits) throw new Undecodable(`${value.type} has no field ${name} of type ${kind}`);
  }
  return value as Event;
}

/** Returns the data of a message, a request or an answer; a `Buffer` if the sender passed bytes. */
export function content(message: Message | IncomingRequest | Response): unknown {
  return message.encoding === "base64" ? Buffer.from(String(message.data), "base64") : message.data;
}
