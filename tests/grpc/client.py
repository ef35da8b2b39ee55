"""A gRPC client in Python. It knows the .proto by reflection alone.

client.py SCENARIO TARGET TOKEN [PEER]: writes JSON lines for the test that started it.
"""

import json
import sys
import traceback

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

SCENARIO, TARGET, TOKEN, *REST = sys.argv[1:]
PEER = REST[0] if REST else ""
SERVICE = "p2pnode.v1.Node"
SECONDS = 20


def say(what, **fields):
    print(json.dumps({"type": what, **fields}), flush=True)


def check(condition, what):
    if not condition:
        raise AssertionError(what)


class Tokened(
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor
):
    """Sends the token with each call."""

    def __init__(self, token):
        self.metadata = (("authorization", f"Bearer {token}"),)

    def _call(self, go, details, request):
        return go(details._replace(metadata=self.metadata), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_stream = _call


class Node:
    """The service, by reflection."""

    def __init__(self, target, token):
        # Without the option, all channels of a process to one target share a connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        if target.startswith("unix:"):
            # Otherwise the library sends the path as the name of the server, which is no name.
            options.append(("grpc.default_authority", "localhost"))
        self.plain = grpc.insecure_channel(target, options)
        self.channel = grpc.intercept_channel(self.plain, Tokened(token))
        self.reflection = ProtoReflectionDescriptorDatabase(self.channel)
        pool = descriptor_pool.DescriptorPool(self.reflection)
        self.service = pool.FindServiceByName(SERVICE)
        self.pool = pool

    def type(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(f"p2pnode.v1.{name}"))

    def call(self, name, request=None, timeout=SECONDS, **fields):
        method = self.service.methods_by_name[name]
        asks = message_factory.GetMessageClass(method.input_type)
        answers = message_factory.GetMessageClass(method.output_type)
        kind = {(False, False): "unary_unary", (False, True): "unary_stream", (True, True): "stream_stream"}
        make = getattr(self.channel, kind[method.client_streaming, method.server_streaming])
        stub = make(
            f"/{SERVICE}/{name}", request_serializer=asks.SerializeToString, response_deserializer=answers.FromString
        )
        return stub(asks(**fields) if request is None else request, timeout=timeout)


def failure(action):
    """Returns the status of a call that fails, the code of the pipe protocol, and that of the details."""
    try:
        result = action()
        if hasattr(result, "__next__"):
            list(result)
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        reason = None
        rich = rpc_status.from_call(error)
        if rich:
            info = error_details_pb2.ErrorInfo()
            check(rich.details[0].Unpack(info), "an ErrorInfo")
            check(info.domain == "p2p-node", info)
            reason = info.reason
        return error.code().name, trailers.get("p2p-code"), reason
    raise AssertionError("the call did not fail")


def data(value):
    return {"json": json.dumps(value)}


def tour():
    node = Node(TARGET, TOKEN)
    health = health_pb2_grpc.HealthStub(node.plain)
    serving = health_pb2.HealthCheckResponse.SERVING
    for service in ("", SERVICE):
        found = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS, wait_for_ready=True)
        check(found.status == serving, found)
    services = set(node.reflection.get_services())
    check({SERVICE, "grpc.health.v1.Health"} <= services, services)

    events = node.call("Connect", topics=["news"])
    ready = next(events).ready
    check(ready.address.startswith("0x") and ready.network == "dev", ready)
    say("connected", address=ready.address)

    sent = node.call("SendMessage", agent=PEER, payload=data({"hello": 1}), kind="task", wait=True)
    check(sent.delivered and sent.message_id, sent)
    sent = node.call("SendMessage", agent=PEER, payload={"binary": b"\x00\xff"})
    check(sent.message_id and not sent.delivered, sent)
    messages = (event.message for event in events if event.WhichOneof("event") == "message")
    say("listening")
    mail = next(messages)
    check(json.loads(mail.payload.json) == "back" and getattr(mail, "from") == PEER, mail)
    check(mail.HasField("conversation_id") and mail.conversation_id == "c" and not mail.HasField("topic"), mail)
    news = next(messages)
    check(news.topic == "news" and news.payload.binary == b"\x01", news)

    agents = node.call("ListAgents", address=PEER)
    check([agent.address for agent in agents.agents] == [PEER] and agents.complete, agents)
    check(not node.call("ListAgents", capability="nobody", timeout_ms=100).agents, "no agents")
    status = node.call("GetStatus")
    check(status.address == ready.address and status.peers >= 1 and status.counters["mail_accepted"] >= 2, status)
    check(json.loads(status.json)["address"] == ready.address, status)
    published = node.call("SendMessage", topic="news-of-peer", payload=data("published"))
    check(published.message_id and published.HasField("peers"), published)
    ask(node)
    errors(node)
    session(node)
    say("done")


def ask(node):
    answer, summary = node.call("Request", agent=PEER, kind="sum", payload=data([1, 2]))
    check(json.loads(answer.answer.payload.json) == 3 and getattr(answer.answer, "from") == PEER, answer)
    check(summary.summary.answers == 1, summary)
    parts = [part for part in node.call("Request", agent=PEER, kind="parts", payload=data(100), stream=True)]
    numbers = [json.loads(part.answer.payload.json) for part in parts[:-1]]
    check(numbers == list(range(100)) and parts[-1].HasField("summary"), numbers)
    nobody = "0x" + "11" * 20
    many = list(node.call("Request", agents={"agents": [PEER, nobody]}, kind="sum", payload=data([1, 2]), deadline_ms=1500))
    check(many[-1].summary.missing and not many[-1].summary.complete and many[-1].summary.answers == 1, many)
    call = node.call("Request", agent=PEER, kind="never", payload=data(None))
    say("asked")
    # The test cancels when the handler has the request.
    check(sys.stdin.readline().strip() == "cancel", "the test cancels")
    call.cancel()
    check(call.code() == grpc.StatusCode.CANCELLED, call)


def errors(node):
    check(failure(lambda: Node(TARGET, "x" * 16))[0] == "UNAUTHENTICATED", "a wrong token")
    bare = node.plain.unary_unary(f"/{SERVICE}/GetStatus")
    check(failure(lambda: bare(b"", timeout=SECONDS))[0] == "UNAUTHENTICATED", "no token")
    invalid = ("INVALID_ARGUMENT",) + ("INVALID_ARGUMENT",) * 2
    for fields in (
        {"agent": "0x12", "payload": data(1)},
        {"agent": PEER},
        {"payload": data(1)},
        {"agent": PEER, "payload": {"json": "{"}},
        {"agent": PEER, "payload": data(1), "priority": 9},
        {"agent": PEER, "payload": data(1), "ttl_ms": 1 << 40},
    ):
        found = failure(lambda: node.call("SendMessage", **fields))
        check(found == invalid, (fields, found))
    check(failure(lambda: node.call("Connect", topics=[""])) == invalid, "a topic without a name")
    check(failure(lambda: node.call("Request", agents={}, payload=data(1))) == invalid, "no agents")
    found = failure(lambda: node.call("Request", agent=PEER, kind="unknown", payload=data(1)))
    check(found == ("UNIMPLEMENTED", "NO_HANDLER", "NO_HANDLER"), found)
    nobody = "0x" + "11" * 20
    found = failure(lambda: node.call("SendMessage", agent=nobody, payload=data(1), ttl_ms=300, wait=True))
    check(found[0] in ("NOT_FOUND", "DEADLINE_EXCEEDED") and found[1] == found[2], found)
    found = failure(lambda: node.call("Request", agent=PEER, kind="sum", payload=data("x" * 1_050_000)))
    check(found == ("INVALID_ARGUMENT", "MESSAGE_TOO_LARGE", "MESSAGE_TOO_LARGE"), found)
    found = failure(lambda: node.call("SendMessage", agent=PEER, payload=data("x" * 1_200_000)))
    check(found[0] in ("RESOURCE_EXHAUSTED", "OUT_OF_RANGE"), found)


class Commands:
    """Lines of commands, as they are written."""

    def __init__(self, node):
        import queue

        self.line = node.type("Line")
        self.queue = queue.Queue()

    def write(self, **command):
        self.queue.put(self.line(json=json.dumps(command)))

    def end(self):
        self.queue.put(None)

    def __iter__(self):
        return iter(self.queue.get, None)


def session(node):
    commands = Commands(node)
    lines = (json.loads(line.json) for line in node.call("Session", request=iter(commands)))
    until = lambda kind: next(line for line in lines if line["type"] == kind)
    commands.write(type="connect", protocol=1, id="c", inbox=False)
    until("ready")
    commands.write(type="handle", kinds=["echo"], id="h")
    check(until("result")["id"] == "c" and until("result")["id"] == "h", "answers")
    say("handles")
    request = until("request")
    commands.write(type="respond", ticket=request["ticket"], data=request["data"], id="r")
    check(until("result")["id"] == "r", "the answer of respond")
    commands.write(type="nonsense", id="n")
    check(until("error")["code"] == "UNKNOWN_COMMAND", "an unknown command")
    commands.end()
    check(until("closing")["reason"] == "eof" and list(lines) == [], "the end of the stream")
    commands = Commands(node)
    commands.queue.put(commands.line(json="{}\n{}"))
    found = failure(lambda: node.call("Session", request=iter(commands)))
    check(found[0] == "INVALID_ARGUMENT", found)


def worker():
    """A client of a group that gets messages until it is killed."""
    for event in Node(TARGET, TOKEN).call("Connect", group="work", timeout=None):
        if event.HasField("ready"):
            say("connected")
        if event.HasField("message"):
            say("message", data=json.loads(event.message.payload.json))


def sleeper():
    """A client that does not read its events, but makes calls."""
    node = Node(TARGET, TOKEN)
    events = node.call("Connect", timeout=None)
    check(next(events).HasField("ready"), "ready")
    say("connected")
    while line := sys.stdin.readline():
        check(line.strip() == "status", line)
        say("status", outbox=json.loads(node.call("GetStatus").json)["outbox"])


def stop():
    node = Node(TARGET, TOKEN)
    events = node.call("Connect", timeout=None)
    check(next(events).HasField("ready"), "ready")
    node.call("Stop")
    last = None
    for event in events:
        last = event
    check(last.other.type == "closing", last)
    say("done")


try:
    {scenario.__name__: scenario for scenario in (tour, worker, sleeper, stop)}[SCENARIO]()
except BaseException:
    say("failed", error=traceback.format_exc())
    raise
