"""`LocalService`: the `Service` of this process, over the registry (who answers) and the scheduler (when).

Runs on the event loop, and does nothing there that takes long: it checks a request, pins the release that answers it,
and waits. A request is answered by the release that it was admitted to, whatever is swapped meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from octavo.errors import InputError
from octavo.serve.job import Job
from octavo.serve.loaded import LoadedRelease
from octavo.serve.refusals import (
    BadRequest,
    DeadlineExceeded,
    Refusal,
    TooLarge,
    Unavailable,
    UnknownModel,
)
from octavo.serve.registry import Registry
from octavo.serve.routing import Route, Router
from octavo.serve.scheduler import Scheduler
from octavo.serve.service import Listener, ModelInfo, Reply, Request
from octavo.serve.settings import ServeSettings
from octavo.types import Input, texts_of_input

# How late a deadline may be noticed while all workers are at work.
_TICK_S = 0.005
# Copies for a shadow that may be on their way at a time; more are not made.
_MOST_COPIES = 64


class LocalService:
    """Answers requests with the releases of a registry. Used on one event loop."""

    def __init__(
        self,
        registry: Registry,
        scheduler: Scheduler,
        settings: ServeSettings,
        listener: Listener,
        router: Router | None = None,
    ) -> None:
        """Use a registry and a started scheduler; both are stopped by whoever made them, the scheduler by `stop`."""
        self._registry = registry
        self._scheduler = scheduler
        self._settings = settings
        self._listener = listener
        self._router = router
        self._is_stopping = False
        self._is_closed = False
        self._asked = 0
        self._ticking = False
        self._copies: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """Whether at least one model serves, every model of the store has been tried, and nobody asked to stop."""
        return self._registry.tried and not self._is_stopping and bool(self._registry.models())

    def models(self) -> Sequence[ModelInfo]:
        """Return what serves now, one release per model, sorted by name."""
        return [self._registry.serving(name).info for name in self._registry.models()]

    def model(self, name: str, version: str | None = None) -> ModelInfo:
        """Return the release that serves a model, or one of its loaded versions. Raises UnknownModel."""
        return self._release(name, version).info

    def versions(self, name: str) -> Sequence[str]:
        """Return the loaded versions of a model, the serving one first. Raises UnknownModel."""
        trial = self._registry.trial(name)
        return [self._registry.serving(name).info.version, *([trial.info.version] if trial else [])]

    async def ask(self, request: Request) -> Reply:
        """Answer a request. Cancelling the awaiting task withdraws what has not been dispatched yet.

        Raises:
            Refusal: one of its kinds.
        """
        arrival_s = time.monotonic()
        self._asked += 1
        try:
            reply = await self._answered(request, arrival_s)
        except Refusal as refusal:
            self._listener.refused("" if isinstance(refusal, UnknownModel) else request.model, refusal.reason)
            raise
        finally:
            self._asked -= 1
        self._listener.answered(reply, time.monotonic() - arrival_s)
        return reply

    async def stop(self, grace_s: float | None = None) -> bool:
        """Stop serving: no longer ready at once, take requests for `grace_s` more, then end those that are in.

        Returns whether all of them were answered within the settings' `drain_s`.
        """
        self._is_stopping = True
        await asyncio.sleep(self._settings.grace_s if grace_s is None else grace_s)
        self._is_closed = True
        until_s = time.monotonic() + self._settings.drain_s
        for copy in list(self._copies):
            copy.cancel()
        while self._asked and time.monotonic() < until_s:
            await asyncio.sleep(_TICK_S)
        return await asyncio.to_thread(self._scheduler.stop, max(0.0, until_s - time.monotonic()))

    # One request.

    async def _answered(self, request: Request, arrival_s: float) -> Reply:
        if self._is_closed:
            raise Unavailable("The service is stopping.")
        if request.deadline_s is not None and request.deadline_s <= arrival_s:
            raise DeadlineExceeded("The deadline had passed when the request came.")
        route = self._pinned(request)
        try:
            reply = await self._run(request, route.answer_with, arrival_s)
        except Unavailable as refusal:
            if refusal.__cause__ is None or not self._may_fall_back(request, route.answer_with):
                raise
            return await self._answered_by_serving(request, refusal, arrival_s)
        if route.shadow is not None:
            self._copy(request, reply, route.shadow)
        return reply

    def _pinned(self, request: Request) -> Route:
        """Return where a request goes; the release that answers is pinned."""
        while True:
            # A release that was resolved may be on its way out by now; then another one serves.
            route = self._route(request)
            if route.answer_with.pin():
                return route

    def _route(self, request: Request) -> Route:
        serving = self._release(request.model, request.version)
        if self._router is None or request.version is not None:
            return Route(serving)
        trial = self._registry.trial(request.model)
        return Route(serving) if trial is None else self._router.route(request.model, serving, trial)

    def _release(self, name: str, version: str | None) -> LoadedRelease:
        serving = self._registry.serving(name)
        if version is None or version == serving.info.version:
            return serving
        trial = self._registry.trial(name)
        if trial is not None and trial.info.version == version:
            return trial
        loaded = ", ".join(self.versions(name))
        raise UnknownModel(f"{name} has no version {version!r:.20} loaded. There is: {loaded}.")

    async def _run(self, request: Request, release: LoadedRelease, arrival_s: float, background: bool = False) -> Reply:
        """Have a pinned release answer."""
        try:
            inputs, size_bytes = self._checked(request, release)
            future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            job = Job(request, release, inputs, size_bytes, future, arrival_s, background)
            self._scheduler.submit(job)
        except BaseException:
            release.unpin()
            raise
        if not self._ticking:
            self._ticking = True
            future.get_loop().call_later(_TICK_S, self._tick)
        try:
            return await future
        except asyncio.CancelledError:
            self._scheduler.withdraw(job)
            raise

    def _checked(self, request: Request, release: LoadedRelease) -> tuple[Sequence[Input], int]:
        """Return the inputs of a request and the bytes of their texts, or refuse it."""
        try:
            inputs = release.info.task.prepare(request.items)
        except InputError as error:
            raise BadRequest(str(error)) from error
        if not inputs:
            raise BadRequest("The request has no items.")
        if len(inputs) > self._settings.max_inputs:
            raise TooLarge(f"The request has {len(inputs)} inputs, and {self._settings.max_inputs} is the most.")
        sizes = [_size_bytes(text) for given in inputs for text in texts_of_input(given)]
        if (longest := max(sizes)) > self._settings.max_text_bytes:
            raise TooLarge(f"A text has {longest} bytes, and {self._settings.max_text_bytes} is the most.")
        return inputs, sum(sizes)

    def _tick(self) -> None:
        """Let nothing wait for longer than it may, even while all workers are at work."""
        self._ticking = self._scheduler.expire()
        if self._ticking:
            asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    # Trials.

    def _may_fall_back(self, request: Request, failed: LoadedRelease) -> bool:
        return request.version is None and self._registry.serving(request.model) is not failed

    async def _answered_by_serving(self, request: Request, refusal: Refusal, arrival_s: float) -> Reply:
        """Answer with the release that serves, as the one on trial failed: no client pays for a trial."""
        failed_s = time.monotonic() - arrival_s
        while not (serving := self._registry.serving(request.model)).pin():
            continue
        reply = await self._run(request, serving, arrival_s)
        if self._router is not None:
            self._router.compared(request.model, request, reply, refusal, _seconds(reply), failed_s)
        return reply

    def _copy(self, request: Request, reply: Reply, shadow: LoadedRelease) -> None:
        """Send a copy of a request that was answered to a release on trial, if there is room and time."""
        if len(self._copies) < _MOST_COPIES and not self._is_stopping:
            task = asyncio.create_task(self._compare(request, reply, shadow))
            self._copies.add(task)
            task.add_done_callback(self._copies.discard)

    async def _compare(self, request: Request, reply: Reply, shadow: LoadedRelease) -> None:
        started_s = time.monotonic()
        copied: Reply | Refusal
        if not shadow.pin():  # the trial has ended
            return
        try:
            copy = Request(request.model, request.items, request.version, decode=request.decode)
            copied = await self._run(copy, shadow, started_s, background=True)
            seconds = _seconds(copied)
        except Refusal as refusal:
            if refusal.__cause__ is None:  # dropped for want of time: that says nothing of the release
                return
            copied, seconds = refusal, time.monotonic() - started_s
        if self._router is not None:
            self._router.compared(request.model, request, reply, copied, _seconds(reply), seconds)


def _seconds(reply: Reply) -> float:
    """Return what a release itself took, without waiting."""
    return (reply.timing.tokenize_ms + reply.timing.compute_ms) / 1000


def _size_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
