"""What a refusal looks like in each dialect: one JSON shape per family, and the headers that go with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypedDict

from octavo.serve.http.refusals import MethodNotAllowed, Unauthorized
from octavo.serve.refusals import Overloaded, Refusal, UnknownModel

Headers = tuple[tuple[bytes, bytes], ...]

_LONGEST_WAIT_S = 3600.0


class Dialect(StrEnum):
    """Families of clients, as the documentation names them."""

    OCTAVO = "Octavo"
    OPENAI = "OpenAI"
    TEI = "Text Embeddings Inference"
    COHERE = "Cohere and Jina"
    INFERENCE = "Open Inference Protocol"


class Fault(TypedDict):
    """Why there is no answer: a name for programs, and words for people."""

    reason: str
    message: str


class ApiError(TypedDict):
    """An error of Octavo's own API."""

    error: Fault


class OpenAiFault(TypedDict):
    """What OpenAI's clients read of an error."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAiError(TypedDict):
    """An error as OpenAI writes it."""

    error: OpenAiFault


class TeiError(TypedDict):
    """An error as Text Embeddings Inference writes it."""

    error: str
    error_type: str


class CohereError(TypedDict):
    """An error as Cohere writes it."""

    message: str


class InferenceError(TypedDict):
    """An error as the Open Inference Protocol writes it."""

    error: str


def _octavo(refusal: Refusal) -> ApiError:
    return {"error": {"reason": refusal.reason, "message": str(refusal)}}


def _openai(refusal: Refusal) -> OpenAiError:
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(refusal.status, "invalid_request_error")
    code = "model_not_found" if isinstance(refusal, UnknownModel) else refusal.reason
    kind = "server_error" if refusal.status >= 500 else kind
    return {"error": {"message": str(refusal), "type": kind, "param": None, "code": code}}


def _tei(refusal: Refusal) -> TeiError:
    kind = {429: "Overloaded", 503: "Unhealthy", 504: "Overloaded", 500: "Backend"}.get(refusal.status, "Validation")
    return {"error": str(refusal), "error_type": kind}


def _cohere(refusal: Refusal) -> CohereError:
    return {"message": str(refusal)}


def _inference(refusal: Refusal) -> InferenceError:
    return {"error": str(refusal)}


_SHAPES: dict[Dialect, Callable[[Refusal], Any]] = {
    Dialect.OCTAVO: _octavo,
    Dialect.OPENAI: _openai,
    Dialect.TEI: _tei,
    Dialect.COHERE: _cohere,
    Dialect.INFERENCE: _inference,
}
# For the documentation.
ERROR_TYPES: dict[Dialect, type] = {
    Dialect.OCTAVO: ApiError,
    Dialect.OPENAI: OpenAiError,
    Dialect.TEI: TeiError,
    Dialect.COHERE: CohereError,
    Dialect.INFERENCE: InferenceError,
}


def content_from_refusal(refusal: Refusal, dialect: Dialect) -> Any:
    """Return the body of a refusal, to be written as JSON."""
    return _SHAPES[dialect](refusal)


def headers_from_refusal(refusal: Refusal) -> Headers:
    """Return the headers that a refusal brings: when to come back, what is allowed, how to show a key."""
    match refusal:
        case Overloaded():
            wait_s = min(refusal.retry_after_s, _LONGEST_WAIT_S)
            whole_s, exact_ms = (b"%d" % max(1, math.ceil(wait)) for wait in (wait_s, 1000 * wait_s))
            # The one without X- is what the client libraries of OpenAI read, which wait for as long.
            return (b"retry-after", whole_s), (b"retry-after-ms", exact_ms), (b"x-retry-after-ms", exact_ms)
        case MethodNotAllowed():
            return ((b"allow", refusal.allowed.encode()),)
        case Unauthorized():
            return ((b"www-authenticate", b"Bearer"),)
    return ()
