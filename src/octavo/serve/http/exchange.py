"""One exchange over HTTP as the dialects see it: the request that came, the answer that goes, and how JSON is written.

Knows headers and bytes, the service, and no dialect.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypedDict
from urllib.parse import parse_qs

import msgspec
import orjson

from octavo.serve.http.errors import Headers
from octavo.serve.http.settings import ApiSettings
from octavo.serve.refusals import BadRequest, TooLarge
from octavo.serve.service import Reply, Request, Service, Timing

JSON = (b"content-type", b"application/json")
_LONGEST_TIMEOUT_DIGITS = 9  # of milliseconds: 11 days


class Call:
    """A request that passed the checks which all have in common.

    Attributes:
        service: that answers.
        settings: limits.
        headers: by lower-case name.
        path: the parts of the address that vary.
        query: of the address, as it came.
        deadline_s: by `time.monotonic()`; None for none.
        asked: the model that the service was asked for, so that it has heard of the request; None until then.
    """

    __slots__ = ("asked", "deadline_s", "headers", "path", "query", "service", "settings")

    def __init__(
        self,
        service: Service,
        settings: ApiSettings,
        headers: Mapping[bytes, bytes],
        path: Mapping[str, str],
        query: bytes = b"",
    ) -> None:
        """Take the parts of a request. Raises BadRequest for a deadline that is none."""
        self.service = service
        self.settings = settings
        self.headers = headers
        self.path = path
        self.query = query
        self.deadline_s = _deadline(headers, settings.timeout_s)
        self.asked: str | None = None

    def query_value(self, name: str) -> str | None:
        """Return a value of the query; of several the first."""
        values = parse_qs(self.query.decode("latin-1")).get(name)
        return values[0] if values else None

    def check_inputs(self, count: int) -> None:
        """Refuse more inputs than one request may hold. Raises TooLarge."""
        if count > self.settings.max_inputs:
            raise TooLarge(
                f"The request has {count} inputs, and {self.settings.max_inputs} are taken at once. Send several."
            )

    async def ask(self, request: Request) -> Reply:
        """Ask the service. Raises Refusal."""
        self.asked = request.model
        return await self.service.ask(request)


class Answer(msgspec.Struct, frozen=True):
    """What goes back: a body, and the headers beside its length."""

    body: bytes
    status: int = 200
    headers: Headers = (JSON,)


class Timings(TypedDict):
    """Where a request's time went, in milliseconds."""

    queue_ms: float
    tokenize_ms: float
    compute_ms: float


def timings(timing: Timing) -> Timings:
    """Return a timing as answers write it, in whole microseconds."""
    return {
        "queue_ms": round(timing.queue_ms, 3),
        "tokenize_ms": round(timing.tokenize_ms, 3),
        "compute_ms": round(timing.compute_ms, 3),
    }


def json_answer(content: Any, status: int = 200) -> Answer:
    """Return an answer in JSON; arrays of numpy are written as they are."""
    return Answer(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), status)


def named_answer(content: Any, reply: Reply) -> Answer:
    """Return an answer in JSON whose headers say who gave it, for dialects whose bodies cannot."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Answer(body, headers=(JSON, *headers_from_reply(reply)))


def headers_from_reply(reply: Reply) -> Headers:
    """Return headers that name the model, the version, and where the time went."""
    timing = reply.timing
    went = (
        f"queue;dur={timing.queue_ms:.3f}, tokenize;dur={timing.tokenize_ms:.3f}, compute;dur={timing.compute_ms:.3f}"
    )
    return (*_name_headers(reply.model, reply.version), (b"server-timing", went.encode()))


@lru_cache(maxsize=256)
def _name_headers(model: str, version: str) -> Headers:
    return (b"x-octavo-model", model.encode()), (b"x-octavo-version", version.encode())


def _deadline(headers: Mapping[bytes, bytes], timeout_s: float | None) -> float | None:
    given = headers.get(b"x-request-timeout-ms")
    if given is None:
        return None if timeout_s is None else time.monotonic() + timeout_s
    if not given.isdigit() or len(given) > _LONGEST_TIMEOUT_DIGITS or not int(given):
        raise BadRequest(
            f"X-Request-Timeout-Ms is {given.decode('latin-1')!r:.40}. Give a whole number of milliseconds from 1 on."
        )
    return time.monotonic() + int(given) / 1000
