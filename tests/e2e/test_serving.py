"""`octavo serve` as a process of its own: swaps and signals under load; what hostile clients and stores do to it."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import octavo as package
from octavo.certify.certificate import Hashes, certificate_json
from octavo.store.publish import new_version
from octavo.store.release import open_release
from tests.unit.conftest import TEXTS, make_certificate, publish_tiny, tiny_models

__all__ = ["make_certificate", "publish_tiny", "tiny_models"]  # fixtures that are used here

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

    def start(store: Path, *options: str, ready: bool = True) -> Server:
        log = tmp_path / f"server-{len(servers)}.log"
        command = [program, "serve", str(store), "--port", "0", "--admin-port", "0", "--grace-s", "0.5", "--json"]
        with log.open("w") as errors:
            process = subprocess.Popen(
                [*command, *options],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**environment, "OCTAVO_ADMIN_KEY": KEY},
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
    """Clients that keep their connections open and ask one thing after the other."""

    def __init__(self, server: Server, clients: int = 3) -> None:
        self.server = server
        self.answers: list[tuple[str, int, Any]] = []
        self.faults: list[BaseException] = []
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
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE_S)
        try:
            for text in itertools.cycle(TEXTS):
                if self._enough.is_set():
                    break
                status, answer, closes = self.server.ask(text, connection)
                self.answers.append((text, status, answer))
                # What a router does: a service that is not ready is asked nothing more.
                if closes and self.server.status_code("/ready") != 200:
                    break
        except BaseException as error:
            self.faults.append(error)
        finally:
            connection.close()


def expected_scores(store: Path) -> dict[str, dict[str, float]]:
    """What each version answers to each text, asked without a service."""
    scores = {}
    for version in ("1", "2"):
        with package.load(store / "tiny" / version, threads=1) as model:
            scores[version] = dict(zip(TEXTS, [one.confidence for one in model.predict(TEXTS)], strict=True))
    return scores


def test_swaps_under_load_lose_and_mix_nothing(serve, store):
    expected = expected_scores(store)
    corrupt = add_version(store, "2")
    flip_a_byte(store / "tiny" / corrupt / "model.onnx")
    server = serve(store)
    with Load(server) as load:
        for version in ("1", "2", corrupt, "1", "99", "2"):
            before = server.serving()
            status, answer = server.promote(version)
            if version in expected:
                assert (status, answer["old"], answer["new"]) == (200, before, version)
            else:
                assert (status, answer["error"]["kind"]) == (409, "ReleaseError")
                assert server.serving() == before
    assert load.faults == []
    assert {status for _, status, _ in load.answers} == {200}
    seen = Counter(answer["version"] for _, _, answer in load.answers)
    assert set(seen) == {"1", "2"}
    for text, _, answer in load.answers:
        assert answer["answers"][0]["confidence"] == pytest.approx(expected[answer["version"]][text], abs=2e-4)
    # The versions can be told apart at all.
    assert any(abs(expected["1"][text] - expected["2"][text]) > 1e-3 for text in TEXTS)
    assert (store / "tiny/current").readlink() == Path("2")
    assert server.admin("GET", "/metrics")[1].count('octavo_swaps_total{model="tiny",outcome="failed"} 2.0') == 1


def test_sigterm_under_load_loses_nothing(serve, store):
    server = serve(store)
    with Load(server) as load:
        until(lambda: len(load.answers) > 50)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.status_code("/ready") in (503, None))
        assert server.process.wait(PATIENCE_S) == 0
    assert load.faults == []
    assert {status for _, status, _ in load.answers} == {200}
    assert "stopped" in server.logged()


def test_a_second_signal_ends_it_now(serve, store):
    server = serve(store, "--grace-s", "1000")
    server.process.send_signal(signal.SIGTERM)
    until(lambda: server.status_code("/ready") == 503)
    assert server.ask()[0] == 200  # it still serves
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(PATIENCE_S) == 128 + signal.SIGINT


def test_a_store_is_followed_and_what_is_not_as_it_should_be_is_refused(serve, store, make_certificate):
    corrupt = add_version(store, "1")
    flip_a_byte(store / "tiny" / corrupt / "tokenizer.json")
    sha256 = next(e.sha256 for n, e in open_release(store / "tiny/1").manifest.files.items() if n == "model.onnx")
    failed = make_certificate(
        lost=500, model="tiny", engine_id="openvino-1.0/fp32", sha256=Hashes(sha256, "b" * 64, sha256)
    )
    uncertified = add_version(store, "1", certificate=certificate_json(failed))
    server = serve(store)
    for bad, words in ((corrupt, "tokenizer.json: altered"), (uncertified, "its certificate says 'fail'")):
        point_current(store, bad)
        until(lambda words=words: words in server.admin("GET", "/admin/status")[1]["failures"].get("tiny", ""))
        assert server.ask()[1]["version"] == "2"
        assert words in server.logged()
    point_current(store, "1")
    until(lambda: server.ask()[1]["version"] == "1")
    assert server.admin("GET", "/admin/status")[1]["failures"] == {}


def point_current(store: Path, version: str) -> None:
    (store / "tiny/next").symlink_to(version)
    (store / "tiny/next").rename(store / "tiny/current")


def test_a_store_that_is_deleted_serves_on(serve, store):
    server = serve(store)
    shutil.rmtree(store)
    until(lambda: "cannot be listed" in server.logged())
    assert server.ask()[0] == 200
    status, answer = server.promote("1")
    assert (status, answer["error"]["kind"]) == (409, "ReleaseError")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE_S) == 0


def test_after_a_kill_it_starts_again_and_nobody_speaks_to_the_dead(serve, store, octavo):
    server = serve(store)
    assert octavo("status", "--store", store, "--json").document["pid"] == server.process.pid
    server.process.kill()
    server.process.wait()
    ran = octavo("status", "--store", store)
    assert ran.code == 2
    assert "No service of yours runs here" in ran.err
    # Without a service, the store itself is changed, as safely.
    assert octavo("promote", "tiny", "1", "--store", store).code == 0
    assert serve(store).ask()[1]["version"] == "1"


def test_the_verbs_speak_to_the_running_service(serve, store, octavo):
    server = serve(store)
    here = ("--store", store)
    assert "1 serves in place of 2" in octavo("promote", "tiny", "1", *here).out
    assert "2 serves in place of 1" in octavo("rollback", "tiny", *here).out
    ran = octavo("promote", "tiny", "7", *here, "--json")
    assert (ran.code, ran.document["error"]["kind"]) == (2, "ReleaseError")
    assert "There are: 1, 2" in ran.document["error"]["message"]
    loose = ("--max-error-rate", 0.3, "--min-agreement", 0.4, "--max-drift", 0.6, "--max-p99-ratio", 1000)
    ran = octavo("canary", "tiny", "1", "--percent", 50, "--min-requests", 50, *loose, *here)
    assert "1 answers 50% of the requests; 2 serves on" in ran.out
    with Load(server) as load:
        until(lambda: server.serving() == "1")
    assert {status for _, status, _ in load.answers} == {200}
    shown = octavo("status", *here).out
    assert "canary of tiny 1 against 2 (50%): promoted" in shown
    assert "openvino" in shown
    (kept,) = (store / "tiny/.trials").glob("*.json")
    assert json.loads(kept.read_bytes())["outcome"] == "promoted"
    # A shadow is seen by nobody, until it is aborted.
    octavo("shadow", "tiny", "2", "--percent", 100, "--only-watch", *here)
    with Load(server) as load:
        until(lambda: server.admin("GET", "/admin/status")[1]["models"][0]["trial"]["requests"] > 5)
    assert {answer["version"] for _, _, answer in load.answers} == {"1"}
    assert "off trial" in octavo("abort", "tiny", *here).out


def test_requests_are_logged_and_the_log_is_rotated(serve, store, tmp_path):
    log = tmp_path / "access.jsonl"
    server = serve(store, "--access-log", str(log))
    server.ask()
    until(lambda: "/v1/classify" in log.read_text("utf-8"))
    line = next(one for one in map(json.loads, log.read_text("utf-8").splitlines()) if "version" in one)
    assert (line["status"], line["model"], line["version"], line["inputs"]) == (200, "tiny", "2", 1)
    log.rename(tmp_path / "rotated")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: server.ask() and log.exists())


def test_a_port_in_use_is_said_to_be(serve, store, octavo):
    server = serve(store)
    ran = octavo("serve", store, "--port", server.port)
    assert ran.code == 2
    assert f"Port {server.port} of 127.0.0.1 is in use" in ran.err
    ran = octavo("serve", store / "nowhere")
    assert ran.code == 2


def test_it_is_live_before_it_is_ready_and_ready_only_with_a_model(serve, store):
    flip_a_byte(store / "tiny/2/model.onnx")
    server = serve(store, ready=False)
    assert server.status_code("/health") == 200
    until(lambda: "not ready: no model serves" in server.logged())
    assert server.status_code("/ready") == 503
    assert server.ask()[0] in (404, 503)
    point_current(store, "1")
    until(lambda: server.status_code("/ready") == 200)


def exchange(server: Server, *pieces: bytes) -> bytes:
    """Send bytes as they are, and return what comes back until the connection closes or is silent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        answer = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
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


def test_hostile_clients_harm_nobody(serve, store):
    server = serve(store, "--key", "secret")
    hidden = {"content-type": "application/json"}

    def asked(key: str | None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        headers = hidden | ({} if key is None else {"authorization": f"Bearer {key}"})
        connection.request("POST", "/v1/classify", json.dumps({"input": "a"}), headers)
        status = connection.getresponse().status
        connection.close()
        return status

    assert [asked(key) for key in (None, "", "secre", "secrets", "secret")] == [401, 401, 401, 401, 200]
    assert server.admin("GET", "/admin/status", key="secret")[0] == 401

    # Connections that never finish their headers, while others are answered.
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    for connection in slow:
        connection.sendall(b"POST /v1/classify HTTP/1.1\r\nx-a: ")
    assert asked("secret") == 200

    before = resident_bytes(server.process)
    key = "authorization: Bearer secret"
    assert b" 413 " in exchange(server, head(200 << 20, key), b"x" * 65536).split(b"\r\n")[0]
    chunked = b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    chunked += key.encode() + b"\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    assert b" 200 " not in exchange(server, chunked, *[chunk] * 200)
    assert b" 200 " not in exchange(server, chunked, b"zz\r\njunk\r\n")
    endless = exchange(server, b"GET /health HTTP/1.1\r\n", *[b"x-a: " + b"y" * 8192 + b"\r\n"] * 2000)
    assert b" 200 " not in endless
    assert resident_bytes(server.process) - before < 100 << 20
    for body in (b'{"input": "\xff\xfe"}', b'{"input": "\xed\xa0\x80"}', b"\xff"):
        assert b" 400 " in exchange(server, head(len(body), key) + body).split(b"\r\n")[0]
    for connection in slow:
        connection.close()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: asked("secret"), range(100))) == {200}
