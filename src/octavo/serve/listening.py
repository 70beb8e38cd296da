"""Ports and the HTTP server on them: bound before anything is loaded, patient with slow clients only so far.

Knows no model and no dialect; what is answered comes in as an ASGI app.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from octavo.errors import InputError

_BACKLOG = 2048
# Longer than clients and proxies keep a connection idle, so that it is they who close it, and no request meets its end.
_KEEP_ALIVE_S = 75
# Of a request's line and headers: what comes slower, or is longer, is not worth a connection.
_HEADERS_S = 20.0
_MOST_HEADER_BYTES = 64 << 10


def listen(host: str, port: int, option: str, host_option: str = "--host") -> socket.socket:
    """Return a socket that listens; connections wait in it until a server takes them.

    Args:
        host: name or address.
        port: 0 for any that is free.
        option: of the command line that names the port, for messages.
        host_option: that names the host.

    Raises:
        InputError: somebody else has the port, or it cannot be had.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except socket.gaierror as error:
        raise InputError(
            f"The host {host!r} is not known here ({error.strerror}). Give another: {host_option}"
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise InputError(f"{host} is not an address of this machine. Give another: {host_option}") from error
        raise InputError(_why_not(error, host, port, option)) from error


def _why_not(error: OSError, host: str, port: int, option: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"Port {port} of {host} is in use. Stop what listens there, or give another: {option}"
        case errno.EACCES:
            return f"Port {port} of {host} is not for this user. Give one from 1024 on: {option}"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"Port {port} of {host} cannot be listened on ({reason}). Give another: {option}"


class HttpServer(uvicorn.Server):
    """uvicorn, on a socket that listens already, which leaves signals to the process."""

    def __init__(self, app: ASGIApp, drain_s: float) -> None:
        """Serve an app; once told to end, give requests up to `drain_s`."""
        super().__init__(
            uvicorn.Config(
                app,
                http=_PatientProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(1, round(drain_s)),
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class _PatientProtocol(HttpToolsProtocol):
    """One connection. Closes it where the headers of a request come too slowly, or do not end."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._patience: asyncio.TimerHandle | None = None
        self._header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._got_headers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._patience is not None:
            self._header_bytes += len(data)
            if self._header_bytes > _MOST_HEADER_BYTES:
                self._give_up()

    def on_message_begin(self) -> None:
        self._await_headers()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._got_headers()
        super().on_headers_complete()

    def _await_headers(self) -> None:
        if self._patience is None:
            self._header_bytes = 0
            self._patience = self.loop.call_later(_HEADERS_S, self._give_up)

    def _got_headers(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._got_headers()
        if not self.transport.is_closing():
            self.transport.close()


def closing(app: ASGIApp, is_stopping: Callable[[], bool]) -> ASGIApp:
    """Return the app with `Connection: close` on every answer while the service stops.

    So clients that keep connections open leave them at the end of an answer, and not in the middle of a request.
    """
    header = (b"connection", b"close")

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_stopping():
            await app(scope, receive, send)
            return

        async def closed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        await app(scope, receive, closed)

    return wrapped
