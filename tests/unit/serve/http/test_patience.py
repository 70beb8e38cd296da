import asyncio
import socket
import time

import httpx
import pytest

from octavo.serve.http import patience
from octavo.serve.http.body import ClientGone
from octavo.serve.http.patience import while_awaited
from octavo.serve.refusals import DeadlineExceeded


class Connection:
    """A connection over which nothing comes, until it is closed."""

    def __init__(self):
        self.is_closed = asyncio.Event()
        self.watched = 0

    async def receive(self):
        self.watched += 1
        await self.is_closed.wait()
        return {"type": "http.disconnect"}


async def work(seconds, ended):
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise
    ended.append("done")
    return "answer"


def test_an_answer_that_comes_at_once_costs_no_watching():
    async def scenario():
        connection, ended = Connection(), []
        assert await while_awaited(work(0, ended), connection.receive, None) == "answer"
        await asyncio.sleep(0.03)
        assert (connection.watched, ended) == (0, ["done"])

    asyncio.run(scenario())


def test_work_for_a_client_that_has_left_is_cancelled():
    async def scenario():
        connection, ended = Connection(), []
        asyncio.get_running_loop().call_later(0.03, connection.is_closed.set)
        with pytest.raises(ClientGone):
            await while_awaited(work(60, ended), connection.receive, None)
        assert ended == ["cancelled"]
        assert asyncio.current_task().cancelling() == 0

    asyncio.run(scenario())


def test_work_past_its_deadline_is_cancelled():
    async def scenario():
        connection, ended = Connection(), []
        with pytest.raises(DeadlineExceeded):
            await while_awaited(work(60, ended), connection.receive, time.monotonic() + 0.02)
        assert ended == ["cancelled"]
        with pytest.raises(DeadlineExceeded):
            await while_awaited(work(60, ended), connection.receive, time.monotonic() - 5)

    asyncio.run(scenario())


def test_slow_work_for_a_client_that_waits_is_done():
    async def scenario():
        connection, ended = Connection(), []
        assert await while_awaited(work(0.05, ended), connection.receive, time.monotonic() + 60) == "answer"
        looked = connection.watched
        assert looked >= 1
        await asyncio.sleep(0.1)
        assert connection.watched == looked, "the watch goes on"
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())


def test_who_cancels_the_request_from_outside_cancels_it():
    async def scenario():
        connection, ended = Connection(), []
        task = asyncio.create_task(while_awaited(work(60, ended), connection.receive, None))
        await asyncio.sleep(0.03)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["cancelled"]

    asyncio.run(scenario())


def test_a_client_that_closes_its_connection_ends_the_asking(url, service):
    service.delay_s = 60
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port)) as connection:
        connection.sendall(b'POST /v1/classify HTTP/1.1\r\nHost: octavo\r\nContent-Length: 14\r\n\r\n{"input": "a"}')
        _until(lambda: service.asked)
    _until(lambda: service.left == 1)


def test_a_deadline_is_kept_although_the_service_does_not(serve, service, listener):
    service.delay_s = 60
    with serve() as url:
        answer = httpx.post(f"{url}/v1/classify", json={"input": "a"}, headers={"X-Request-Timeout-Ms": "20"})
    assert listener.reasons == [("intent", "deadline")]
    assert (answer.status_code, answer.json()["error"]["reason"]) == (504, "deadline")
    assert service.left == 1


def _until(condition):
    """Wait until a condition holds; a test's own timeout ends what never does."""
    while not condition():
        time.sleep(patience._WATCH_AFTER_S)
