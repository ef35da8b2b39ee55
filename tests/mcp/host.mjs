// A host of MCP for the tests: it starts the server with the official client, and does what lines on stdin
// say. Each line on stdout answers one of them, or tells that a resource changed.
import { createInterface } from "node:readline";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { McpError, ResourceUpdatedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";

const write = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const [command, ...args] = process.argv.slice(2);
const transport = new StdioClientTransport({ command, args, env: process.env, stderr: "inherit" });
let version;
transport.setProtocolVersion = (negotiated) => (version = negotiated);
const client = new Client({ name: "test-host", version: "1.0.0" });
client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) =>
  write({ type: "updated", uri: params.uri }),
);
await client.connect(transport);
write({ type: "connected", version, server: client.getServerVersion().name });
await client.subscribeResource({ uri: "p2p-node://inbox" });
write({ type: "watches" });

async function call(command) {
  switch (command.do) {
    case "tools":
      return { tools: (await client.listTools()).tools.map(({ name, inputSchema }) => ({ name, schema: inputSchema })) };
    case "resources":
      return { uris: (await client.listResources()).resources.map(({ uri }) => uri) };
    case "read": {
      const { contents } = await client.readResource({ uri: command.uri });
      return { value: JSON.parse(contents[0].text) };
    }
    default: {
      const result = await client.callTool({ name: command.tool, arguments: command.arguments ?? {} });
      return { isError: result.isError === true, value: JSON.parse(result.content[0].text) };
    }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  call(command).then(
    (result) => write({ type: "answer", id: command.id, ...result }),
    (error) => {
      if (!(error instanceof McpError)) throw error;
      write({ type: "answer", id: command.id, code: error.code, message: error.message });
    },
  );
}
await client.close();
