"""Why the service does not answer a request. Each refusal is one HTTP status and one label in the metrics.

Refusal
├── BadRequest         400  the request means nothing to this model
├── UnknownModel       404  no such model, or no such version of it
├── TooLarge           413  more bytes, inputs or tokens than are taken at once
├── Overloaded         429  the queue is as long as it may be; says when to come back
├── Unavailable        503  nothing can serve: starting, or stopping
└── DeadlineExceeded   504  the client's own deadline came before the answer
"""

from __future__ import annotations

from typing import ClassVar

from octavo.errors import OctavoError


class Refusal(OctavoError):  # noqa: N818
    """A request that is not answered, on purpose.

    Attributes:
        status: of HTTP.
        reason: its name in metrics, logs and bodies.
    """

    status: ClassVar[int] = 500
    reason: ClassVar[str] = "refused"


class BadRequest(Refusal):
    """The request is not well-formed, or this model cannot read it."""

    status, reason = 400, "bad_request"


class UnknownModel(Refusal):
    """No such model is served, or not in this version."""

    status, reason = 404, "unknown_model"


class TooLarge(Refusal):
    """More bytes, inputs or tokens than one request may hold."""

    status, reason = 413, "too_large"


class Overloaded(Refusal):
    """The queue is as long as it may be, or the request waited as long as it may.

    Attributes:
        retry_after_s: when there should be room, computed from the work that is queued and how fast it goes.
    """

    status, reason = 429, "overloaded"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(Refusal):
    """Nothing can serve: the service is starting, or stopping."""

    status, reason = 503, "unavailable"


class DeadlineExceeded(Refusal):
    """The deadline that the client set has passed; no more is computed for it."""

    status, reason = 504, "deadline"
