"""Whether the process lives, and whether it can answer: two questions that routers must not mix up."""

from __future__ import annotations

from typing import Literal, TypedDict

from octavo.serve.http.endpoint import Operation
from octavo.serve.http.exchange import Answer, Call, json_answer
from octavo.serve.refusals import Unavailable


class Live(TypedDict):
    """The process lives."""

    status: Literal["live"]


class Ready(TypedDict):
    """Requests are answered."""

    status: Literal["ready"]


async def _live(call: Call, body: None) -> Answer:
    return json_answer({"status": "live"})


async def _ready(call: Call, body: None) -> Answer:
    if not call.service.ready:
        raise Unavailable("The service is starting or stopping, or no model serves.")
    return json_answer({"status": "ready"})


OPERATIONS = (
    Operation(
        method="GET",
        path="/health",
        handle=_live,
        summary="Whether the process lives",
        answer=Live,
        is_open=True,
    ),
    Operation(
        method="GET",
        path="/ready",
        handle=_ready,
        summary="Whether requests are answered; 503 while starting and stopping",
        answer=Ready,
        is_open=True,
    ),
)
