"""Open-loop load over HTTP, from a process of its own: requests leave when they are due, whatever became of the others.

Latency counts from the time a request was due, so that a server that stalls cannot hide the requests that it kept from
being sent (coordinated omission).
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from httptools import HttpResponseParser

_MOST_CONNECTIONS = 512
_GIVE_UP_S = 30.0  # after the last request was due


@dataclass(frozen=True, slots=True)
class Load:
    """What to send.

    Attributes:
        host: of the server.
        port: of the server.
        path: of the endpoint.
        bodies: JSON bodies, one drawn for each request.
        rate_rps: requests per second, Poisson; 0 for closed loop: `workers` connections that never wait.
        seconds: for how long.
        seed: of arrivals and bodies.
        workers: connections of a closed loop.
        keep_bodies: whether answers are kept whole.
        comes_back: whether who is refused (429) asks once more at the time that it was told.
        p99_ms: an open loop ends as soon as its p99 cannot be this any more, so that no server is buried under
            requests that say nothing new; 0 for never.
    """

    host: str
    port: int
    path: str
    bodies: Sequence[str]
    rate_rps: float
    seconds: float
    seed: int = 0
    workers: int = 64
    keep_bodies: bool = False
    comes_back: bool = False
    p99_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Answered:
    """One request and what came of it.

    Attributes:
        due_s: when it was to be sent, since the start.
        latency_s: from then to the last byte of the answer.
        status: of HTTP; 0 where the connection broke or nothing came.
        body: number of the body that was sent.
        version: of the release that answered, by its header.
        retry_after_s: as a refusal says; 0 without one.
        answer: the body, where it was to be kept.
        is_return: whether it had been refused once, and came back at the time that it was told.
    """

    due_s: float
    latency_s: float
    status: int
    body: int
    version: str = ""
    retry_after_s: float = 0.0
    answer: str = ""
    is_return: bool = False


class _Connection(asyncio.Protocol):
    """One connection with at most one request on its way."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[tuple[int, dict[str, str], bytes]] | None = None
        self.parser = HttpResponseParser(self)
        self.headers: dict[str, str] = {}
        self.parts: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.answer is not None and not self.answer.done():
            self.answer.set_result((0, {}, b""))

    # Called by the parser.

    def on_message_begin(self) -> None:
        self.headers, self.parts = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.parts.append(body)

    def on_message_complete(self) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result((self.parser.get_status_code(), self.headers, b"".join(self.parts)))
        if not self.parser.should_keep_alive() and self.transport is not None:
            self.transport.close()

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.transport is None:
            return 0, {}, b""
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answer


class _Sender:
    """Sends requests over as many connections as are busy at once."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.idle: deque[_Connection] = deque()
        self.open = 0
        self.requests = [_request(load, body) for body in load.bodies]
        self.answered: list[Answered] = []

    async def send(self, due_s: float, started_s: float, body: int, is_return: bool = False) -> None:
        status, content = 0, b""
        headers: dict[str, str] = {}
        for _ in range(2):  # an idle connection may have been closed by the server just now: try once more
            connection = await self._connection()
            if connection is None:
                break
            status, headers, content = await connection.ask(self.requests[body])
            if connection.transport is not None:
                self.idle.append(connection)
            else:
                self.open -= 1
            if status:
                break
        answered = Answered(
            due_s,
            time.perf_counter() - started_s - due_s,
            status,
            body,
            headers.get("x-octavo-version", ""),
            float(headers.get("x-retry-after-ms", 0)) / 1e3 or float(headers.get("retry-after", 0)),
            content.decode("utf-8", "replace") if self.load.keep_bodies else "",
            is_return,
        )
        self.answered.append(answered)
        if self.load.comes_back and status == 429 and not is_return:
            await asyncio.sleep(answered.retry_after_s)
            await self.send(time.perf_counter() - started_s, started_s, body, is_return=True)

    async def _connection(self) -> _Connection | None:
        while self.idle:
            connection = self.idle.pop()
            if connection.transport is not None:
                return connection
            self.open -= 1
        if self.open >= _MOST_CONNECTIONS:
            await asyncio.sleep(0.001)
            return await self._connection()
        self.open += 1
        try:
            _, protocol = await asyncio.get_running_loop().create_connection(
                _Connection, self.load.host, self.load.port
            )
        except OSError:
            self.open -= 1
            return None
        return protocol


def _request(load: Load, body: str) -> bytes:
    content = body.encode()
    head = (
        f"POST {load.path} HTTP/1.1\r\nHost: {load.host}:{load.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def _open_loop(load: Load) -> list[Answered]:
    rng, sender = random.Random(load.seed), _Sender(load)
    due = _arrivals_s(load, rng)
    patience = _Patience(load, len(due))
    started_s = time.perf_counter()
    tasks: set[asyncio.Task[None]] = set()
    for due_s in due:
        if (wait_s := started_s + due_s - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        if patience.is_over.is_set():
            break
        task = asyncio.create_task(sender.send(due_s, started_s, rng.randrange(len(load.bodies))))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        patience.expect(task, started_s + due_s - time.perf_counter())
    if tasks:
        over = asyncio.create_task(patience.is_over.wait())
        everything = asyncio.create_task(asyncio.wait(tasks, timeout=_GIVE_UP_S))
        await asyncio.wait((over, everything), return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        everything.cancel()
    lost = len(tasks)
    for task in tasks:
        task.cancel()
    return sender.answered + [Answered(load.seconds, math.inf, 0, 0)] * lost


def _arrivals_s(load: Load, rng: random.Random) -> list[float]:
    """Return when requests are due: a Poisson process."""
    due: list[float] = []
    due_s = 0.0
    while (due_s := due_s + rng.expovariate(load.rate_rps)) < load.seconds:
        due.append(due_s)
    return due


class _Patience:
    """Counts the requests that are late; `is_over` is set when they are more than a p99 leaves room for."""

    def __init__(self, load: Load, requests: int) -> None:
        self.is_over = asyncio.Event()
        self._bound_s = load.p99_ms / 1e3
        self._room = requests - math.ceil(0.99 * requests)

    def expect(self, task: asyncio.Task[None], due_in_s: float) -> None:
        """Count a request that was due at a time, unless it is done within the bound."""
        if self._bound_s:
            late = asyncio.get_running_loop().call_later(due_in_s + self._bound_s, self._count)
            task.add_done_callback(lambda _: late.cancel())

    def _count(self) -> None:
        self._room -= 1
        if self._room < 0:
            self.is_over.set()


async def _closed_loop(load: Load) -> list[Answered]:
    rng, sender = random.Random(load.seed), _Sender(load)
    started_s = time.perf_counter()

    async def work() -> None:
        while (now_s := time.perf_counter() - started_s) < load.seconds:
            await sender.send(now_s, started_s, rng.randrange(len(load.bodies)))

    with suppress(TimeoutError):
        async with asyncio.timeout(load.seconds + _GIVE_UP_S):
            await asyncio.gather(*(work() for _ in range(load.workers)))
    return sender.answered


class Sending:
    """A load that another process sends. Wait for `result`."""

    def __init__(self, load: Load) -> None:
        command = [sys.executable, "-m", "bench.service.load"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(load)))
        self._process.stdin.close()
        self._process.stdin = None

    @property
    def is_done(self) -> bool:
        return self._process.poll() is not None

    def result(self) -> list[Answered]:
        written, _ = self._process.communicate()
        return [Answered(*fields) for fields in json.loads(written)]


def percentile_ms(answered: Sequence[Answered], share: float) -> float:
    """Return a percentile of the latencies in milliseconds, by the nearest rank."""
    ordered = sorted(one.latency_s for one in answered)
    return 1e3 * ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def main() -> None:
    import uvloop

    load = Load(**json.loads(sys.stdin.read()))
    answered = uvloop.run(_open_loop(load) if load.rate_rps else _closed_loop(load))
    json.dump([list(asdict(one).values()) for one in answered], sys.stdout)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
