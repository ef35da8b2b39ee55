#!/usr/bin/env python3
"""Two agents on this machine find each other without any option: alice sends bob a message. The first
example of the README.

    python3 examples/python/hello.py
"""

import asyncio
import p2p_node

async def main() -> None:
    async with p2p_node.open() as alice, p2p_node.open() as bob:
        mail = await alice.send(bob.address, "hello bob")
        message = await anext(bob.messages())
        print(message.sender, "says", message.data)
        await bob.ack(message)
        print("alice knows that it is", (await mail.delivered()).state)

asyncio.run(main())
