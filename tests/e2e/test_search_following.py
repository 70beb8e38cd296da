"""An index that is published anew while a real process serves it under load: nothing is lost, nothing is mixed."""

import itertools
import json
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from octavo.search.build import Change, build_index
from octavo.search.embedder import ReleaseEmbedder, documents_release
from octavo.search.index import VECTORS
from octavo.store.model import load
from octavo.store.versions import point_current
from tests.unit.conftest import make_certificate
from tests.unit.search.conftest import publish_stack, tiny_stack

__all__ = ["make_certificate", "publish_stack", "tiny_stack"]  # fixtures that are used here

QUERY = "play some music"
WAIT_S = 30.0


class Searching:
    """Clients that search one after the other until the block ends, and what they were told."""

    def __init__(self, address: str, clients: int = 3) -> None:
        self._address = address
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        self.answers: list[tuple[str, tuple[str, ...], bool]] = []  # version, ids, degraded
        self.failures: list[str] = []

    def ask(self) -> tuple[str, tuple[str, ...], bool]:
        request = urllib.request.Request(
            f"{self._address}/v1/search",
            data=json.dumps({"query": QUERY, "top": 5}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            told = json.load(answer)
        return told["index"], tuple(sorted(one["id"] for one in told["results"])), told["degraded"]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append(self.ask())
            except OSError as error:
                self.failures.append(str(error))

    def await_version(self, version: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while version not in {told for told, _, _ in self.answers[-1:]}:
            assert time.monotonic() < deadline, f"version {version} was not taken up"
            time.sleep(0.02)

    def __enter__(self) -> "Searching":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


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


@contextmanager
def served(
    program: str, store: Path, index: Path, environment: dict[str, str], *options: str
) -> Iterator[tuple[str, Any]]:
    command = [program, "serve", str(store), "--index", str(index), "--port", "0", "--admin-port", "0", "--json"]
    command += ["--grace-s", "0", "--threads", "1", "--max-queue-ms", "5000", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        told = json.loads("".join(itertools.takewhile(lambda line: line != "}\n", process.stdout)) + "}")
        address = f"http://127.0.0.1:{told['port']}"
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{address}/ready"):
                break
            time.sleep(0.05)
        yield address, process
    finally:
        process.kill()
        process.communicate()


FIRST = {"music": "play some music", "table": "book a table"}
SECOND = {**FIRST, "off": "turn it off"}
IDS = {"1": ("music", "table"), "2": ("music", "off", "table"), "4": ("music", "table")}


def test_versions_are_taken_up_under_load_and_a_broken_one_is_not(program, store, publish, environment, tmp_path):
    publish(FIRST)
    with served(program, store, tmp_path / "index", environment) as (address, _), Searching(address) as searching:
        searching.await_version("1")
        publish(SECOND)
        searching.await_version("2")
        broken = tmp_path / "index" / "3"
        shutil.copytree(broken.with_name("2"), broken)
        (broken / VECTORS).write_bytes(b"no vectors")
        point_current(tmp_path / "index", "3")
        time.sleep(2.5)  # it is looked at every second
        assert searching.ask()[0] == "2"
        publish(FIRST)
        searching.await_version("4")
    assert searching.failures == []
    assert not any(degraded for _, _, degraded in searching.answers)
    assert {(version, ids) for version, ids, _ in searching.answers} == set(IDS.items())


def test_a_store_that_is_not_watched_is_read_on_a_hang_up(program, store, publish, environment, tmp_path):
    publish(FIRST)
    running = served(program, store, tmp_path / "index", environment, "--no-watch")
    with running as (address, process), Searching(address, clients=1) as searching:
        publish(SECOND)
        time.sleep(1.5)
        assert searching.ask()[0] == "1"
        process.send_signal(signal.SIGHUP)
        searching.await_version("2")
    assert searching.failures == []
