"""A service in a process of its own, and what goes wrong around it: full disks, kills, copies, junk, many versions."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from octavo.errors import ReleaseError
from octavo.store.release import open_release
from tests.e2e.serving import (
    KEY,
    Load,
    Server,
    add_version,
    exchange,
    head,
    point_current,
    resident_bytes,
    serve,
    store,
    until,
)
from tests.unit.conftest import make_certificate, publish_tiny, tiny_models

__all__ = ["make_certificate", "publish_tiny", "serve", "store", "tiny_models"]  # fixtures that are used here

VERSIONS = 300


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB and 100 files."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-o", "size=16m,nr_inodes=100"]
    if subprocess.run(["mount", "-t", "tmpfs", *options, "none", disk], capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> list[Path]:
    """Write until there is no room for a byte or a file."""
    files: list[Path] = []
    with contextlib.suppress(OSError), (disk / "fill").open("wb", buffering=0) as large:
        files.append(disk / "fill")
        while large.write(b"x" * 65536):
            pass
    with contextlib.suppress(OSError):
        while True:
            files.append(disk / f"fill-{len(files)}")
            files[-1].touch()
    return files


def test_on_a_full_disk_it_serves_on_and_a_swap_says_why_it_cannot_be(serve, store, small_disk):
    """Store, cache and access log are on it."""
    shutil.copytree(store, small_disk / "store", symlinks=True)
    log, cache = small_disk / "access.jsonl", small_disk / "cache"
    log.touch()
    filling = fill(small_disk)
    server = serve(small_disk / "store", "--access-log", str(log), OCTAVO_CACHE=str(cache))
    with Load(server.asked) as load:
        until(lambda: len(load.answers) > 50)
        for _ in range(2):
            status, answer = server.promote("1")
            assert (status, answer["error"]["kind"]) == (409, "ReleaseError")
            assert "cannot point to 1 (No space left on device)" in answer["error"]["message"]
    assert load.faults == []
    assert {(status, answer["version"]) for _, status, answer in load.answers} == {(200, "2")}
    model = small_disk / "store/tiny"
    assert sorted(one.name for one in model.iterdir()) == ["1", "2", "current"]
    assert (model / "current").readlink() == Path("2")
    assert log.stat().st_size == 0
    assert not cache.exists() or list(cache.iterdir()) == []
    until(lambda: "access log" in server.logged())

    for file in filling:
        file.unlink(missing_ok=True)
    assert server.promote("1")[0] == 200
    until(lambda: server.ask()[1]["version"] == "1" and log.stat().st_size)
    assert all("time" in json.loads(line) for line in log.read_text("utf-8").splitlines())


@pytest.mark.parametrize("kills", [4])
def test_whatever_a_kill_interrupts_the_next_one_serves_at_the_same_address(serve, store, kills):
    port = "0"
    for kill in range(kills):
        server = serve(store, "--port", port)
        port = str(server.port)
        assert server.ask()[1]["version"] == (store / "tiny/current").readlink().name

        def swap(server: Server = server) -> None:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                while True:
                    server.promote("1")
                    server.promote("2")

        swapping = threading.Thread(target=swap)
        swapping.start()
        time.sleep(0.05 + 0.11 * kill)  # anywhere in a swap
        server.process.kill()
        server.process.wait()
        swapping.join()
        assert (store / "tiny/current").readlink().name in ("1", "2")
        for version in ("1", "2"):
            open_release(store / "tiny" / version)
    server = serve(store, "--port", port)
    assert server.promote("1")[0] == 200
    # What a dead process may have left behind went with the next swap.
    assert sorted(one.name for one in (store / "tiny").iterdir()) == ["1", "2", "current"]


def test_a_release_that_is_being_copied_is_refused_until_it_is_whole(serve, store, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(store, elsewhere, symlinks=True)
    version = add_version(elsewhere, "2")
    source, target = elsewhere / "tiny" / version, store / "tiny" / version
    server = serve(store)
    files = sorted((one for one in source.rglob("*") if one.is_file()), key=lambda one: one.name != "manifest.json")
    with Load(server.asked) as load:
        for number, file in enumerate(files):
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            content = file.read_bytes()
            copy.write_bytes(content[: len(content) // 2])
            if number % 3 == 0:
                assert server.promote(version)[0] == 409
            copy.write_bytes(content)
            if number == len(files) // 2:
                point_current(store, version)  # too early
                until(lambda: "tiny" in server.admin("GET", "/admin/status")[1]["failures"])
        assert server.promote(version)[0] == 200
        until(lambda: load.answers[-1][2]["version"] == version)
    assert load.faults == []
    assert {status for _, status, _ in load.answers} == {200}
    assert {answer["version"] for _, _, answer in load.answers} == {"2", version}
    assert server.admin("GET", "/admin/status")[1]["failures"] == {}


CHUNKED = b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"
WHOLE = b'{"input": "a"}'


@pytest.fixture
def server(serve, store):
    return serve(store)


def test_chunks_that_are_none_get_no_answer_and_harm_nobody(server):
    before = resident_bytes(server.process)
    for junk in (
        b"-1\r\n" + WHOLE,
        b"0x0e\r\n" + WHOLE + b"\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\n" + WHOLE,
        b"7fffffffffffffff\r\n" + WHOLE * 1000,
        b"\r\n\r\n",
        b"e" * 100_000,
        b"3\r\n" + WHOLE + b"\r\n0\r\n\r\n",
        b"e\r\n" + WHOLE + b"0\r\n\r\n",
        b"e\r\n" + WHOLE + b"\r\n0\r\nno trailer at all\r\n\r\n",
        b"\xff\r\n" + WHOLE,
    ):
        with contextlib.suppress(TimeoutError):
            assert b" 200 " not in exchange(server, CHUNKED + b"\r\n", junk, silent_s=1), junk[:40]
        assert server.ask()[0] == 200
    # Two lengths: whoever stands in front may have believed the other one.
    both = (
        CHUNKED + b"content-length: 3\r\n\r\ne\r\n" + WHOLE + b"\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
    )
    assert b"/smuggled" not in exchange(server, both, silent_s=1)
    endless = exchange(server, CHUNKED + b"\r\n", *[b"1\r\n \r\n" * 4096] * 2200, silent_s=1)
    assert b" 413 " in endless.split(b"\r\n")[0]
    trailers = exchange(server, CHUNKED + b"\r\ne\r\n" + WHOLE + b"\r\n0\r\n", *[b"x: " + b"y" * 8192 + b"\r\n"] * 4000)
    assert b" 200 " not in trailers
    assert server.ask()[0] == 200
    assert resident_bytes(server.process) - before < 64 << 20


def test_bytes_that_are_no_text_are_refused_wherever_they_are(server):
    def first_line(request: bytes, port: int = 0) -> bytes:
        return exchange(server, request, port=port, silent_s=5).split(b"\r\n")[0]

    plain = b"host: x\r\n\r\n"
    for path in (
        b"/%ff",
        b"/v2/models/%ff%fe",
        b"/v2/models/tiny/versions/%ff",
        b"/v1/models/%c0%af",
        b"/info?model=%ff",
    ):
        assert first_line(b"GET " + path + b" HTTP/1.1\r\n" + plain).split()[1] in (b"400", b"404"), path
    assert first_line(b"GET /\xff\xfe HTTP/1.1\r\n" + plain).split()[1] in (b"400", b"404")
    for name in (b"x-request-id", b"traceparent", b"authorization", b"x-unknown"):
        request = head(len(WHOLE)).replace(b"\r\n\r\n", b"\r\n" + name + b": \xff\xfe\x80\r\n\r\n") + WHOLE
        assert b" 200 " in first_line(request), name
    late = head(len(WHOLE)).replace(b"\r\n\r\n", b"\r\nx-request-timeout-ms: \xff\r\n\r\n") + WHOLE
    assert b" 400 " in first_line(late)
    for body in (b"\xff", b'{"input": "\xc3"}', b'{"input": "a", "model": "\xff"}', b'{"\xff": 1}'):
        assert b" 400 " in first_line(head(len(body)) + body), body
    promote = b'{"version": "\xff"}'
    request = f"POST /admin/models/tiny/promote HTTP/1.1\r\nhost: x\r\ncontent-length: {len(promote)}\r\n"
    known = request.encode() + b"authorization: Bearer " + KEY.encode() + b"\r\n\r\n" + promote
    assert b" 400 " in first_line(known, server.admin_port)
    unknown = request.encode() + b"authorization: Bearer \xff\xfe\r\n\r\n" + promote
    assert b" 401 " in first_line(unknown, server.admin_port)
    assert server.ask()[0] == 200


def test_hundreds_of_versions_cost_no_memory_but_those_that_serve(serve, store, octavo):
    few = serve(store)
    few.ask()
    alone = resident_bytes(few.process)
    few.process.kill()
    few.process.wait()
    while add_version(store, "2") != str(VERSIONS):
        pass
    server = serve(store)
    server.ask()
    assert resident_bytes(server.process) - alone < 16 << 20
    here = ("--store", store)
    assert f"{VERSIONS} serves in place of 2" in octavo("promote", "tiny", str(VERSIONS), *here).out
    assert f"2 serves in place of {VERSIONS}" in octavo("rollback", "tiny", *here).out
    status = octavo("status", *here, "--json").document
    assert [one["version"] for one in status["models"]] == ["2"]
    assert server.ask()[1]["version"] == "2"
    with pytest.raises(ReleaseError, match=f"no version {VERSIONS + 1}"):
        raise_for(server.promote(str(VERSIONS + 1)))
    listed = octavo("releases", store, "--json").document
    assert str(listed).count("'version'") == VERSIONS
    assert resident_bytes(server.process) - alone < 32 << 20


def raise_for(answered: tuple[int, dict]) -> None:
    raise ReleaseError(answered[1]["error"]["message"])
