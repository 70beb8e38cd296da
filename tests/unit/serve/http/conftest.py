"""The application over tiny models: called in the process, and behind a real server for real clients."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

from octavo.serve.http.app import create_app
from octavo.serve.http.settings import ApiSettings
from octavo.store.model import Model
from tests.unit.serve.direct_service import DirectService, HeardRefusals, make_tiny_models


@pytest.fixture(scope="session")
def tiny_served() -> dict[str, Model]:
    return make_tiny_models()


@pytest.fixture
def service(tiny_served: dict[str, Model]) -> DirectService:
    return DirectService(dict(tiny_served))


@pytest.fixture
def listener() -> HeardRefusals:
    return HeardRefusals()


class Client:
    """Asks an application in this process, without a server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://octavo") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.request("POST", path, json=body, **options)


@pytest.fixture
def make_client(service: DirectService, listener: HeardRefusals) -> Callable[..., Client]:
    """Return a client of the application with some settings."""

    def make(**settings: Any) -> Client:
        return Client(create_app(service, ApiSettings(**settings), listener=listener))

    return make


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    return make_client()


@contextlib.contextmanager
def _served(app: ASGIApp) -> Iterator[str]:
    """Serve an application on a free port of this machine, in a thread of its own."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", lifespan="off", http="httptools", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        # The socket listens already: who comes before the loop runs is kept waiting.
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture
def serve(service: DirectService, listener: HeardRefusals) -> Callable[..., AbstractContextManager[str]]:
    """Return a context in which the application is served, with some settings; its value is the address."""
    return lambda **settings: _served(create_app(service, ApiSettings(**settings), listener=listener))


@pytest.fixture
def url(serve: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    with serve() as address:
        yield address
