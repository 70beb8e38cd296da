"""The body of a request: read up to a limit and no further, and decoded into what a dialect expects.

Knows ASGI's messages and JSON, no dialect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from starlette.types import Message, Receive

from octavo.serve.http.refusals import SlowBody, UnsupportedMedia
from octavo.serve.http.settings import ApiSettings
from octavo.serve.refusals import BadRequest, TooLarge

_JSON_TYPES = (b"application/json", b"text/json")

Body = TypeVar("Body")


class ClientGone(Exception):  # noqa: N818 - an event, not a fault
    """The client closed the connection; nobody waits for an answer."""


def check_media(headers: Mapping[bytes, bytes], *, binary: bool = False) -> None:
    """Refuse a body that says it is something else than JSON, or is compressed.

    Args:
        headers: of the request; one that does not say what its body is, is taken for JSON.
        binary: JSON with bytes after it is read too.

    Raises:
        UnsupportedMedia: it says so.
    """
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in (b"identity", b""):
        raise UnsupportedMedia(f"The body is compressed ({_quoted(encoding)}). Send it as it is.")
    said = headers.get(b"content-type")
    if said is None or said == b"application/json":
        return
    kind, _, parameters = (part.strip().lower() for part in said.partition(b";"))
    known = kind in _JSON_TYPES or (binary and kind == b"application/octet-stream")
    if not known:
        raise UnsupportedMedia(
            f"The body is said to be {_quoted(said)}. Send JSON, with Content-Type: application/json."
        )
    if parameters.startswith(b"charset=") and parameters[8:].strip(b'" ') not in (b"utf-8", b"utf8", b"us-ascii"):
        raise UnsupportedMedia(f"The body is said to be {_quoted(said)}. Send JSON in UTF-8.")


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], settings: ApiSettings) -> bytes:
    """Return the whole body; one that is too large is left unread, but for what shows that it is.

    Raises:
        TooLarge: it is larger than allowed.
        SlowBody: it does not come in time.
        ClientGone: the connection was closed before its end.
    """
    limit = settings.max_body_bytes
    length = headers.get(b"content-length", b"")
    if length.isdigit() and (len(length) > 18 or int(length) > limit):
        raise _too_large(limit)
    message = message_now(receive)
    if message is not None and message["type"] == "http.request" and not message.get("more_body"):  # nearly always
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        return body
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            return await _rest_of_body(message or await receive(), receive, limit)
    except TimeoutError:
        raise SlowBody(f"The body did not come within {settings.body_timeout_s:g} seconds.") from None


async def _rest_of_body(message: Any, receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


def message_now(receive: Receive) -> Message | None:
    """Return a message that is there; None where it would have to be waited for, and no task is made for that."""
    waiting = receive().__await__()
    try:
        next(waiting)
    except StopIteration as come:
        message: Message = come.value
        return message
    finally:
        waiting.close()
    return None


def body_from_json(decoder: msgspec.json.Decoder[Body], content: bytes) -> Body:
    """Decode a body.

    Raises:
        BadRequest: it is no JSON, not UTF-8, or not of the form that the decoder expects.
    """
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The body has another form than is read here: {error}.") from None
    except msgspec.DecodeError as error:
        what = f"is no JSON: {error}" if content else "is empty. Send JSON"
        raise BadRequest(f"The body {what}.") from None
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8 ({error.reason}). JSON is UTF-8 always.") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than the {limit} bytes that are taken. Send several requests.")


def _quoted(value: bytes) -> str:
    return repr(value[:60].decode("latin-1"))
