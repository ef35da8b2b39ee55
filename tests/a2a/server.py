"""An A2A server with the official SDK, which knows nothing of the network.

server.py [PORT]: writes JSON lines for the test that started it. What a message says is what the agent does:
`echo TEXT`, `count N`, or `wait` until somebody cancels the task.
"""

import asyncio
import json
import socket
import sys

import httpx
import uvicorn
from a2a.helpers import new_task_from_user_message, new_text_part
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandlerV2
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import (
    BasePushNotificationSender,
    InMemoryPushNotificationConfigStore,
    InMemoryTaskStore,
    TaskUpdater,
)
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
from starlette.applications import Starlette


def say(what, **fields):
    print(json.dumps({"type": what, **fields}), flush=True)


class Agent(AgentExecutor):
    async def execute(self, context, event_queue):
        headers = context.call_context.state["headers"]
        word, _, rest = context.get_user_input().partition(" ")
        say("call", word=word, asker=headers.get("x-p2p-agent"), extensions=headers.get("a2a-extensions"))
        task = context.current_task or new_task_from_user_message(context.message)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        if word == "count":
            for number in range(int(rest)):
                await updater.add_artifact([new_text_part(str(number))], artifact_id=f"part-{number}")
        elif word == "long":
            await updater.add_artifact([new_text_part("x" * int(rest))])
        elif word == "wait":
            try:
                await asyncio.Event().wait()
            finally:
                say("left", task=task.id)
        else:
            await updater.add_artifact([new_text_part(rest)])
        await updater.complete()

    async def cancel(self, context, event_queue):
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


def card(url, description):
    return AgentCard(
        name="Test agent",
        description=description,
        version="1.0.0",
        capabilities=AgentCapabilities(streaming=True, push_notifications=True, extended_agent_card=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="echo", name="Echo", description="Says it again — “genau so”", tags=["test"])],
        supported_interfaces=[AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version="1.0")],
    )


async def main():
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    configs = InMemoryPushNotificationConfigStore()
    handler = DefaultRequestHandlerV2(
        agent_executor=Agent(),
        task_store=InMemoryTaskStore(),
        agent_card=card(f"{url}/a2a", "For everybody"),
        extended_agent_card=card(f"{url}/a2a", "For those who ask"),
        push_config_store=configs,
        push_sender=BasePushNotificationSender(httpx.AsyncClient(), configs),
    )
    routes = create_agent_card_routes(card(f"{url}/a2a", "For everybody")) + create_jsonrpc_routes(handler, "/a2a")
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="warning"))
    say("serving", url=url)
    await server.serve(sockets=[listener])


asyncio.run(main())
