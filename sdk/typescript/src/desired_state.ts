/** Capabilities, handlers, subscriptions and access rules that the SDK restores in a new process. */

import type { Command } from "./types.js";

/** Holds commands that the node has executed. The limits of the node bound its size. */
export class DesiredState {
  #capabilities: Command[] = [];
  #handlers: Command[] = [];
  readonly #topics = new Set<string>();
  readonly #standings = new Map<string, Command>();

  /** Records a command that the node has executed. Call it in the order of the answers. */
  record(command: Command): void {
    switch (command.type) {
      case "capabilities":
        this.#capabilities = [{ type: command.type, capabilities: [...command.capabilities] }];
        break;
      case "handle":
        this.#handlers = [{ type: command.type, kinds: [...command.kinds] }];
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

  /**
   * Returns the commands for a new process. Access rules come first, so that no broadcast of a
   * blocked agent arrives on a topic.
   */
  replay(): Command[] {
    const topics = [...this.#topics].map((topic): Command => ({ type: "subscribe", topic }));
    return [...this.#standings.values(), ...this.#capabilities, ...this.#handlers, ...topics];
  }
}

/** Returns the key of an agent: the address in lower case. A PeerId has one form. */
export function subject(peer: string): string {
  return peer.startsWith("0x") ? peer.toLowerCase() : peer;
}
