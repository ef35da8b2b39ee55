#!/usr/bin/env python3
"""Reads the mail that waits for an agent, once, and ends. The agent's key and what it has read are in the directory.

    python3 examples/python/collect.py DIRECTORY /ip4/…/p2p/…
"""

import asyncio
import sys

import p2p_node


async def main(directory: str, entry: str) -> int:
    async with p2p_node.open(name="collector", network="dev", data_dir=directory, bootstrap_peers=[entry]) as node:
        print("I am", node.address)
        try:
            # The loop ends when no more mail comes from anybody who can be reached. Without a network it raises `NotJoined`.
            async for message in node.messages(until_caught_up=True):
                print(message.sender, "says", message.data)
        except p2p_node.NotJoined as error:
            print(error, file=sys.stderr)
            return 75
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(*sys.argv[1:])))
