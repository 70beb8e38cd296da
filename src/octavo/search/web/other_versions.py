"""Versions loaded for a moment, so that they can be compared: those that do not serve, or for fair times both.

The registry holds what serves and what is on trial; here are at most two more, each of which runs in plain threads on
one core, beside the scheduler, so that no comparison takes a worker from anybody. What serves spreads a large request
over all workers, and waits for them with all others: where times are compared, it is loaded here once more. A version
that nobody has asked for in a while is unloaded. Used on one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import EngineError, ReleaseError
from octavo.search.direct import DirectService
from octavo.serve.refusals import BadRequest, Overloaded, UnknownModel
from octavo.serve.service import ModelInfo, Reply, Request, Service
from octavo.store.model import load
from octavo.store.names import version_folder, version_folders

MOST_LOADED = 2
_IDLE_S = 60.0
_RETRY_S = 1.0

Named = tuple[str, str]  # model, version


@dataclass(slots=True)
class _Loaded:
    """A version: being loaded, or there; with those who use it."""

    loading: asyncio.Task[DirectService]
    users: int = 0
    used_s: float = 0.0


class OtherVersions:
    """Loads versions beside those that serve."""

    def __init__(
        self,
        service: Service,
        store: Path,
        *,
        allow_uncertified: bool = False,
        idle_s: float = _IDLE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load none yet.

        Args:
            service: what serves; its versions are asked where they are.
            store: where the others are.
            allow_uncertified: load releases without a `pass`.
            idle_s: for how long an unused version stays.
            clock: in seconds.
        """
        self._service = service
        self._store = store
        self._allow_uncertified = allow_uncertified
        self._idle_s = idle_s
        self._clock = clock
        self._loaded: dict[Named, _Loaded] = {}

    @asynccontextmanager
    async def held(self, versions: Mapping[str, str], *, beside: bool = False) -> AsyncIterator[Service]:
        """Yield a service that has the given version of each model, for as long as the block runs.

        Args:
            versions: by model.
            beside: run those that serve here too, as all others are.

        Raises:
            UnknownModel: there is no such model, or no such version of it in the store.
            BadRequest: the version cannot be loaded; says why.
            Overloaded: as many others as may be loaded are in use.
        """
        wanted = [named for named in versions.items() if beside or not self._serves(named)]
        if not wanted:
            yield self._service
            return
        if len(wanted) > MOST_LOADED:
            raise BadRequest(f"{len(wanted)} versions are to be loaded, and {MOST_LOADED} is the most.")
        taken: list[_Loaded] = []
        try:
            # Taken all at once, with nothing awaited between: of two comparisons, neither waits for the other's half.
            for named in wanted:
                taken.append(self._taken(named))  # noqa: PERF401 - those taken are let go where the next one fails
            found = {named: await asyncio.shield(one.loading) for named, one in zip(wanted, taken, strict=True)}
            yield _Beside(self._service, found)
        finally:
            for one in taken:
                one.users -= 1
                one.used_s = self._clock()
            asyncio.get_running_loop().call_later(self._idle_s, self._drop_idle)

    def loaded(self) -> list[Named]:
        """Return the versions that are loaded here."""
        return sorted(self._loaded)

    async def close(self) -> None:
        """Unload all, once those that are being loaded are there. Nobody may use them any more."""
        loading = [one.loading for one in self._loaded.values()]
        for named in self.loaded():
            self._drop(named)
        await asyncio.gather(*loading, return_exceptions=True)

    def _serves(self, named: Named) -> bool:
        try:
            self._service.model(*named)
        except UnknownModel:
            return False
        return True

    def _taken(self, named: Named) -> _Loaded:
        """Return a version that is loaded or begins to be, with one more user."""
        if named not in self._loaded:
            self._check_exists(*named)
            self._make_room()
            loading = asyncio.create_task(self._load(named))
            self._loaded[named] = _Loaded(loading)
        one = self._loaded[named]
        one.users += 1
        return one

    def _check_exists(self, model: str, version: str) -> None:
        self._service.model(model)  # a model that does not serve is not compared with anything
        try:
            folder = version_folder(self._store, model, version)
        except ReleaseError as error:
            raise UnknownModel(str(error)) from error
        if not folder.is_dir():
            there = ", ".join(version_folders(folder.parent)) or "none"
            raise UnknownModel(f"{model} has no version {version}. There are: {there}.")

    def _make_room(self) -> None:
        if len(self._loaded) < MOST_LOADED:
            return
        unused = [named for named, one in self._loaded.items() if not one.users]
        if not unused:
            used = ", ".join(f"{model} {version}" for model, version in self._loaded)
            raise Overloaded(f"Other versions are being compared just now: {used}.", _RETRY_S)
        self._drop(min(unused, key=lambda named: self._loaded[named].used_s))

    async def _load(self, named: Named) -> DirectService:
        folder = self._store / named[0] / named[1]
        try:
            model = await asyncio.to_thread(load, folder, threads=1, allow_uncertified=self._allow_uncertified)
        except (ReleaseError, EngineError) as error:
            self._loaded.pop(named, None)
            raise BadRequest(f"{named[0]} {named[1]} cannot be compared. {error}") from error
        return DirectService([model])

    def _drop_idle(self) -> None:
        latest_s = self._clock() - self._idle_s
        for named, one in list(self._loaded.items()):
            if not one.users and one.used_s <= latest_s:
                self._drop(named)

    def _drop(self, named: Named) -> None:
        loading = self._loaded.pop(named).loading
        loading.add_done_callback(_close)


def _close(loading: asyncio.Task[DirectService]) -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result().close()


@dataclass(frozen=True, slots=True)
class _Beside:
    """A service, with versions that it does not have itself."""

    service: Service
    others: Mapping[Named, DirectService]

    @property
    def ready(self) -> bool:
        """As the service."""
        return self.service.ready

    def models(self) -> Sequence[ModelInfo]:
        """As the service: the others do not serve."""
        return self.service.models()

    def model(self, name: str, version: str | None = None) -> ModelInfo:
        """Return the release that serves a model, or one of its loaded versions. Raises UnknownModel."""
        return self._with(name, version).model(name, version)

    def versions(self, name: str) -> Sequence[str]:
        """Return the loaded versions of a model, the serving one first. Raises UnknownModel."""
        others = [version for model, version in self.others if model == name]
        return list(dict.fromkeys([*self.service.versions(name), *others]))

    async def ask(self, request: Request) -> Reply:
        """Answer a request. Raises Refusal."""
        return await self._with(request.model, request.version).ask(request)

    def _with(self, model: str, version: str | None) -> Service:
        return self.others.get((model, version or ""), self.service)
