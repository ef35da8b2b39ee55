"""An agent that greets all others: `agent.py <entry>`. Says its address, reads those of the others, says whom it heard."""

import asyncio
import sys

import p2p_node


async def main() -> None:
    async with p2p_node.open(bootstrap_peers=[sys.argv[1]], restart=None) as node:
        messages = node.messages()
        print(node.address, flush=True)
        others = (await asyncio.to_thread(sys.stdin.readline)).split()
        mails = [await node.send(other, {"text": "hello from python, é\u2028😀"}) for other in others]
        for _ in others:
            message = await anext(messages)
            print("heard", message.sender, message.data["text"].encode("unicode_escape").decode(), flush=True)
        # Whoever comes for the next message has finished the last one.
        more = asyncio.ensure_future(anext(messages))
        for mail in mails:
            await mail.delivered()
        # The others may still wait for theirs.
        await asyncio.to_thread(sys.stdin.readline)
        more.cancel()


asyncio.run(main())
