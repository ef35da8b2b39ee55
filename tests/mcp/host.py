"""A host of MCP for the tests: it starts the server with the official client, and does what lines on
stdin say. Each line on stdout answers one of them, or tells that a resource changed."""

import asyncio
import json
import os
import sys

from mcp import Client, MCPError, StdioServerParameters


def write(line: dict) -> None:
    print(json.dumps(line), flush=True)


async def call(client: Client, command: dict) -> dict:
    if command["do"] == "tools":
        tools = (await client.list_tools()).tools
        return {"tools": [{"name": tool.name, "schema": tool.input_schema} for tool in tools]}
    if command["do"] == "resources":
        return {"uris": [resource.uri for resource in (await client.list_resources()).resources]}
    if command["do"] == "read":
        contents = (await client.read_resource(command["uri"])).contents
        return {"value": json.loads(contents[0].text)}
    result = await client.call_tool(command["tool"], command.get("arguments", {}))
    return {"isError": bool(result.is_error), "value": json.loads(result.content[0].text)}


async def answer(client: Client, command: dict) -> None:
    try:
        result = await call(client, command)
    except MCPError as error:
        result = {"code": error.error.code, "message": error.error.message}
    write({"type": "answer", "id": command["id"], **result})


async def watch(client: Client) -> None:
    async with client.listen(resource_subscriptions=["p2p-node://inbox"]) as events:
        write({"type": "watches"})
        async for event in events:
            write({"type": "updated", "uri": event.uri})


async def main() -> None:
    binary, *arguments = sys.argv[1:]
    server = StdioServerParameters(command=binary, args=arguments, env=dict(os.environ))
    async with Client(server) as client:
        write({"type": "connected", "version": client.protocol_version, "server": client.server_info.name})
        tasks = {asyncio.create_task(watch(client))}
        reader = asyncio.StreamReader(limit=1 << 24)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            tasks.add(asyncio.create_task(answer(client, json.loads(line))))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


asyncio.run(main())
