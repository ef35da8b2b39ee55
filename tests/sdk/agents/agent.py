"""An agent that greets and asks all others: `agent.py <entry>`. Prints its address, reads the other addresses, and prints each
received greeting and each answer."""

import asyncio
import sys

import p2p_node

QUESTION = "who, é\u2028😀"


async def main() -> None:
    async with p2p_node.open(bootstrap_peers=[sys.argv[1]], restart=None) as node:
        messages = node.messages()
        await node.handle("language", lambda request: {"language": "python", "question": request.data["text"]})
        print(node.address, flush=True)
        others = (await asyncio.to_thread(sys.stdin.readline)).split()
        sent = [await node.send(other, {"text": "hello from python, é\u2028😀"}) for other in others]
        for _ in others:
            message = await anext(messages)
            print("received", message.sender, message.data["text"].encode("unicode_escape").decode(), flush=True)
        # A request for the next message acks the last one.
        more = asyncio.ensure_future(anext(messages))
        for message in sent:
            await message.delivered()
        for other in others:
            answer = await node.ask(other, {"text": QUESTION}, kind="language")
            assert answer["question"] == QUESTION, answer
            print("answer", other, answer["language"], flush=True)
        # The other agents may still wait for messages and answers.
        await asyncio.to_thread(sys.stdin.readline)
        more.cancel()


asyncio.run(main())
