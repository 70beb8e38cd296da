"""One JSON line for each request: who asked which model, how it ended, and where its time went.

Requests only leave a note in a queue; a thread of its own writes. So a slow or full disk costs lines, which are
counted, and never an answer. Knows nothing of what was asked: texts are not logged.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo.errors import InputError
from octavo.serve.service import Listener, Reply

STDOUT = "-"
_log = logging.getLogger(__name__)
_MOST_WAITING = 100_000  # lines, some 30 MB
_LINES_AT_ONCE = 1000
_LONGEST_ID = 128
_DURATIONS = ("total_ms", "queue_ms", "tokenize_ms", "compute_ms")


class Record(msgspec.Struct, omit_defaults=True):
    """One request. What is not known stays None and is not written: a request that was refused has no version."""

    time: float | str  # of the clock until it is written, then ISO 8601, UTC
    client: str | None = None
    request_id: str | None = None
    method: str | None = None
    path: str | None = None
    status: int | None = None
    reason: str | None = None
    model: str | None = None
    version: str | None = None
    inputs: int | None = None
    tokens: int | None = None
    cached: int | None = None
    total_ms: float | None = None
    queue_ms: float | None = None
    tokenize_ms: float | None = None
    compute_ms: float | None = None


_current: ContextVar[Record | None] = ContextVar("octavo_access_record", default=None)


class AccessLog(Listener):
    """Writes JSON lines, and wraps an ASGI app to do so; close it to write what is left.

    Attributes:
        lost: lines that could not be written, or that came faster than they could be.
    """

    def __init__(self, target: Path | str, clock: Callable[[], float] = time.time) -> None:
        """Append to a file, or write to stdout for `-`.

        Raises:
            InputError: the file cannot be written.
        """
        self.lost = 0
        self._target = target
        self._clock = clock
        self._queue: SimpleQueue[Record | None] = SimpleQueue()
        self._reopen = threading.Event()
        # Of the thread that writes.
        self._is_losing = False
        self._is_torn = False  # the file ends in the middle of a line
        self._file = self._opened()
        self._thread = threading.Thread(target=self._write_all, name="octavo-access-log", daemon=True)
        self._thread.start()

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return the app with a line for every HTTP request, also for those that never reach a model."""

        async def logged(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            record, started = _record_from_scope(scope, self._clock()), time.perf_counter()
            token = _current.set(record)

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    record.status = message["status"]
                await send(message)

            try:
                await app(scope, receive, noting)
            finally:
                _current.reset(token)
                record.total_ms = 1000 * (time.perf_counter() - started)
                self._put(record)

        return logged

    def answered(self, reply: Reply, seconds: float) -> None:
        """Note who answered; outside HTTP, that is the line."""
        record = _current.get() or Record(self._clock() - seconds, total_ms=1000 * seconds)
        record.model, record.version = reply.model, reply.version
        record.inputs, record.tokens, record.cached = len(reply.outputs), reply.tokens, reply.cached
        timing = reply.timing
        record.queue_ms, record.tokenize_ms = timing.queue_ms, timing.tokenize_ms
        record.compute_ms = timing.compute_ms
        if _current.get() is None:
            self._put(record)

    def refused(self, model: str, reason: str) -> None:
        """Note why there is no answer; outside HTTP, that is the line."""
        record = _current.get() or Record(self._clock())
        record.model, record.reason = model or None, reason
        if _current.get() is None:
            self._put(record)

    def reopen(self) -> None:
        """Open the file anew before the next line, as after `logrotate` moved it."""
        self._reopen.set()

    def close(self) -> None:
        """Write what is left, for up to 5 seconds, and end."""
        self._queue.put(None)
        self._thread.join(timeout=5)
        if self._target != STDOUT and not self._thread.is_alive():
            os.close(self._file)

    def _put(self, record: Record) -> None:
        if self._queue.qsize() < _MOST_WAITING:
            self._queue.put(record)
        else:
            self.lost += 1

    def _write_all(self) -> None:
        going_on = True
        while going_on:
            records = self._taken()
            going_on = None not in records
            lines = [_line(record) for record in records if record is not None]
            try:
                self._write(b"".join(lines))
            except OSError as error:
                if not self._is_losing:
                    _log.warning("the access log %s cannot be written: %s", self._target, error.strerror)
                self._is_losing = True
                self.lost += len(lines)
            else:
                if lines and self._is_losing:
                    _log.warning("the access log %s is written again; %d lines are lost", self._target, self.lost)
                    self._is_losing = False

    def _taken(self) -> list[Record | None]:
        """Wait for a record, and take those with it that are there."""
        taken = [self._queue.get()]
        try:
            while taken[-1] is not None and len(taken) < _LINES_AT_ONCE:
                taken.append(self._queue.get_nowait())
        except Empty:
            pass
        return taken

    def _write(self, content: bytes) -> None:
        if self._reopen.is_set() and self._target != STDOUT:
            self._reopen.clear()
            new = _descriptor(self._target)
            os.close(self._file)
            self._file = new
        if self._is_torn:
            content = b"\n" + content
        while content:
            written = os.write(self._file, content)
            self._is_torn = not content[:written].endswith(b"\n")
            content = content[written:]

    def _opened(self) -> int:
        if self._target == STDOUT:
            return sys.stdout.fileno()
        try:
            return _descriptor(self._target)
        except OSError as error:
            raise InputError(f"{self._target}: the access log cannot be written ({error.strerror}).") from error


def _descriptor(file: Path | str) -> int:
    return os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _record_from_scope(scope: Scope, now: float) -> Record:
    client = scope.get("client")
    record = Record(now, client=client[0] if client else None, method=scope["method"], path=scope["path"])
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            record.request_id = value[:_LONGEST_ID].decode("latin-1")
            break
    return record


def _line(record: Record) -> bytes:
    record.time = datetime.fromtimestamp(float(record.time), UTC).isoformat(timespec="milliseconds")
    for name in _DURATIONS:
        if (value := getattr(record, name)) is not None:
            setattr(record, name, round(value, 3))
    return msgspec.json.encode(record) + b"\n"
