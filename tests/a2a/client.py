"""An A2A client with the official SDK, which knows nothing of the network.

client.py SCENARIO GATEWAY AGENT: writes JSON lines for the test that started it.
"""

import asyncio
import json
import sys
import traceback
from base64 import urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Lock, Thread

import httpx
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.client.client import ClientCallContext
from a2a.client.client_factory import minimal_agent_card
from a2a.client.errors import AgentCardResolutionError
from a2a.helpers import get_artifact_text, new_text_message
from a2a.types import (
    CancelTaskRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    Role,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
    TaskState,
)
from a2a.utils.errors import A2AError, InvalidParamsError, TaskNotFoundError
from a2a.utils.signing import create_signature_verifier
from jwt.algorithms import OKPAlgorithm
from jwt.api_jwk import PyJWK

SCENARIO, GATEWAY, AGENT = sys.argv[1:]
URL = f"{GATEWAY}/agents/{AGENT}"
SECONDS = 30
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


WRITING = Lock()


def say(what, **fields):
    # The web hook runs in a thread of its own.
    with WRITING:
        print(json.dumps({"type": what, **fields}), flush=True)


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def key_of(peer_id, _jku):
    """Returns the key in the PeerId of a node: its last 32 bytes."""
    number = 0
    for letter in peer_id:
        number = number * 58 + ALPHABET.index(letter)
    key = (number % (1 << 256)).to_bytes(32, "big")
    x = urlsafe_b64encode(key).rstrip(b"=").decode()
    return PyJWK.from_dict({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x})


def message(text):
    return SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER))


class Agent:
    """An agent at the gateway."""

    def __init__(self, http, streaming):
        self.http = http
        self.streaming = streaming
        self.resolver = A2ACardResolver(http, URL)

    async def open(self):
        self.card = await self.resolver.get_agent_card()
        config = ClientConfig(httpx_client=self.http, streaming=self.streaming)
        self.client = ClientFactory(config).create(self.card)
        return self

    async def ask(self, text, context=None):
        """Returns what the agent answers."""
        return [event async for event in self.client.send_message(message(text), context=context)]

    async def failure(self, action):
        try:
            result = await action
        except A2AError as error:
            return error
        raise AssertionError(f"no error, but {result}")


def texts(events):
    artifacts = [event.artifact_update.artifact for event in events if event.HasField("artifact_update")]
    return [get_artifact_text(artifact) for artifact in artifacts]


async def tour(http):
    agent = await Agent(http, streaming=False).open()
    interface = agent.card.supported_interfaces[0]
    check(interface.url == URL, interface)
    check(agent.card.skills[0].description == "Says it again — “genau so”", agent.card)
    verifier = create_signature_verifier(key_of, ["EdDSA"])
    signed = await agent.resolver.get_agent_card("signed-agent-card.json", signature_verifier=verifier)
    check(signed.supported_interfaces[0].url == f"p2p:{AGENT}", signed)
    say("card", name=agent.card.name)

    context = ClientCallContext(service_parameters={"A2A-Extensions": "https://example.org/ext"})
    (answer,) = await agent.ask("echo hello", context)
    task = answer.task
    check(task.status.state == TaskState.TASK_STATE_COMPLETED, answer)
    check(get_artifact_text(task.artifacts[0]) == "hello", answer)
    again = await agent.client.get_task(GetTaskRequest(id=task.id))
    check(get_artifact_text(again.artifacts[0]) == "hello", again)
    error = await agent.failure(agent.client.get_task(GetTaskRequest(id="none")))
    check(isinstance(error, TaskNotFoundError), repr(error))
    extended = await agent.client.get_extended_agent_card(GetExtendedAgentCardRequest())
    check(extended.description == "For those who ask", extended)
    check(extended.supported_interfaces[0].url == URL, extended)
    say("done")


async def stream(http):
    agent = await Agent(http, streaming=True).open()
    events = await agent.ask("count 100")
    check(texts(events) == [str(number) for number in range(100)], events)
    check(events[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED, events[-1])
    say("streamed")

    waiting = agent.client.send_message(message("wait"))
    task = (await anext(waiting)).task
    say("waiting", task=task.id)
    # A second stream of the same task.
    followed = agent.client.subscribe(SubscribeToTaskRequest(id=task.id))
    check((await anext(followed)).task.id == task.id, "the task first")
    canceled = await agent.client.cancel_task(CancelTaskRequest(id=task.id))
    check(canceled.status.state == TaskState.TASK_STATE_CANCELED, canceled)
    last = [event async for event in followed][-1]
    check(last.status_update.status.state == TaskState.TASK_STATE_CANCELED, last)
    check([event async for event in waiting], "the first stream ends as well")
    say("done")


class Hook(BaseHTTPRequestHandler):
    """The web hook of the program."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        token, authorization = self.headers["X-A2A-Notification-Token"], self.headers["Authorization"]
        self.send_response(200)
        self.end_headers()
        say("notification", kind=list(body)[0], body=body, token=token, authorization=authorization)

    def log_message(self, *_):
        pass


async def push(http):
    hook = HTTPServer(("127.0.0.1", 0), Hook)
    Thread(target=hook.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{hook.server_port}/hook"
    agent = await Agent(http, streaming=False).open()
    request = message("echo pushed")
    request.configuration.return_immediately = True
    config = request.configuration.task_push_notification_config
    config.url, config.token = url, "secret"
    config.authentication.scheme, config.authentication.credentials = "Bearer", "abc"
    (answer,) = [event async for event in agent.client.send_message(request)]
    say("sent", task=answer.task.id)

    added = TaskPushNotificationConfig(task_id=answer.task.id, id="second", url=f"{url}/2")
    made = await agent.client.create_task_push_notification_config(added)
    check(made.url == f"{url}/2", made)
    asked = GetTaskPushNotificationConfigRequest(task_id=answer.task.id, id="second")
    got = await agent.client.get_task_push_notification_config(asked)
    check(got.url == f"{url}/2", got)

    elsewhere = TaskPushNotificationConfig(task_id=answer.task.id, url="http://10.0.0.1/hook")
    error = await agent.failure(agent.client.create_task_push_notification_config(elsewhere))
    check(isinstance(error, InvalidParamsError), repr(error))
    say("done")
    await asyncio.Event().wait()


async def failing(http):
    """Says what a client sees of an agent that does not answer."""
    resolver = A2ACardResolver(http, URL)
    try:
        await resolver.get_agent_card()
        raise AssertionError("there is a card")
    except AgentCardResolutionError as error:
        status, text = error.status_code, str(error)
    client = ClientFactory(ClientConfig(httpx_client=http, streaming=True)).create(
        minimal_agent_card(URL, ["JSONRPC"])
    )
    codes = []
    for call in [client.get_task(GetTaskRequest(id="1")), client.send_message(message("echo x")).__anext__()]:
        try:
            await call
            raise AssertionError("there is an answer")
        except A2AError as error:
            codes.append([type(error).__name__, error.data])
    say("failed-as-expected", status=status, text=text, codes=codes)


async def restarted(http):
    """Calls an agent whose server goes and comes back, as the test says on stdin."""
    agent = await Agent(http, streaming=False).open()
    for line in iter(sys.stdin.readline, ""):
        try:
            (answer,) = await agent.ask(f"echo {line.strip()}")
            say("answer", text=get_artifact_text(answer.task.artifacts[0]))
        except A2AError as error:
            say("error", name=type(error).__name__, data=error.data, message=str(error))


async def main():
    async with httpx.AsyncClient(timeout=SECONDS) as http:
        await globals()[SCENARIO](http)


try:
    asyncio.run(main())
except Exception:
    say("failed", error=traceback.format_exc())
    sys.exit(1)
