#!/usr/bin/env python3
"""An agent that answers requests, and a client: a reply has the `conversation_id` of its request.

    python3 examples/python/request_reply.py
"""

import asyncio
import sys
import uuid

import p2p_node


async def serve(node: p2p_node.Node) -> None:
    """Squares the numbers of requests.

    The server does not wait for the delivery of a reply, so an unreachable client does not delay
    the others. It never answers a reply, so two servers do not answer each other forever."""
    async for message in node.messages():
        if message.kind != "square" or message.reply_to is not None:
            continue
        try:
            answer = {"result": message.data["number"] ** 2}
        except (KeyError, TypeError):
            answer = {"error": "say {\"number\": …}"}
        try:
            await node.reply(message, answer, kind="answer", ttl=60)
        except p2p_node.P2PError as error:
            print(f"no answer to {message.sender}: {error}", file=sys.stderr)


class Client:
    """Sends requests and waits for their replies."""

    def __init__(self, node: p2p_node.Node) -> None:
        self._node = node
        # By `conversation_id`, which a reply shares with its request.
        self._answers: dict[str, asyncio.Future[p2p_node.Message]] = {}

    async def listen(self) -> None:
        async for message in self._node.messages():
            # A late reply has no entry.
            answer = self._answers.get(message.conversation_id or "")
            if answer is not None and not answer.done() and message.reply_to is not None:
                answer.set_result(message)

    async def ask(self, server: str, number: object, timeout: float = 10.0) -> object:
        # The client creates the id, so that the entry exists before a reply can arrive.
        question = uuid.uuid4().hex
        answer = self._answers[question] = asyncio.get_running_loop().create_future()
        try:
            mail = await self._node.send(server, {"number": number}, kind="square", ttl=timeout, conversation_id=question)
            await mail.delivered()
            return (await asyncio.wait_for(answer, timeout)).data
        finally:
            del self._answers[question]


async def main() -> None:
    async with p2p_node.open(name="server", network="dev") as server:
        async with p2p_node.open(name="client", network="dev", bootstrap_peers=[server.ready.addrs[0]]) as node:
            serving = asyncio.create_task(serve(server))
            client = Client(node)
            listening = asyncio.create_task(client.listen())
            for number in (7, 12, "a dozen"):
                try:
                    print(f"{number} squared: {await client.ask(server.address, number)}", flush=True)
                except (p2p_node.P2PError, asyncio.TimeoutError) as error:
                    print(f"{number} squared: no answer, {error!r}", flush=True)
            serving.cancel()
            listening.cancel()


if __name__ == "__main__":
    asyncio.run(main())
