"""What can be seen of the process from within; the rest is in tests/e2e/test_serving.py."""

import asyncio
import subprocess
import sys
import threading

import pytest

from octavo.errors import InputError, ReleaseError
from octavo.serve import process
from octavo.serve.assembly import assemble
from octavo.serve.listening import listen
from octavo.serve.process import run
from octavo.serve.settings import ServeSettings


def test_serving_imports_no_torch():
    code = "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None; import octavo.serve.process"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_missing_store_takes_no_port(tmp_path):
    with pytest.raises(ReleaseError, match="nowhere"):
        run(ServeSettings(tmp_path / "nowhere", port=0, admin_port=0))


def test_a_model_is_no_store(tmp_path):
    (tmp_path / "intents" / "1").mkdir(parents=True)
    with pytest.raises(ReleaseError, match=f"is one model. Name the store that it is in: {tmp_path}"):
        run(ServeSettings(tmp_path / "intents", port=0, admin_port=0))


@pytest.mark.parametrize(
    ("name", "option"), [("port", "--port"), ("admin_port", "--admin-port"), ("grpc_port", "--grpc")]
)
def test_each_port_in_use_is_named(tmp_path, name, option):
    with listen("127.0.0.1", 0, "") as taken:
        ports = {"port": 0, "admin_port": 0} | {name: taken.getsockname()[1]}
        with pytest.raises(InputError, match=f"in use.*{option}"):
            run(ServeSettings(tmp_path, **ports))


def test_an_access_log_that_cannot_be_written_is_said_before_anything_serves(tmp_path):
    with pytest.raises(InputError, match="access log"):
        run(ServeSettings(tmp_path, port=0, admin_port=0), access_log=str(tmp_path))


def test_work_in_a_thread_returns_and_raises_here():
    async def whole():
        names = await process._in_thread(lambda: threading.current_thread().name)
        with pytest.raises(ZeroDivisionError):
            await process._in_thread(lambda: 1 / 0)
        return names

    assert asyncio.run(whole()) == "octavo-store"


def test_work_that_nobody_waits_for_ends_quietly():
    done = threading.Event()

    async def whole():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process._in_thread(lambda: done.wait(10)), 0.01)

    asyncio.run(whole())
    done.set()
    for thread in threading.enumerate():
        if thread.name == "octavo-store":
            thread.join()


def test_at_the_end_what_another_room_loaded_is_let_go_of_too(tmp_path):
    class Room:
        closed = False

        async def close(self):
            self.closed = True

    async def end():
        await process._Process(assemble(ServeSettings(tmp_path)), room)._unload()

    room = Room()
    asyncio.run(end())
    assert room.closed
