import asyncio
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from octavo.errors import InputError
from octavo.serve import access_log
from octavo.serve.access_log import AccessLog

SCOPE = {"type": "http", "method": "POST", "path": "/v1/classify", "headers": [], "client": ("10.0.0.7", 4711)}


def _ask(log, listening, scope=SCOPE, status=200):
    """Let an app answer one request; `listening` is told to the log as the service does it."""

    async def app(scope, receive, send):
        listening(log)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def send(message):
        pass

    asyncio.run(log.wrap(app)(scope, None, send))


def _lines(file):
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "access.jsonl"


def test_an_answer_is_one_line(file, make_reply):
    log = AccessLog(file)
    headers = [(b"accept", b"*/*"), (b"x-request-id", b"r-1")]
    _ask(log, lambda log: log.answered(make_reply("3", inputs=2, cached=1), 0.006), SCOPE | {"headers": headers})
    log.close()
    (line,) = _lines(file)
    assert line.pop("time").endswith("+00:00")
    assert line.pop("total_ms") >= 0
    assert line == {
        "client": "10.0.0.7",
        "request_id": "r-1",
        "method": "POST",
        "path": "/v1/classify",
        "status": 200,
        "model": "intents",
        "version": "3",
        "inputs": 2,
        "tokens": 14,
        "cached": 1,
        "queue_ms": 1.0,
        "tokenize_ms": 0.1,
        "compute_ms": 4.0,
    }


def test_a_refusal_says_why_and_names_no_version(file):
    log = AccessLog(file)
    _ask(log, lambda log: log.refused("intents", "overloaded"), status=429)
    _ask(log, lambda log: None, SCOPE | {"path": "/nowhere", "client": None}, status=404)
    log.close()
    refused, nowhere = _lines(file)
    assert (refused["status"], refused["reason"], refused["model"]) == (429, "overloaded", "intents")
    assert "version" not in refused
    assert (nowhere["status"], nowhere["path"]) == (404, "/nowhere")


def test_an_app_that_fails_has_a_line_too(file):
    log = AccessLog(file)

    def fail(_log):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        _ask(log, fail)
    log.close()
    (line,) = _lines(file)
    assert "status" not in line


def test_requests_outside_http_have_lines(file, make_reply):
    log = AccessLog(file)
    log.answered(make_reply(), 0.006)
    log.refused("", "unknown_model")
    log.close()
    answered, refused = _lines(file)
    assert (answered["version"], answered["total_ms"]) == ("1", 6.0)
    assert refused["reason"] == "unknown_model"
    assert "model" not in refused


def test_lines_of_many_threads_are_whole(file, make_reply):
    log = AccessLog(file)
    reply = make_reply()
    threads = [threading.Thread(target=lambda: [log.answered(reply, 0.001) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert len(_lines(file)) == 2000
    assert log.lost == 0


def test_lines_are_appended_and_the_file_is_opened_anew_after_a_rotation(file, make_reply, tmp_path):
    file.write_text('{"earlier": true}\n', "utf-8")
    log = AccessLog(file)
    log.answered(make_reply("1"), 0.001)
    while b'"version"' not in file.read_bytes():
        pass
    file.rename(tmp_path / "rotated")
    log.reopen()
    log.answered(make_reply("2"), 0.001)
    log.close()
    assert [line.get("version") for line in _lines(tmp_path / "rotated")] == [None, "1"]
    assert [line["version"] for line in _lines(file)] == ["2"]


def test_a_log_that_cannot_be_written_loses_lines_and_nothing_else(file, make_reply):
    log = AccessLog(file)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log._file)
    os.close(full)
    _ask(log, lambda log: log.answered(make_reply(), 0.001))
    log.close()
    assert log.lost == 1


def test_lines_that_come_too_fast_are_counted_and_not_kept(file, make_reply, monkeypatch):
    monkeypatch.setattr(access_log, "_MOST_WAITING", 0)
    log = AccessLog(file)
    log.answered(make_reply(), 0.001)
    log.close()
    assert log.lost == 1
    assert _lines(file) == []


def test_a_folder_is_no_log(tmp_path):
    with pytest.raises(InputError, match="access log cannot be written"):
        AccessLog(tmp_path)


def test_stdout_is_a_log_too():
    code = "log = AccessLog('-'); log.refused('m', 'overloaded'); log.close()"
    code = f"from octavo.serve.access_log import AccessLog; {code}"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert json.loads(ran.stdout)["reason"] == "overloaded"


def test_a_path_cannot_forge_a_line(file):
    log = AccessLog(file)
    _ask(log, lambda log: None, SCOPE | {"path": '/x"}\n{"status": 200}'}, status=404)
    log.close()
    (line,) = _lines(file)
    assert line["path"] == '/x"}\n{"status": 200}'


def test_a_disk_that_is_full_for_a_while_leaves_whole_lines_and_is_told_of_once(file, make_reply, monkeypatch, caplog):
    write, room = os.write, [10]

    def scarce(descriptor, content):
        if room[0] == 0:
            raise OSError(28, "No space left on device")
        written = write(descriptor, content[: room[0]])
        room[0] = max(0, room[0] - written)
        return written

    log = AccessLog(file)
    with monkeypatch.context() as patch:
        patch.setattr(access_log.os, "write", scarce)
        for lost in (1, 2):
            log.answered(make_reply(), 0.001)
            _until(lambda lost=lost: log.lost == lost)
    log.answered(make_reply("4"), 0.001)
    log.close()
    torn, line = file.read_text("utf-8").splitlines()
    assert len(torn) == 10
    assert json.loads(line)["version"] == "4"
    told = [record.message for record in caplog.records]
    assert told == [
        f"the access log {file} cannot be written: No space left on device",
        f"the access log {file} is written again; 2 lines are lost",
    ]


def _until(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it never came")
