"""Two agents mail each other and end; the exit code is 0 only if both nodes ended with 0."""

import asyncio
import sys

import p2p_node


async def main() -> int:
    async with p2p_node.open(name="alice", network="dev") as alice:
        async with p2p_node.open(name="bob", network="dev", bootstrap_peers=alice.ready.addrs[:1]) as bob:
            await bob.joined()
            sent = [await alice.send(bob.address, "hello", ttl=20), await bob.send(alice.address, "hello", ttl=20)]
            for node in (alice, bob):
                async with node.messages() as messages:
                    print(node.ready.name, "received", (await asyncio.wait_for(anext(messages), 20)).data)
            for message in sent:
                await message.delivered()
    exits = [alice.exit, bob.exit]
    print(*exits)
    return 0 if all(exit is not None and exit.code == 0 for exit in exits) else 1


sys.exit(asyncio.run(main()))
