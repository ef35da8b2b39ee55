/** Files of messages, between real nodes. */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { test } from "node:test";

import { is, real } from "./common.js";

const home = mkdtempSync(join(tmpdir(), "p2p-node-files-"));

test("a file arrives whole with its message", async () => {
  const content = randomBytes(3 << 20);
  writeFileSync(join(home, "a file.bin"), content);
  const sender = await real();
  const args = ["--files-dir", join(home, "received")];
  const other = await real({ args, bootstrapPeers: sender.ready.addrs.slice(0, 1) });
  try {
    // A relative path belongs to the working directory of the program.
    const file = relative(process.cwd(), join(home, "a file.bin"));
    const sent = await sender.send(other.address, { note: 1 }, { file });
    for await (const message of other.messages()) {
      assert.deepEqual([message.messageId, message.data], [sent.messageId, { note: 1 }]);
      assert.ok(message.file !== undefined);
      assert.deepEqual([message.file.size, message.file.name], [content.length, "a file.bin"]);
      assert.ok(readFileSync(message.file.path).equals(content));
      await other.ack(message);
      break;
    }
    await sent.delivered();
    for await (const event of other.events()) {
      if (event.type !== "transfer") continue;
      assert.deepEqual([event.direction, event.messageId, event.bytes], ["receive", sent.messageId, event.total]);
      break;
    }
  } finally {
    await Promise.all([sender.close(), other.close()]);
  }
});

test("a file that cannot be read is refused", async () => {
  const node = await real();
  try {
    await assert.rejects(node.send(`0x${"11".repeat(20)}`, null, { file: join(home, "missing") }), is("FILE_UNAVAILABLE"));
  } finally {
    await node.close();
  }
});
