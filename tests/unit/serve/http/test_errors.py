import json
from typing import get_type_hints

import pytest

from octavo.serve.http.errors import ERROR_TYPES, Dialect, content_from_refusal, headers_from_refusal
from octavo.serve.http.refusals import MethodNotAllowed, SlowBody, Unauthorized, UnknownPath, UnsupportedMedia
from octavo.serve.refusals import (
    BadRequest,
    DeadlineExceeded,
    Overloaded,
    Refusal,
    TooLarge,
    Unavailable,
    UnknownModel,
)

EVERY = [
    *(kind("why") for kind in (BadRequest, UnknownModel, TooLarge, Unavailable, DeadlineExceeded, Refusal)),
    *(kind("why") for kind in (Unauthorized, UnknownPath, SlowBody, UnsupportedMedia)),
    Overloaded("why", 0.3),
    MethodNotAllowed("PUT", "/why", "GET"),
]


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("refusal", EVERY, ids=lambda refusal: type(refusal).__name__)
def test_every_refusal_has_the_shape_of_the_dialect(refusal, dialect):
    content = content_from_refusal(refusal, dialect)
    assert set(content) == set(get_type_hints(ERROR_TYPES[dialect]))
    assert "why" in json.dumps(content)


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (BadRequest(""), "invalid_request_error"),
        (Unauthorized(""), "authentication_error"),
        (Overloaded("", 1), "rate_limit_error"),
        (Unavailable(""), "server_error"),
    ],
)
def test_openai_s_types(refusal, kind):
    assert content_from_refusal(refusal, Dialect.OPENAI)["error"]["type"] == kind


@pytest.mark.parametrize(
    ("wait_s", "seconds", "milliseconds"),
    [(0.0, b"1", b"1"), (0.0101, b"1", b"11"), (1.0, b"1", b"1000"), (1.2, b"2", b"1200")],
)
def test_when_to_come_back_is_never_too_early(wait_s, seconds, milliseconds):
    headers = dict(headers_from_refusal(Overloaded("", wait_s)))
    assert headers[b"retry-after"] == seconds
    assert headers[b"x-retry-after-ms"] == headers[b"retry-after-ms"] == milliseconds


def test_a_wait_without_end_is_an_hour():
    assert dict(headers_from_refusal(Overloaded("", float("inf"))))[b"retry-after"] == b"3600"
