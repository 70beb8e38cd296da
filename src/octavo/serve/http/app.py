"""The application: every operation at its address, and a page and a document that describe them.

Starlette routes what other rooms add. The addresses of endpoints are found before, and those in use remembered: routes
and layers of middleware would cost as much as the rest of a small request.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from re import Pattern

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from octavo.serve.http import health, inference, openai, rerank, tei, typed
from octavo.serve.http.endpoint import Endpoint, Operation
from octavo.serve.http.errors import Dialect, content_from_refusal, headers_from_refusal
from octavo.serve.http.exchange import Answer, Call
from octavo.serve.http.openapi import openapi_document
from octavo.serve.http.page import docs_page
from octavo.serve.http.refusals import UnknownPath
from octavo.serve.http.settings import ApiSettings
from octavo.serve.refusals import Refusal
from octavo.serve.service import Listener, Service

_KNOWN_ADDRESSES = 512
_LONGEST_ADDRESS = 256  # that is remembered; the names of models have 64 characters at most

_HTML = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
)


def create_app(
    service: Service,
    settings: ApiSettings | None = None,
    *,
    listener: Listener | None = None,
    extra_routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """Return the application.

    Args:
        service: that answers.
        settings: limits and keys; None for the defaults.
        listener: hears of what is refused before the service is asked.
        extra_routes: of other rooms. Those whose endpoint is an `Endpoint` are documented with the rest.
    """
    settings = settings or ApiSettings()
    routes = [
        *(_route(operation, service, settings, listener) for operation in all_operations()),
        *extra_routes,
    ]
    operations = [endpoint.operation for _, endpoint in _endpoints(routes)]
    document = openapi_document(operations, needs_key=bool(settings.api_keys))
    described = [
        _constant("/openapi.json", "Describe all this for programs", Answer(orjson.dumps(document))),
        _constant("/docs", "Describe all this for people", Answer(docs_page(document).encode(), headers=_HTML)),
    ]
    routes += [_route(operation, service, settings, listener) for operation in described]
    return _Application(routes)


def all_operations() -> tuple[Operation, ...]:
    """Return all that clients can ask for."""
    modules = (typed, openai, rerank, tei, inference, health)
    return tuple(operation for module in modules for operation in module.OPERATIONS)


class _Application(Starlette):
    """Starlette, with the addresses of endpoints looked up in front of it."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        super().__init__(routes=routes, exception_handlers={Refusal: _refused, HTTPException: _not_routed})
        self.router.redirect_slashes = False
        self._own = _endpoints(routes)
        self._find = lru_cache(maxsize=_KNOWN_ADDRESSES)(self._found)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        path = scope["path"] if scope["type"] == "http" else ""
        found = self._find(path, scope["method"]) if 0 < len(path) <= _LONGEST_ADDRESS else None
        if found is None:
            await super().__call__(scope, receive, send)
            return
        endpoint, scope["path_params"] = found
        await endpoint(scope, receive, send)

    def _found(self, path: str, method: str) -> tuple[Endpoint, dict[str, str]] | None:
        """Return the endpoint at an address, and the parts that vary; None where Starlette may know more.

        Where the method is none of those that the address is asked with, the first endpoint there says so.
        """
        found = [(endpoint, matched) for pattern, endpoint in self._own if (matched := pattern.match(path))]
        for endpoint, matched in [*(one for one in found if method in one[0].methods), *found]:
            return endpoint, matched.groupdict()
        return None


def _endpoints(routes: Sequence[BaseRoute]) -> list[tuple[Pattern[str], Endpoint]]:
    """Return the endpoints among some routes, each with the pattern of its address."""
    return [
        (route.path_regex, route.endpoint)
        for route in routes
        if isinstance(route, Route) and isinstance(route.endpoint, Endpoint)
    ]


def _route(operation: Operation, service: Service, settings: ApiSettings, listener: Listener | None) -> Route:
    return Route(operation.path, Endpoint(operation, service, settings, listener), name=operation.path)


def _constant(path: str, summary: str, answer: Answer) -> Operation:
    async def handle(call: Call, body: None) -> Answer:
        return answer

    return Operation(method="GET", path=path, handle=handle, summary=summary, is_open=True)


async def _refused(request: Request, error: Exception) -> Response:
    """Answer for other rooms' routes, whose refusals come this far."""
    assert isinstance(error, Refusal)  # that is what it is registered for
    headers = {name.decode(): value.decode() for name, value in headers_from_refusal(error)}
    content = orjson.dumps(content_from_refusal(error, Dialect.OCTAVO))
    return Response(content, error.status, headers, media_type="application/json")


async def _not_routed(request: Request, error: Exception) -> Response:
    """Answer where Starlette found no route, or one of other rooms' routes refused by Starlette's own means."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return await _refused(request, UnknownPath(f"There is nothing at {request.scope['path']:.100}. See /docs."))
    content = orjson.dumps({"error": {"reason": "refused", "message": error.detail}})
    return Response(content, error.status_code, error.headers, media_type="application/json")
