/** What has to be asked of a new process, because the one before had carried it out. */

import type { Command } from "./types.js";

/** Bounded by the node, which refuses what is too much: only what it has carried out gets here. */
export class DesiredState {
  readonly #topics = new Set<string>();
  readonly #standings = new Map<string, Command>();

  /** To be told of commands in the order in which they were answered. */
  record(command: Command): void {
    switch (command.type) {
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

  /** Who is blocked comes first, so that nothing of theirs is heard on a topic. */
  replay(): Command[] {
    const topics = [...this.#topics].map((topic): Command => ({ type: "subscribe", topic }));
    return [...this.#standings.values(), ...topics];
  }
}

/** The same agent for every way of writing its address. A PeerId has one. */
export function subject(peer: string): string {
  return peer.startsWith("0x") ? peer.toLowerCase() : peer;
}
