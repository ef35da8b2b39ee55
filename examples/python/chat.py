#!/usr/bin/env python3
"""Two agents that chat: each sends its lines and prints the lines of the other.

Needs the installed wheel, or the path of the binary in `P2P_NODE_BIN`.

    python3 examples/python/chat.py
"""

import asyncio

import p2p_node

LINES = {
    "alice": ["Hello, Bob.", "Fine weather on this network.", "Goodbye!"],
    "bob": ["Hello, Alice.", "Not a packet lost.", "Goodbye!"],
}


#: Seconds for which the node tries to deliver a line. The default is 2 minutes, and 24 hours with a
#: data directory.
TTL = 10.0


async def speak(name: str, node: p2p_node.Node, other: str) -> None:
    for line in LINES[name]:
        try:
            mail = await node.send(other, {"text": line}, ttl=TTL)
            # Waits here, not in the loop over the messages: the other agent may wait too.
            await mail.delivered()
        except p2p_node.P2PError as error:
            print(f"{name} is not heard: {error}", flush=True)


async def listen(name: str, node: p2p_node.Node) -> None:
    async for message in node.messages():
        text = message.data.get("text") if isinstance(message.data, dict) else message.data
        print(f"{name} hears: {text}", flush=True)


async def main() -> None:
    async with p2p_node.open(name="alice", network="dev") as alice:
        entry = alice.ready.addrs[0]
        async with p2p_node.open(name="bob", network="dev", bootstrap_peers=[entry]) as bob:
            listening = [asyncio.create_task(listen("alice", alice)), asyncio.create_task(listen("bob", bob))]
            await asyncio.gather(speak("alice", alice, bob.address), speak("bob", bob, alice.address))
    # The loops over the messages end with their nodes.
    await asyncio.gather(*listening)


if __name__ == "__main__":
    asyncio.run(main())
