#!/usr/bin/env python3
"""Reads the pending mail of an agent once and exits. The directory holds the agent's key and the
record of the mail that it has read.

    python3 examples/python/collect.py DIRECTORY /ip4/…/p2p/…
"""

import asyncio
import sys

import p2p_node


async def main(directory: str, entry: str) -> int:
    async with p2p_node.open(name="collector", network="dev", data_dir=directory, bootstrap_peers=[entry]) as node:
        print("I am", node.address)
        try:
            # The loop ends when no more mail arrives from reachable senders. It raises `NotJoined`
            # if no peer connects.
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
