"""Ends the work for a request that nobody waits for any more: its client has left, or its deadline has passed.

Most answers come before anything here begins: a request pays for a timer that is cancelled. Knows ASGI's messages and
asyncio, no service.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from octavo.serve.http.body import ClientGone, message_now
from octavo.serve.refusals import DeadlineExceeded

# An answer that takes longer than this is worth watching the connection for.
_WATCH_AFTER_S = 0.01
_WATCH_AGAIN_S = 0.08
# The service keeps deadlines itself, as long as no engine is at work; it goes first, as it can say more.
_GRACE_S = 0.008
_LATE = "The deadline has passed. Nothing more is computed for this request."

Value = TypeVar("Value")


class Overdue(DeadlineExceeded):
    """The deadline has passed, and the service had not noticed."""


async def while_awaited(work: Coroutine[Any, Any, Value], receive: Receive, deadline_s: float | None) -> Value:
    """Return what some work returns, in the task that calls; cancel the work where that is of no use any more.

    Args:
        work: to be done; cancelling it must be safe.
        receive: of the request, whose body has been read.
        deadline_s: by `time.monotonic()`; None for none.

    Raises:
        ClientGone: the connection was closed first.
        Overdue: the deadline passed first.
    """
    patience = _Patience(receive, deadline_s)
    try:
        return await work
    except asyncio.CancelledError:
        if patience.reason is None:
            raise
        patience.task.uncancel()
        raise patience.reason from None
    finally:
        patience.end()


class _Patience:
    """The timers of one request, and what became of them."""

    __slots__ = ("_deadline", "_receive", "_watch", "_watch_s", "reason", "task")

    def __init__(self, receive: Receive, deadline_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # a coroutine runs in a task
        self.task: asyncio.Task[Any] = task
        self.reason: Exception | None = None
        self._receive = receive
        self._watch_s = _WATCH_AFTER_S
        self._watch = loop.call_later(self._watch_s, self._look)
        self._deadline: asyncio.TimerHandle | None = None
        if deadline_s is not None:
            left_s = max(0.0, deadline_s - time.monotonic()) + _GRACE_S
            self._deadline = loop.call_later(left_s, self._give_up, Overdue(_LATE))

    def end(self) -> None:
        """Stop watching."""
        self._watch.cancel()
        if self._deadline is not None:
            self._deadline.cancel()

    def _look(self) -> None:
        """Look whether the client is there, and again later.

        A task that waits for it to leave would cost each request more than looking: it is made, and cancelled.
        """
        message = message_now(self._receive)
        if message is not None and message["type"] == "http.disconnect":
            self._give_up(ClientGone())
            return
        self._watch_s = min(2 * self._watch_s, _WATCH_AGAIN_S)
        self._watch = asyncio.get_running_loop().call_later(self._watch_s, self._look)

    def _give_up(self, reason: Exception) -> None:
        if self.reason is None:
            self.reason = reason
            self.task.cancel()
