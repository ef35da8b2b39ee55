/** Capabilities, subscriptions and access rules that a new process of the node must get again. */

import type { Command } from "./types.js";

/** Holds commands that the node has carried out. The limits of the node bound it. */
export class DesiredState {
  #capabilities: Command[] = [];
  readonly #topics = new Set<string>();
  readonly #standings = new Map<string, Command>();

  /** Records a command that the node has carried out. Call it in the order of the answers. */
  record(command: Command): void {
    switch (command.type) {
      case "capabilities":
        this.#capabilities = [{ type: command.type, capabilities: [...command.capabilities] }];
        break;
      case "subscribe":
        this.#topics.add(command.topic);
        break;
      case "unsubscribe":
        this.#topics.delete(command.topic);
        break;
      case "block":
      case "allow":
        this.#standings.set(subject(command.peerId), { type: command.type, peerId: command.peerId });
        break;
      case "unblock":
        this.#standings.delete(subject(command.peerId));
        break;
    }
  }

  /** Returns the commands for a new process. Blocks come first, so that no broadcast of a blocked agent arrives on a topic. */
  replay(): Command[] {
    const topics = [...this.#topics].map((topic): Command => ({ type: "subscribe", topic }));
    return [...this.#standings.values(), ...this.#capabilities, ...topics];
  }
}

/** Returns the key of an agent: addresses differ only in case; a PeerId has one form. */
export function subject(peer: string): string {
  return peer.startsWith("0x") ? peer.toLowerCase() : peer;
}
