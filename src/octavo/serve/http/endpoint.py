"""An address of the API: what is done there, and the ASGI application that does it.

Raw ASGI, as layers of middleware would cost more than the rest of a small request. Here are the checks that all
addresses have in common, in this order: method, key, media type, size, form. Whatever goes wrong becomes an answer in
the dialect of the address; what should not have gone wrong is logged, and the client is told no more than that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from octavo.errors import InputError
from octavo.serve.http.body import ClientGone, body_from_json, check_media, read_body
from octavo.serve.http.errors import Dialect, content_from_refusal, headers_from_refusal
from octavo.serve.http.exchange import Answer, Call, json_answer
from octavo.serve.http.keys import check_key, digests_of
from octavo.serve.http.patience import Overdue, while_awaited
from octavo.serve.http.refusals import MethodNotAllowed
from octavo.serve.http.settings import ApiSettings
from octavo.serve.refusals import BadRequest, Refusal
from octavo.serve.service import Listener, Service

_LOG = logging.getLogger(__name__)
_CLOSE = (b"connection", b"close")


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that clients can ask for.

    Attributes:
        method: `GET` or `POST`.
        path: its address; what varies stands in braces.
        handle: makes the answer out of a call and its body. Raises Refusal, or InputError for what the body says.
        summary: of it in a line, for the documentation.
        dialect: whose clients ask; their errors look like this.
        body: what the handler is given: a type to decode JSON into, `bytes` for the body as it came, None for none.
        documented_body: the type that the documentation shows for a body of `bytes`.
        answer: the type of the answer's body, for the documentation; None for an empty one.
        example: a body, for the documentation.
        is_open: needs no key.
    """

    method: str
    path: str
    handle: Callable[[Call, Any], Coroutine[Any, Any, Answer]]
    summary: str
    dialect: Dialect = Dialect.OCTAVO
    body: Any = None
    documented_body: Any = None
    answer: Any = None
    example: Any = None
    is_open: bool = False


class Endpoint:
    """An operation, bound to the service that answers: an ASGI application, and the endpoint of a route.

    Attributes:
        operation: what is asked for.
        methods: of HTTP that it is asked with.
    """

    def __init__(
        self, operation: Operation, service: Service, settings: ApiSettings, listener: Listener | None = None
    ) -> None:
        self.operation = operation
        self._service = service
        self._settings = settings
        self._listener = listener
        self.methods = ("GET", "HEAD") if operation.method == "GET" else (operation.method,)
        self._reads_bytes = operation.body is bytes
        self._decoder = msgspec.json.Decoder(operation.body) if operation.body not in (None, bytes) else None
        self._keys = () if operation.is_open else digests_of(settings.api_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = dict(scope["headers"])
        call: Call | None = None
        is_read = False
        try:
            self._check(scope, headers)
            path, query = scope.get("path_params") or {}, scope.get("query_string", b"")
            call = Call(self._service, self._settings, headers, path, query)
            content = b""
            if self.operation.body is not None:
                content = await read_body(receive, headers, self._settings)
                is_read = True
            body = content if self._decoder is None else body_from_json(self._decoder, content)
            answer = await while_awaited(self.operation.handle(call, body), receive, call.deadline_s)
        except ClientGone:
            return
        except Refusal as refusal:
            answer = self._refused(refusal, call)
        except InputError as error:  # a handler may leave it to the task to find fault with an item
            answer = self._refused(BadRequest(str(error)), call)
        except Exception:
            _LOG.exception("%s %s failed", scope["method"], scope["path"])
            answer = self._refused(Refusal("The server failed to answer. Its log says why."), call)
        await _send(send, answer, is_last=answer.status >= 400 and not is_read and _has_body(headers))

    def _check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        if scope["method"] not in self.methods:
            raise MethodNotAllowed(scope["method"], scope["path"], ", ".join(self.methods))
        check_key(headers.get(b"authorization", b""), self._keys)
        if self.operation.body is not None:
            check_media(headers, binary=self._reads_bytes)

    def _refused(self, refusal: Refusal, call: Call | None) -> Answer:
        asked = None if call is None else call.asked
        # The service tells of what it refuses itself.
        if self._listener is not None and (asked is None or isinstance(refusal, Overdue)):
            self._listener.refused(asked or "", refusal.reason)
        answer = json_answer(content_from_refusal(refusal, self.operation.dialect), refusal.status)
        return msgspec.structs.replace(answer, headers=(*answer.headers, *headers_from_refusal(refusal)))


async def _send(send: Send, answer: Answer, *, is_last: bool) -> None:
    """Send an answer; after the last one the connection is closed, and what the client still sends is not read."""
    headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    if is_last:
        headers.append(_CLOSE)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _has_body(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
