"""The service's protocol over releases that are simply loaded: for the command line, tests and notebooks.

No queue, no scheduler, no swap: a request runs in a thread of its own, at once. `LocalService` is what serves traffic.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from octavo.errors import InputError, OctavoWarning, ReleaseError
from octavo.serve.loaded import info_from_model
from octavo.serve.refusals import BadRequest, UnknownModel
from octavo.serve.service import ModelInfo, Reply, Request, Timing
from octavo.store.model import Model, load
from octavo.store.versions import current, models
from octavo.types import Outputs


class DirectService:
    """Loaded releases that answer. Thread-safe as far as `Model` is. Close it, or use it in a `with` block."""

    def __init__(self, loaded: Iterable[Model]) -> None:
        """Serve some releases; of a model with several, the first one serves."""
        self._models: dict[str, dict[str, Model]] = {}
        self._infos: dict[tuple[str, str], ModelInfo] = {}
        for model in loaded:
            info = info_from_model(model)
            self._models.setdefault(info.model, {})[info.version] = model
            self._infos[info.model, info.version] = info

    @classmethod
    def from_store(
        cls,
        store: Path,
        versions: Mapping[str, str] | None = None,
        *,
        threads: int | None = None,
        allow_uncertified: bool = False,
    ) -> DirectService:
        """Load the current release of every model of a store, or the version that is named for it.

        What cannot be loaded is left out with a warning, unless its version was named.

        Raises:
            InputError: a version is named for a model that is not there.
            ReleaseError: there is no store, or a release that was named cannot be trusted.
        """
        named, found = dict(versions or {}), models(store)
        if unknown := set(named) - set(found):
            raise InputError(f"{store}: there is no model '{min(unknown)}'. It has: {', '.join(found) or 'none'}.")
        with ExitStack() as stack:
            loaded = []
            for name in found:
                try:
                    version = named.get(name) or current(store, name)
                    if version is not None:
                        model = load(store / name / version, threads=threads, allow_uncertified=allow_uncertified)
                        loaded.append(stack.enter_context(model))
                except ReleaseError as error:
                    if name in named:
                        raise
                    warnings.warn(f"{name} is left out. {error}", OctavoWarning, stacklevel=2)
            stack.pop_all()
        return cls(loaded)

    @property
    def ready(self) -> bool:
        """Whether there is a model."""
        return bool(self._models)

    def models(self) -> Sequence[ModelInfo]:
        """Return the release that serves each model, sorted by name."""
        return [self.model(name) for name in sorted(self._models)]

    def model(self, name: str, version: str | None = None) -> ModelInfo:
        """Return the release that serves a model, or one of its versions. Raises UnknownModel."""
        chosen = version or self.versions(name)[0]
        if (name, chosen) not in self._infos:
            there = ", ".join(self.versions(name))
            raise UnknownModel(f"Version {chosen} of {name} is not loaded. There are: {there}.")
        return self._infos[name, chosen]

    def versions(self, name: str) -> Sequence[str]:
        """Return the loaded versions of a model, the serving one first. Raises UnknownModel."""
        if name not in self._models:
            raise UnknownModel(f"No model '{name}' is served. There are: {', '.join(sorted(self._models)) or 'none'}.")
        return list(self._models[name])

    async def ask(self, request: Request) -> Reply:
        """Answer a request. Raises UnknownModel, or BadRequest for items that the model cannot read."""
        info = self.model(request.model, request.version)
        return await asyncio.to_thread(_answer, self._models[info.model][info.version], request)

    def close(self) -> None:
        """Free the engines."""
        for loaded in self._models.values():
            for model in loaded.values():
                model.close()

    def __enter__(self) -> DirectService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _answer(model: Model, request: Request) -> Reply:
    started = time.perf_counter()
    try:
        batch = model.tokenizer.encode(model.task.prepare(request.items))
    except InputError as error:
        raise BadRequest(str(error)) from error
    tokenized = time.perf_counter()
    outputs = Outputs(model.engine.run(batch), batch.read_offsets)
    answers = model.task.decode(outputs, request.items) if request.decode else ()
    timing = Timing(0.0, 1e3 * (tokenized - started), 1e3 * (time.perf_counter() - tokenized))
    return Reply(model.release.model, model.release.version, answers, outputs, batch.tokens, timing)
