#!/usr/bin/env python3
"""An agent that answers requests, and one that asks: an answer names the message that it answers in `reply_to`.

    python3 examples/python/request_reply.py
"""

import asyncio

import p2p_node


async def serve(node: p2p_node.Node) -> None:
    """Squares numbers for whoever asks."""
    async for message in node.messages():
        if message.kind != "square":
            continue
        try:
            answer = {"result": message.data["number"] ** 2}
        except (KeyError, TypeError):
            answer = {"error": "say {\"number\": …}"}
        await node.reply(message, answer, kind="answer")


class Client:
    """Waits for the answers to what it asks."""

    def __init__(self, node: p2p_node.Node) -> None:
        self._node = node
        # By the message that is answered. Whoever of the two comes first, the answer or the one who waits for it, makes the entry.
        self._answers: dict[str, asyncio.Future[p2p_node.Message]] = {}

    def _answer(self, message_id: str) -> asyncio.Future[p2p_node.Message]:
        return self._answers.setdefault(message_id, asyncio.get_running_loop().create_future())

    async def listen(self) -> None:
        async for message in self._node.messages():
            if message.reply_to is not None and not (answer := self._answer(message.reply_to)).done():
                answer.set_result(message)

    async def ask(self, server: str, number: object, timeout: float = 10.0) -> object:
        mail = await self._node.send(server, {"number": number}, kind="square", ttl=timeout)
        try:
            await mail.delivered()
            return (await asyncio.wait_for(self._answer(mail.message_id), timeout)).data
        finally:
            self._answers.pop(mail.message_id, None)


async def main() -> None:
    async with p2p_node.open(name="server", network="dev") as server:
        async with p2p_node.open(name="client", network="dev", bootstrap_peers=[server.ready.addrs[0]]) as node:
            serving = asyncio.create_task(serve(server))
            client = Client(node)
            listening = asyncio.create_task(client.listen())
            for number in (7, 12, "a dozen"):
                print(f"{number} squared: {await client.ask(server.address, number)}")
            serving.cancel()
            listening.cancel()


if __name__ == "__main__":
    asyncio.run(main())
