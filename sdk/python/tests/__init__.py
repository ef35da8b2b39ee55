"""The tests, under the event loop that `P2P_NODE_TEST_LOOP` names: that of asyncio, or `uvloop`."""

import os

if os.environ.get("P2P_NODE_TEST_LOOP") == "uvloop":
    import asyncio

    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
