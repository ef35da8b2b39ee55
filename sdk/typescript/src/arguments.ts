/** Checks arguments. Errors name the argument and say what to pass instead. No I/O. */

import { InvalidArgument } from "./errors.js";
import { FIELD_LIMITS, type Message } from "./types.js";

/** Maximum nesting depth of `data`. The line itself is one of the levels that the node accepts. */
export const MAX_DATA_DEPTH = FIELD_LIMITS.maxDepth - 1;
/** Maximum number of characters of a value that an error quotes. */
const QUOTED = 40;

/** Describes a value for an error message. */
export function describe(value: unknown): string {
  if (value === undefined || value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") return `the string ${JSON.stringify(value.length > QUOTED ? `${value.slice(0, QUOTED)}…` : value)}`;
  if (typeof value === "number") return `the number ${value}`;
  if (typeof value === "bigint") return `the BigInt ${value}`;
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return `an object of type ${tagOf(value)}`;
  return `a ${typeof value}`;
}

function tagOf(value: object): string {
  return Object.prototype.toString.call(value).slice("[object ".length, -1);
}

/** A rule for one argument: returns advice for an invalid value, `undefined` for a valid one. */
export type Rule = (value: unknown) => string | undefined;

const unless = (fits: (value: unknown) => boolean, advice: string): Rule => (value) => (fits(value) ? undefined : advice);

export const text: Rule = unless((value) => typeof value === "string", "give a string");
export const name: Rule = unless((value) => typeof value === "string" && value !== "", "give a string that is not empty");
export const flag: Rule = unless((value) => typeof value === "boolean", "give true or false");
export const milliseconds: Rule = unless((value) => typeof value === "number" && value >= 0, "give a number of milliseconds, 0 or more");
export const functions: Rule = unless((value) => typeof value === "function", "give a function");
export const signal: Rule = unless((value) => value instanceof AbortSignal, "give an AbortSignal");
export const object: Rule = unless((value) => typeof value === "object" && value !== null && !Array.isArray(value), "give an object");
export const strings: Rule = (value) => {
  if (typeof value === "string") return `give a list: [${JSON.stringify(value)}]`;
  return Array.isArray(value) && value.every((item) => typeof item === "string") ? undefined : "give a list of strings";
};
export const texts: Rule = (value) =>
  object(value) ?? (Object.values(value as object).every((item) => typeof item === "string") ? undefined : "give an object with strings only");

export function integer(least: number, most: number): Rule {
  return unless((value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most, `give a whole number from ${least} to ${most}`);
}

export function oneOf(...values: string[]): Rule {
  return unless((value) => values.includes(value as string), `give one of ${values.map((value) => JSON.stringify(value)).join(", ")}`);
}

/** @throws {InvalidArgument} unless the value fits the rule. */
export function check(argument: string, value: unknown, rule: Rule): void {
  const advice = rule(value);
  if (advice !== undefined) throw new InvalidArgument(argument, `is ${describe(value)}: ${advice}`);
}

/**
 * Checks every option; ignores options that are `undefined`.
 *
 * @throws {InvalidArgument} for an unknown option or an invalid value.
 */
export function checkOptions(options: unknown, rules: Record<string, Rule>, prefix = ""): void {
  check(prefix === "" ? "options" : prefix.slice(0, -1), options, object);
  for (const [key, value] of Object.entries(options as object)) {
    const rule = Object.hasOwn(rules, key) ? rules[key] : undefined;
    if (rule === undefined) throw new InvalidArgument(`${prefix}${key}`, `is no option: use one of ${Object.keys(rules).join(", ")}`);
    if (value !== undefined) check(`${prefix}${key}`, value, rule);
  }
}

/** Rules for the options of every call. */
export const CALL: Record<string, Rule> = { signal, timeoutMs: milliseconds };
export const PUBLISH: Record<string, Rule> = { ...CALL, kind: text, priority: oneOf("low", "medium", "high"), traceparent: text };
export const SEND: Record<string, Rule> = {
  ...PUBLISH,
  ttlMs: integer(1, FIELD_LIMITS.maxTtlMs),
  route: oneOf("auto", "direct", "gossip"),
  replyTo: text,
  conversationId: text,
  file: name,
};
export const DISCOVER: Record<string, Rule> = { ...CALL, topic: name, address: name, capability: name, lookForMs: integer(0, FIELD_LIMITS.maxDiscoverMs) };

/** @throws {InvalidArgument} unless `peer` is a non-empty string. */
export function checkPeer(argument: string, peer: unknown): void {
  const advice = "give one `0x…` address or PeerId as a string";
  check(argument, peer, (value) => (Array.isArray(value) ? `${advice}, and call once for each` : name(value) && advice));
}

/** @throws {InvalidArgument} unless `message` has the fields of a message from a stream. */
export function checkMessage(message: unknown): asserts message is Message {
  const isMessage = (value: unknown): boolean =>
    typeof value === "object" && value !== null && ["messageId", "from"].every((key) => typeof (value as Record<string, unknown>)[key] === "string");
  check("message", message, unless(isMessage, "give the message itself, as `node.messages()` yields it"));
}

/** @throws {InvalidArgument} if JSON cannot represent the value without loss. */
export function checkData(data: unknown): void {
  checkValue("data", data, []);
}

function checkValue(path: string, value: unknown, around: object[]): void {
  const reject = (advice: string): never => {
    throw new InvalidArgument(path, `is ${describe(value)}, which JSON cannot represent: ${advice}`);
  };
  switch (typeof value) {
    case "boolean":
      return;
    case "string":
      if (/\p{Surrogate}/u.test(value)) throw new InvalidArgument(path, "contains half of a surrogate pair: send bytes, or call toWellFormed()");
      return;
    case "number":
      return Number.isFinite(value) ? undefined : reject("use null or a string");
    case "bigint":
      return reject("use a string");
    case "object":
      if (value !== null) checkObject(path, value, around, reject);
      return;
    default:
      reject("leave it out, or use null");
  }
}

function checkObject(path: string, value: object, around: object[], reject: (advice: string) => never): void {
  if (around.includes(value)) throw new InvalidArgument(path, "contains itself, which JSON cannot represent: send a value without cycles");
  if (around.length >= MAX_DATA_DEPTH) throw new InvalidArgument(path, `is nested more than ${MAX_DATA_DEPTH} levels deep: flatten it, or send a string`);
  const within = [...around, value];
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) reject("send a Uint8Array as the whole `data`, or use a string");
  if (value instanceof Date && Number.isNaN(value.getTime())) reject("the date is no time; use a valid date");
  if ("toJSON" in value && typeof value.toJSON === "function") {
    checkValue(path, (value.toJSON as (key: string) => unknown)(""), within);
  } else if (Array.isArray(value)) {
    // Iterates by index, so that the check also sees the gaps of a sparse array.
    for (let index = 0; index < value.length; index++) checkValue(`${path}[${index}]`, value[index], within);
  } else {
    if (tagOf(value) !== "Object") reject("use a plain object, a list or a string");
    for (const [key, item] of Object.entries(value)) {
      // JSON omits a field that is `undefined`, which most programs intend.
      if (item !== undefined) checkValue(`${path}.${key}`, item, within);
    }
  }
}
