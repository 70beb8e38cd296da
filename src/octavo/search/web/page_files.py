"""The page's files, and reports of releases: static, with the headers that let browsers run nothing else.

Scripts and styles come from this service alone, none stand in the page itself, and connections go to this service and
its admin API. Knows no search.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from octavo.search.web.facts import report_of
from octavo.search.web.site import Site

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src {connect}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A report has its style in it and needs no script; whoever made the release wrote it, so it is given no origin either.
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
_HEADERS = {
    "cache-control": "no-cache",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_HOST = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the page, in memory."""

    content: bytes
    media_type: str
    etag: str


def page_routes(site: Site) -> list[BaseRoute]:
    """Return the routes of the page's files and, where searching needs no key, of the reports that it links to."""
    routes: list[BaseRoute] = [_file_route(path, _read(*file), site.admin_port) for path, file in _FILES.items()]
    return [*routes, _report_route(site)] if site.has_reports else routes


def _read(name: str, media_type: str) -> _File:
    content = resources.files("octavo.search.web").joinpath("page", name).read_bytes()
    return _File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _file_route(path: str, file: _File, admin_port: int | None) -> Route:
    async def handle(request: Request) -> Response:
        policy = _POLICY.format(connect=" ".join(["'self'", *_admin_origin(request, admin_port)]))
        headers = {**_HEADERS, "etag": file.etag, "content-security-policy": policy}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.media_type)

    return Route(path, handle, methods=["GET"])


def _admin_origin(request: Request, admin_port: int | None) -> list[str]:
    """Return where the admin API is for whoever asks: the same host under its own port."""
    host = _HOST.fullmatch(request.headers.get("host", ""))
    if admin_port is None or host is None:
        return []
    return [f"{request.url.scheme}://{host.group(1)}:{admin_port}"]


def _report_route(site: Site) -> Route:
    async def handle(request: Request) -> Response:
        model, version = request.path_params["model"], request.path_params["version"]
        content = await run_in_threadpool(report_of, site.store, model, version)
        headers = {**_HEADERS, "content-security-policy": _REPORT_POLICY}
        return Response(content, headers=headers, media_type="text/html; charset=utf-8")

    return Route("/reports/{model}/{version}", handle, methods=["GET"])
