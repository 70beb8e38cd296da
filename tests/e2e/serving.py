"""A service in a process of its own, its store, and clients that ask it, for the tests beside this file."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from octavo.store.publish import new_version
from octavo.store.release import open_release
from tests.unit.conftest import TEXTS

KEY = "the-admin-key"
PATIENCE_S = 60


@dataclass
class Server:
    """A service that runs, and how to speak to it."""

    process: subprocess.Popen[str]
    port: int
    admin_port: int
    log: Path

    def ask(self, text: str = TEXTS[0], connection: http.client.HTTPConnection | None = None) -> tuple[int, Any, bool]:
        """Ask for a text: the status, the answer, and whether the server wants the connection closed."""
        used = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        body = json.dumps({"model": "tiny", "input": text})
        used.request("POST", "/v1/classify", body, {"content-type": "application/json"})
        response = used.getresponse()
        content = json.loads(response.read())
        if connection is None:
            used.close()
        return response.status, content, response.headers.get("connection") == "close"

    def asked(self) -> Iterator[tuple[str, int, Any]]:
        """Ask one text after the other over a connection that stays open: text, status and answer of each."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)) as connection:
            for text in itertools.cycle(TEXTS):
                status, answer, closes = self.ask(text, connection)
                yield text, status, answer
                # What a router does: a service that is not ready is asked nothing more.
                if closes and self.status_code("/ready") != 200:
                    return

    def status_code(self, path: str) -> int | None:
        """Return the status of an address; None where nothing listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def admin(self, method: str, path: str, body: Any = None, key: str = KEY) -> tuple[int, Any]:
        """Ask the admin API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=PATIENCE_S)
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"authorization": f"Bearer {key}"})
        response = connection.getresponse()
        read = response.read()
        connection.close()
        return response.status, json.loads(read) if path.startswith("/admin") else read.decode()

    def promote(self, version: str) -> tuple[int, Any]:
        return self.admin("POST", "/admin/models/tiny/promote", {"version": version})

    def serving(self) -> str | None:
        """Return the version that serves."""
        models = self.admin("GET", "/admin/status")[1]["models"]
        return models[0]["version"] if models else None

    def logged(self) -> str:
        return self.log.read_text("utf-8")


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


@pytest.fixture
def store(publish_tiny: Callable[..., Path]) -> Path:
    """A store of one model: version 1 is FP32, version 2 INT8 and current."""
    return publish_tiny().parent


@pytest.fixture
def serve(program: str, environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start services, and end those that still run."""
    servers: list[Server] = []

    def start(store: Path, *options: str, ready: bool = True, **variables: str) -> Server:
        log = tmp_path / f"server-{len(servers)}.log"
        command = [program, "serve", str(store), "--port", "0", "--admin-port", "0", "--grace-s", "0.5", "--json"]
        with log.open("w") as errors:
            process = subprocess.Popen(
                [*command, *options],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**environment, "OCTAVO_ADMIN_KEY": KEY, **variables},
            )
        assert process.stdout is not None
        document = "".join(itertools.takewhile(lambda line: line != "}\n", process.stdout))
        assert document, log.read_text("utf-8")
        told = json.loads(document + "}")
        servers.append(Server(process, told["port"], told["admin_port"], log))
        if ready:
            until(lambda: servers[-1].status_code("/ready") == 200)
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.communicate()
        assert "Traceback" not in server.logged()


def add_version(store: Path, source: str, **files: bytes) -> str:
    """Publish the files of a version as the next one, some of them changed; `current` stays."""
    release = open_release(store / "tiny" / source)
    with new_version(store, "tiny") as draft:
        for name in release.manifest.files:
            draft.write(name, files.get(name.partition(".")[0], release.read(name)))
        manifest = release.manifest
        return draft.commit(task=manifest.task, rung=manifest.rung, variants=manifest.variants, make_current=False).name


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


class Load:
    """Clients, a thread each, that ask one thing after the other until the block ends, and what they were told."""

    def __init__(self, client: Callable[[], Iterator[Any]], clients: int = 3) -> None:
        self.answers: list[Any] = []
        self.faults: list[BaseException] = []
        self._client = client
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        try:
            for answer in self._client():
                self.answers.append(answer)
                if self._enough.is_set():
                    break
        except BaseException as error:
            self.faults.append(error)


def point_current(store: Path, version: str) -> None:
    (store / "tiny/next").symlink_to(version)
    (store / "tiny/next").rename(store / "tiny/current")


def exchange(server: Server, *pieces: bytes, port: int = 0, silent_s: float = 10) -> bytes:
    """Send bytes as they are, and return what comes back until the connection closes or is silent."""
    with socket.create_connection(("127.0.0.1", port or server.port), timeout=silent_s) as connection:
        answer = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
        except OSError:  # it was closed before all was sent: the answer may be there
            pass
        try:
            while chunk := connection.recv(65536):
                answer += chunk
                if b"\r\n\r\n" in answer and answer.endswith((b"}", b"0\r\n\r\n")):
                    break
        except OSError:
            pass
        return answer


def head(length: int, *more: str) -> bytes:
    lines = ["POST /v1/classify HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {length}"]
    return "\r\n".join([*lines, *more, "", ""]).encode()


def resident_bytes(process: subprocess.Popen[str]) -> int:
    pages = int(Path(f"/proc/{process.pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
