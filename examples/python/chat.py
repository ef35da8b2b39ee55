#!/usr/bin/env python3
"""Two agents that chat: each says what it has to say, and hears the other. With `P2P_NODE_BIN`, or the wheel installed.

    python3 examples/python/chat.py
"""

import asyncio

import p2p_node

LINES = {
    "alice": ["Hello, Bob.", "Fine weather on this network.", "Goodbye!"],
    "bob": ["Hello, Alice.", "Not a packet lost.", "Goodbye!"],
}


async def chat(name: str, node: p2p_node.Node, other: str) -> None:
    async with node.messages() as heard:
        for line in LINES[name]:
            # The node tries for `ttl` seconds; without it for 2 minutes, or with a data directory for 24 hours.
            mail = await node.send(other, {"text": line}, ttl=20)
            # An agent whose peer is gone does not wait for it for ever.
            message = await asyncio.wait_for(anext(heard), 20)
            print(f"{name} hears: {message.data['text']}")
    # Each message is acknowledged when the next one is asked for, and the last one at the end of the block.
    await mail.delivered()


async def main() -> None:
    async with p2p_node.open(name="alice", network="dev") as alice:
        entry = alice.ready.addrs[0]
        async with p2p_node.open(name="bob", network="dev", bootstrap_peers=[entry]) as bob:
            await asyncio.gather(chat("alice", alice, bob.address), chat("bob", bob, alice.address))


if __name__ == "__main__":
    asyncio.run(main())
