"""A release that is loaded, and the requests that are in it: it is freed only when the last one has left."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from octavo.errors import EngineError, OctavoError, ReleaseError
from octavo.serve.service import ModelInfo
from octavo.serve.warm_up import warm_up
from octavo.store.model import Model, load
from octavo.store.names import check_version, version_folders


class LoadedRelease:
    """A model in memory with its place in the service. Thread-safe.

    Attributes:
        model: that answers.
        info: what the service tells of it.
    """

    def __init__(self, model: Model, info: ModelInfo | None = None) -> None:
        self.model = model
        self.info = info or info_from_model(model)
        self._changed = threading.Condition()
        self._in_flight = 0
        self._retired = False

    @property
    def in_flight(self) -> int:
        """Requests that hold it."""
        return self._in_flight

    def pin(self) -> bool:
        """Hold it for a request, until `unpin`; False where it is on its way out and takes no more."""
        with self._changed:
            if self._retired:
                return False
            self._in_flight += 1
            return True

    def unpin(self) -> None:
        """Let go of it."""
        with self._changed:
            self._in_flight -= 1
            if self._retired and not self._in_flight:
                self._changed.notify_all()

    def serves_from_now(self) -> None:
        """Note that it begins to serve."""
        self.info = replace(self.info, since=_now())

    def retire(self, drain_s: float) -> bool:
        """Take no more requests, let those that are in it end, and free the engine. Blocks.

        Returns whether all of them ended within `drain_s`. Those that did not get an error of the engine.
        """
        with self._changed:
            self._retired = True
            drained = self._changed.wait_for(lambda: not self._in_flight, drain_s)
        self.model.close()
        return drained


def load_release(
    folder: Path, version: str, *, threads: int, allow_uncertified: bool, max_batch_tokens: int
) -> LoadedRelease:
    """Load a version of the model in `folder`: hashes, certificate and golden answers are checked, shapes warmed up.

    Raises:
        ReleaseError: it is missing, altered, not certified, or another model's.
        EngineError: it cannot run here.
    """
    check_version(version)
    if not (folder / version).is_dir():
        there = ", ".join(version_folders(folder)) or "none"
        raise ReleaseError(f"{folder.name} has no version {version}. There are: {there}.")
    try:
        model = load(folder / version, threads=threads, allow_uncertified=allow_uncertified)
        try:
            release = model.release
            if (release.model, release.version) != (folder.name, version):
                raise ReleaseError(f"{folder / version}: this is {release.model} {release.version}. Copy it again.")
            warm_up(model, max_batch_tokens)
        except BaseException:
            model.close()
            raise
    except OctavoError:
        raise
    except Exception as error:  # whatever a library raises, the release that serves has to serve on
        raise EngineError(f"{folder / version}: cannot be loaded ({type(error).__name__}: {error}).") from error
    return LoadedRelease(model)


def info_from_model(model: Model) -> ModelInfo:
    """Describe a loaded model, as of now."""
    return ModelInfo(
        model=model.release.model,
        version=model.release.version,
        task=model.task,
        max_length=model.config.max_length,
        backend=model.backend,
        engine_id=model.engine.engine_id,
        precision=model.config.precision,
        certificate=model.certificate,
        sha256=model.release.sha256,
        since=_now(),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
