#!/usr/bin/env python3
"""Sends one message and exits with 0 only if the recipient has acknowledged it.

    python3 examples/python/send.py /ip4/…/p2p/… 0x… "the text"
"""

import asyncio
import sys

import p2p_node

#: Seconds for which the node tries to deliver the message. The default is 2 minutes, and 24 hours
#: with a data directory.
TTL = 20.0


async def main(entry: str, recipient: str, text: str) -> int:
    try:
        async with p2p_node.open(name="sender", network="dev", bootstrap_peers=[entry]) as node:
            await node.joined(timeout=TTL)
            mail = await node.send(recipient, {"text": text}, ttl=TTL)
            await mail.delivered()
    except p2p_node.P2PError as error:
        print(f"not delivered: {error}", file=sys.stderr)
        return 75 if error.retryable else 1
    print("delivered")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(*sys.argv[1:])))
