"""Lets the page ask the admin API, which has a port of its own and so another origin; and lets no other page do it.

The key is what protects the API: nothing is sent along by a browser on its own, as cookies would be, so that a page
without the key can do nothing, wherever it comes from. The page could also have been given the API under its own
origin; then whoever reaches the service would reach the API, and a firewall before its port would keep nobody out.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MAX_AGE_S = 600
_Headers = list[tuple[bytes, bytes]]


def allowing_page(app: ASGIApp, port: int) -> ASGIApp:
    """Return the app with answers that the page may read: what comes from the same host under `port`."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"]) if scope["type"] == "http" else {}
        origin = headers.get(b"origin", b"")
        if not _is_page(origin, headers.get(b"host", b""), port):
            await app(scope, receive, send)
            return
        allowed: _Headers = [(b"access-control-allow-origin", origin), (b"vary", b"origin")]
        if scope["method"] == "OPTIONS":
            await _send_preflight(send, allowed)
            return

        async def readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *allowed]}
            await send(message)

        await app(scope, receive, readable)

    return wrapped


async def _send_preflight(send: Send, allowed: _Headers) -> None:
    """Answer what a browser asks before it sends a key."""
    headers = [
        *allowed,
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", b"authorization, content-type"),
        (b"access-control-max-age", b"%d" % _MAX_AGE_S),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _is_page(origin: bytes, host: bytes, port: int) -> bool:
    """Return whether an origin is the asked host itself, under the port of the service."""
    name = _name(host)
    origins = [b"http://%b:%d" % (name, port), b"https://%b:%d" % (name, port)]
    if port in (80, 443):  # which origins do not spell out
        origins.append((b"http://" if port == 80 else b"https://") + name)
    return bool(name) and origin.lower() in origins


def _name(host: bytes) -> bytes:
    """Return a host without its port; an address of IPv6 has colons of its own."""
    name, _, port = host.lower().rpartition(b":")
    return name if name and port.isdigit() else host.lower()
