"""An index that is followed: what is published while a process runs is taken up, and nobody who searches notices.

A new version is opened and verified beside the one that serves, which a search that has begun goes on with; it is freed
with the last of them. One that cannot be trusted is refused, and the old one serves on. Until both are swapped, both
are in memory. Knows no service.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from octavo.search import manifest, settings
from octavo.search.index import Index, index_folder, open_index
from octavo.search.settings import read_tuned

_log = logging.getLogger(__name__)

_State = tuple[Path, int, int]  # a version, and when its manifest and what was tuned were written


class FollowedIndex:
    """The current version of an index. Thread-safe."""

    def __init__(self, path: Path, index: Index) -> None:
        """Follow the index in `path`, of which `index` is open; a path to one version stays with that one."""
        self._path = path
        self._index = index
        self._seen = self._state()
        self._turn = threading.Lock()

    @property
    def index(self) -> Index:
        """The version that serves. Who keeps it may go on with it, whatever is published."""
        return self._index

    def refresh(self, *, retry: bool = False) -> None:
        """Take up what was published or tuned since the last call. Blocks: a new version is verified whole.

        Args:
            retry: also look again at what was refused.

        Raises:
            ReleaseError: what is current cannot be trusted; said once unless it is to be tried again.
        """
        with self._turn:
            state = self._state()
            if state == self._seen and not (retry and self._is_behind(state)):
                return
            self._seen = state
            if state[0] == self._index.folder and not self._is_behind(state):
                self._index = replace(self._index, tuned=read_tuned(state[0].parent))
                return
            self._swap()

    def _swap(self) -> None:
        started_s = time.monotonic()
        old, new = self._index.manifest.version, open_index(self._path)
        self._index = new
        _log.info(
            "the index: version %s, of %d documents, serves in place of %s (%.1f s)",
            new.manifest.version,
            len(new),
            old,
            time.monotonic() - started_s,
        )

    def _is_behind(self, state: _State) -> bool:
        """Return whether another version is current than the one that serves."""
        if state[0] != self._index.folder:
            return True
        return manifest.read_index_manifest(state[0]).index_sha256 != self._index.manifest.index_sha256

    def _state(self) -> _State:
        folder = index_folder(self._path)
        return folder, _written_ns(folder / manifest.FILE_NAME), _written_ns(folder.parent / settings.FILE_NAME)


def _written_ns(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_mtime_ns
    return 0
