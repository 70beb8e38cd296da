"""`octavo serve` as a process of its own: swaps and signals under load; what hostile clients and stores do to it."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import octavo as package
from octavo.certify.certificate import Hashes, certificate_json
from octavo.store.release import open_release
from tests.e2e.serving import (
    PATIENCE_S,
    Load,
    add_version,
    exchange,
    flip_a_byte,
    head,
    point_current,
    resident_bytes,
    serve,
    store,
    until,
)
from tests.unit.conftest import TEXTS, make_certificate, publish_tiny, tiny_models

__all__ = ["make_certificate", "publish_tiny", "serve", "store", "tiny_models"]  # fixtures that are used here


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
    with Load(server.asked) as load:
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
    with Load(server.asked) as load:
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
    with Load(server.asked) as load:
        until(lambda: server.serving() == "1")
    assert {status for _, status, _ in load.answers} == {200}
    shown = octavo("status", *here).out
    assert "canary of tiny 1 against 2 (50%): promoted" in shown
    assert "openvino" in shown
    (kept,) = (store / "tiny/.trials").glob("*.json")
    assert json.loads(kept.read_bytes())["outcome"] == "promoted"
    # A shadow is seen by nobody, until it is aborted.
    octavo("shadow", "tiny", "2", "--percent", 100, "--only-watch", *here)
    with Load(server.asked) as load:
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
    until(lambda: "SIGHUP: reads the store again" in server.logged())


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
