"""The tests. `P2P_NODE_TEST_LOOP=uvloop` selects uvloop instead of asyncio's event loop."""

import os

if os.environ.get("P2P_NODE_TEST_LOOP") == "uvloop":
    import asyncio

    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
