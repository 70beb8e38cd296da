import os
import signal
import stat
import subprocess
import sys

import msgspec
import pytest

from octavo.serve.running import Running, announced, running_services


@pytest.fixture(autouse=True)
def _own_cache(own_cache):
    pass


def _running(store, pid=None, started="2026-01-02T03:04:05Z"):
    return Running(pid or os.getpid(), str(store), "127.0.0.1", 8000, "127.0.0.1", 8001, "secret", started)


_HOLDER = """
import sys, time
from octavo.serve.running import Running, announced
import os
with announced(Running(os.getpid(), sys.argv[1], "127.0.0.1", 8000, "127.0.0.1", 8001, "secret", "2026")) as file:
    print(file, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_process(tmp_path):
    """A process that announces a service for the store."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path / "store")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_a_service_is_found_while_it_runs(tmp_path, other_process):
    (found,) = running_services(tmp_path / "store")
    assert found.pid == other_process.pid
    assert found.admin_key == "secret"
    assert running_services() == [found]
    assert running_services(tmp_path / "store/../store") == [found]
    assert running_services(tmp_path / "other") == []
    other_process.communicate()
    assert running_services() == []


def test_what_a_killed_service_left_is_removed(tmp_path, other_process, own_cache):
    other_process.send_signal(signal.SIGKILL)
    other_process.wait()
    assert len(list((own_cache / "servers").iterdir())) == 1
    assert running_services(tmp_path / "store") == []
    assert list((own_cache / "servers").iterdir()) == []


def test_another_process_with_the_same_id_is_not_the_service(tmp_path, own_cache):
    with announced(_running(tmp_path)) as file:
        copy = file.read_bytes()
    file.write_bytes(copy)  # nobody holds the lock, and there is a process of this id
    assert running_services(tmp_path) == []


def test_only_its_user_reads_the_key(tmp_path):
    with announced(_running(tmp_path)) as file:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert msgspec.json.decode(file.read_bytes())["admin_key"] == "secret"
    assert not file.exists()


def test_a_damaged_file_is_no_service(tmp_path):
    with announced(_running(tmp_path)) as file:
        file.write_bytes(b'{"pid"')
        assert running_services() == []


def test_without_a_place_to_write_it_goes_on(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path / "cache"))
    with announced(_running(tmp_path)) as file:
        assert file is None
    assert running_services() == []
