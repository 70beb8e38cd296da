"""Refusals that only HTTP knows: the request never reaches the service.

Refusal
├── Unauthorized       401  no key, or not one that is accepted
├── UnknownPath        404  nothing is at this address
├── MethodNotAllowed   405  another method is
├── SlowBody           408  the body did not come in time
└── UnsupportedMedia   415  a body that is no JSON, or is compressed
"""

from __future__ import annotations

from octavo.serve.refusals import Refusal


class Unauthorized(Refusal):
    """The request shows no key, or not one that is accepted."""

    status, reason = 401, "unauthorized"


class UnknownPath(Refusal):
    """Nothing is at this address."""

    status, reason = 404, "unknown_path"


class MethodNotAllowed(Refusal):
    """The address is asked with another method.

    Attributes:
        allowed: the method that it is asked with.
    """

    status, reason = 405, "method_not_allowed"

    def __init__(self, method: str, path: str, allowed: str) -> None:
        super().__init__(f"{path} is asked with {allowed}, and not with {method}.")
        self.allowed = allowed


class SlowBody(Refusal):
    """The body did not come in time."""

    status, reason = 408, "slow_body"


class UnsupportedMedia(Refusal):
    """The body is not in a form that is read here."""

    status, reason = 415, "unsupported_media"
