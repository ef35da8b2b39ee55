"""The requests of a program: to one agent, to a list and to a topic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from . import arguments
from .decode import content
from .errors import CommandRefused, HandlerFailed, InvalidArgument, QuorumNotReached
from .handlers import ANY_KIND, CONCURRENCY, Function
from .supervised_node import SupervisedNode
from .tracing import current_traceparent
from .types import MAX_CREDIT, AgentError, ErrorCode, Response

#: Deadline of the node for a request without one, in seconds.
DEFAULT_DEADLINE = 30.0
#: Seconds after the deadline at which the SDK gives the node up. The node itself ends each request.
GRACE = 10.0
#: Parts of an answer that the SDK asks for before the program reads them, unless the program says otherwise.
CREDIT = MAX_CREDIT // 4

F = TypeVar("F", bound=Function)


@dataclass(frozen=True)
class AgentAnswer:
    """The answer of one agent. `error` says why there is none; `data` is then `None`."""

    sender: str
    data: Any
    error: AgentError | None = None


class Answers(list[AgentAnswer]):
    """The answers to one question, in the order of their arrival, and the agents that failed in
    `failed`. `missing` names the agents of a list without an answer; `complete` is `True` if there are
    none."""

    def __init__(self, responses: Iterable[Response], missing: Iterable[str] = ()) -> None:
        answers = [AgentAnswer(one.sender, content(one), one.error) for one in responses]
        super().__init__(answer for answer in answers if answer.error is None)
        self.failed = [answer for answer in answers if answer.error is not None]
        self.missing = list(missing)

    @property
    def complete(self) -> bool:
        """Returns `True` if every agent of a list answered."""
        return not self.missing


class Requesting:
    """The part of a node that asks other agents and answers them."""

    _supervised: SupervisedNode

    async def ask(
        self,
        to: str,
        data: Any,
        *,
        kind: str | None = None,
        deadline: float | None = None,
        traceparent: str | None = None,
    ) -> Any:
        """Asks an agent, and returns its answer: bytes, or a value of JSON.

        - `to`, `data`, `traceparent`: as in `send`.
        - `kind`: selects the handler of the agent.
        - `deadline`: time for the whole answer, in seconds, at most 3,600. The default is 30.

        Raises `HandlerFailed` with the error of the handler, and `CommandRefused` with the reason for which
        there is no answer: `NO_HANDLER`, `HANDLER_GONE`, `DEADLINE_EXCEEDED`, `PEER_NOT_FOUND`, … A
        cancellation of the call cancels the handler."""
        command = {"peerId": arguments.text("to", to), **_question(data, kind, deadline, traceparent)}
        responses: list[Response] = []
        await self._ask(command, deadline, responses.append)
        return content(responses[0]) if responses else None

    async def ask_stream(
        self,
        to: str,
        data: Any,
        *,
        kind: str | None = None,
        deadline: float | None = None,
        credit: int = CREDIT,
        traceparent: str | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Asks an agent, and yields the parts of its answer in order.

        `credit`: the number of parts that the handler may send before the program reads them, 1 to 256. The
        end of the loop, also by `break`, cancels the handler. Otherwise as `ask`."""
        if not 1 <= credit <= MAX_CREDIT:
            raise InvalidArgument("credit", f"must be 1 to {MAX_CREDIT}, not {credit}")
        command = {"peerId": arguments.text("to", to), **_question(data, kind, deadline, traceparent)}
        command |= {"stream": True, "credit": credit}
        parts: asyncio.Queue[Response | None] = asyncio.Queue()
        call = asyncio.ensure_future(self._ask(command, deadline, parts.put_nowait))
        call.add_done_callback(lambda call: parts.put_nowait(None))
        granted = credit
        try:
            while (part := await parts.get()) is not None:
                yield content(part)
                if granted - part.part - 1 <= credit // 2:
                    granted = part.part + 1 + credit
                    self._supervised.write({"type": "credit", "target": part.request_id, "parts": granted})
            await call
        finally:
            if not call.done():
                call.cancel()
                await asyncio.wait({call})

    async def ask_all(
        self,
        to: Iterable[str] | str,
        data: Any,
        *,
        kind: str | None = None,
        deadline: float | None = None,
        quorum: int | None = None,
        traceparent: str | None = None,
    ) -> Answers:
        """Asks each agent of a list, or the subscribers of a topic, and returns their answers.

        - `to`: the addresses of at most 1,000 agents, or the name of a topic. Everybody can read a question to
          a topic.
        - `quorum`: the number of answers with which the call returns. Without it the call returns when
          all agents of a list have answered or failed; for a topic, at the deadline.

        Otherwise as `ask`. At the deadline the call returns the answers that came. With a `quorum` it raises
        `QuorumNotReached` then, whose `answers` are these."""
        fields: dict[str, Any] = {"topic": to} if isinstance(to, str) else {"peerIds": arguments.texts("to", to)}
        command = {**fields, **_question(data, kind, deadline, traceparent)}
        if quorum is not None:
            command["quorum"] = quorum
        responses: list[Response] = []
        try:
            reply = await self._ask(command, deadline, responses.append)
        except CommandRefused as error:
            if error.code == ErrorCode.QUORUM_NOT_REACHED:
                raise QuorumNotReached(error, Answers(responses)) from None
            raise
        return Answers(responses, reply.answer.missing or ())

    async def _ask(self, command: dict[str, Any], deadline: float | None, on_response: Callable[[Response], None]) -> Any:
        patience = (DEFAULT_DEADLINE if deadline is None else deadline) + GRACE
        try:
            return await self._supervised.ask({"type": "request", **command}, patience, on_response=on_response)
        except CommandRefused as error:
            if error.code == ErrorCode.HANDLER_FAILED:
                raise HandlerFailed(error) from None
            raise

    def handler(self, kind: str = ANY_KIND, *, concurrency: int = CONCURRENCY) -> Callable[[F], F]:
        """Returns a decorator: the function handles the requests of this kind, `*` all that no other
        handler takes.

        The function gets an `IncomingRequest`, whose `data` is the question: bytes, or a value of JSON. It
        returns the answer, or a coroutine of it; an async generator yields the parts of an answer.
        `HandlerError` gives the asker its code and text. Of another exception, the asker gets the name
        as code and no text; the SDK logs it. The SDK cancels the function when the asker cancels, and at the
        deadline.

        `concurrency`: how many requests the function works on at the same time. Others wait."""

        def add(function: F) -> F:
            self._add_handler(kind, function, concurrency)
            self._supervised.handlers.announce()
            return function

        return add

    async def handle(self, kind: str, function: Function, *, concurrency: int = CONCURRENCY) -> None:
        """Sets the handler of a kind as `handler` does, and returns when the node has accepted it."""
        self._add_handler(kind, function, concurrency)
        await self._supervised.handlers.tell()

    async def unhandle(self, kind: str) -> None:
        """Removes the handler of a kind. Askers of this kind get `NO_HANDLER` from now on."""
        self._supervised.handlers.remove(kind)
        await self._supervised.handlers.tell()

    def _add_handler(self, kind: str, function: Function, concurrency: int) -> None:
        if not callable(function):
            raise InvalidArgument("function", f"must be a function, not {type(function).__name__}")
        if concurrency < 1:
            raise InvalidArgument("concurrency", f"must be at least 1, not {concurrency}")
        self._supervised.handlers.add(arguments.text("kind", kind), function, concurrency)


def _question(data: Any, kind: str | None, deadline: float | None, traceparent: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"deadlineMs": arguments.milliseconds("deadline", deadline)}
    fields["kind"] = None if kind is None else arguments.text("kind", kind)
    fields["traceparent"] = traceparent or current_traceparent()
    return {**arguments.payload(data), **{name: value for name, value in fields.items() if value is not None}}
