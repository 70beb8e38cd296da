"""A search site over a tiny stack, asked in this process without a server."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from octavo.search.build import Change, build_index
from octavo.search.direct import DirectService
from octavo.search.embedder import ReleaseEmbedder, documents_release
from octavo.search.index import Index, open_index
from octavo.search.web.routes import search_routes
from octavo.search.web.site import Site
from octavo.serve.http.app import create_app
from octavo.serve.http.settings import ApiSettings
from octavo.store.model import load

DOCUMENTS = {
    "music": "Play some music in the house",
    "table": "Book a table for two at the place",
    "weather": "What is the weather like for now",
    "zh": "打开厨房的灯，播放音乐",
}


@dataclass
class Kept:
    """What all tests of these files share, made by the first: engines take their time, tiny ones too."""

    folder: Path
    stack: ExitStack
    index: Index | None = None
    service: DirectService | None = None


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    with ExitStack() as stack:
        yield Kept(tmp_path_factory.mktemp("site"), stack)


@pytest.fixture
def shared_store(kept: Kept, publish_stack: Callable[..., Path]) -> Path:
    """A store of four models, not to be changed: of each, version 1 is FP32, version 2 INT8 and current."""
    store = kept.folder / "store"
    return store if store.is_dir() else publish_stack(store=store)


@pytest.fixture
def store(shared_store: Path, tmp_path: Path) -> Path:
    """The same store, to be changed."""
    return Path(shutil.copytree(shared_store, tmp_path / "store", symlinks=True))


@pytest.fixture
def index(kept: Kept, shared_store: Path, write_corpus: Callable[..., Path]) -> Index:
    if kept.index is None:
        with load(documents_release(shared_store / "embed", by_reference=True), threads=1) as model:
            change = Change(write_corpus(DOCUMENTS))
            built = build_index(kept.folder / "index", change, ReleaseEmbedder(model), store=shared_store)
        kept.index = open_index(built.folder)
    return kept.index


@pytest.fixture
def service(kept: Kept, shared_store: Path) -> DirectService:
    if kept.service is None:
        kept.service = kept.stack.enter_context(DirectService.from_store(shared_store, threads=1))
    return kept.service


class Client:
    """Asks an application, all of it in one event loop."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._runner = asyncio.Runner()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://octavo:8000") as client:
                return await client.request(method, path, **options)

        return self._runner.run(ask())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def search(self, query: str, **body: Any) -> Any:
        response = self.request("POST", "/v1/search", json={"query": query, **body})
        assert response.status_code == 200, response.text
        return response.json()

    def close(self) -> None:
        self._runner.close()


@pytest.fixture
def make_client(index: Index, service: DirectService, shared_store: Path) -> Iterator[Callable[..., Client]]:
    """Return a client of a site, with changes to it; `api_keys` are the service's."""
    clients: list[Client] = []

    def make(*, api_keys: tuple[str, ...] = (), **changes: Any) -> Client:
        settings = ApiSettings(api_keys=api_keys)
        site = Site(**({"index": index, "service": service, "store": shared_store} | changes))
        clients.append(Client(create_app(site.service, settings, extra_routes=search_routes(site, settings))))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    return make_client()
