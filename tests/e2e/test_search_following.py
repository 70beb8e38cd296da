"""An index that is published anew while a real process serves it under load: nothing is lost, nothing is mixed."""

import json
import shutil
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from octavo.search.build import Change, build_index
from octavo.search.embedder import ReleaseEmbedder, documents_release
from octavo.search.index import VECTORS
from octavo.store.model import load
from octavo.store.versions import point_current
from tests.e2e.serving import PATIENCE_S, Load, Server, serve, until
from tests.unit.conftest import make_certificate
from tests.unit.search.conftest import publish_stack, tiny_stack

__all__ = ["make_certificate", "publish_stack", "serve", "tiny_stack"]  # fixtures that are used here

QUERY = "play some music"


def search(server: Server) -> tuple[str, tuple[str, ...], bool]:
    """Search once: the version of the index, ids, and whether the answer is degraded."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/v1/search",
        data=json.dumps({"query": QUERY, "top": 5}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        told = json.load(answer)
    return told["index"], tuple(sorted(one["id"] for one in told["results"])), told["degraded"]


def searched(server: Server) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    while True:
        yield search(server)


def await_version(searching: Load, version: str) -> None:
    until(lambda: version in {told for told, _, _ in searching.answers[-1:]})


@pytest.fixture
def store(publish_stack: Callable[..., Path]) -> Path:
    return publish_stack()


@pytest.fixture
def publish(store: Path, tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Publish the next version of the index, of these documents."""

    def run(documents: dict[str, str]) -> Path:
        corpus = tmp_path / "corpus.jsonl"
        lines = (json.dumps({"_id": name, "text": text}) + "\n" for name, text in documents.items())
        corpus.write_text("".join(lines), "utf-8")
        with load(documents_release(store / "embed", by_reference=True), threads=1) as model:
            return build_index(tmp_path / "index", Change(corpus), ReleaseEmbedder(model), store=store).folder

    return run


@pytest.fixture
def serve_index(serve: Callable[..., Server], store: Path, tmp_path: Path) -> Callable[..., Server]:
    """Serve the store and the index."""
    return partial(serve, store, "--index", str(tmp_path / "index"), "--threads", "1", "--max-queue-ms", "5000")


FIRST = {"music": "play some music", "table": "book a table"}
SECOND = {**FIRST, "off": "turn it off"}
IDS = {"1": ("music", "table"), "2": ("music", "off", "table"), "4": ("music", "table")}


def test_versions_are_taken_up_under_load_and_a_broken_one_is_not(serve_index, publish, tmp_path):
    publish(FIRST)
    server = serve_index()
    with Load(partial(searched, server)) as searching:
        await_version(searching, "1")
        publish(SECOND)
        await_version(searching, "2")
        broken = tmp_path / "index" / "3"
        shutil.copytree(broken.with_name("2"), broken)
        (broken / VECTORS).write_bytes(b"no vectors")
        point_current(tmp_path / "index", "3")
        time.sleep(2.5)  # it is looked at every second
        assert search(server)[0] == "2"
        publish(FIRST)
        await_version(searching, "4")
    assert searching.faults == []
    assert not any(degraded for _, _, degraded in searching.answers)
    assert {(version, ids) for version, ids, _ in searching.answers} == set(IDS.items())


def test_a_store_that_is_not_watched_is_read_on_a_hang_up(serve_index, publish):
    publish(FIRST)
    server = serve_index("--no-watch")
    with Load(partial(searched, server), clients=1) as searching:
        publish(SECOND)
        time.sleep(1.5)
        assert search(server)[0] == "1"
        server.process.send_signal(signal.SIGHUP)
        await_version(searching, "2")
    assert searching.faults == []
