"""Write a release whole or not at all, beside any number of other publishers.

A draft is a hidden folder whose name reserves the version; committing renames it. Whatever ends the work in
between, nothing of it is left: the draft removes itself, or, if its process was killed, the next publisher
removes it.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from octavo import __version__
from octavo.errors import ReleaseError
from octavo.store import locks
from octavo.store import manifest as manifests
from octavo.store.manifest import FileEntry, Manifest
from octavo.store.names import model_folder, version_folders
from octavo.store.versions import point_current

_DRAFT = re.compile(r"\.draft-([1-9][0-9]{0,8})")
_CHUNK_BYTES = 1 << 20


class Draft:
    """A release that is being written. Not thread-safe."""

    def __init__(self, folder: Path, model: str, version: str) -> None:
        self.model = model
        self.version = version
        self._folder = folder
        self._files: dict[str, FileEntry] = {}
        self._committed = False

    def write(self, name: str, content: bytes | Path) -> FileEntry:
        """Write one file, from bytes or copied from a path, flush it to the disk, return its hash and size.

        Raises:
            ReleaseError: the name is unsafe or taken, or the disk is full or refuses.
        """
        self._check_open()
        manifests.check_path(name)
        if name in self._files:
            raise ReleaseError(f"{name!r} was already written to version {self.version} of {self.model}.")
        self._files[name] = self._written(name, content)
        return self._files[name]

    def commit(
        self,
        *,
        task: str,
        rung: str,
        variants: Mapping[str, str],
        teacher: str | None = None,
        created: str | None = None,
        make_current: bool = False,
    ) -> Path:
        """Write the manifest, give the release its name, and return its folder.

        Args:
            task: the task's name.
            rung: the rung of the ladder that the release stands on.
            variants: role of a graph → its path in the release.
            teacher: version of the fp32 reference release in the same store.
            created: when, in ISO 8601 (None: now, UTC).
            make_current: also let `current` point to it.

        Raises:
            ReleaseError: a variant was not written, or the disk is full or refuses.
        """
        self._check_open()
        manifest = manifests.sealed(
            Manifest(
                model=self.model,
                version=self.version,
                task=task,
                rung=rung,
                created=created or datetime.now(UTC).isoformat(timespec="seconds"),
                octavo=__version__,
                files=self._files,
                variants=dict(variants),
                teacher=teacher,
            )
        )
        self._written(manifests.FILE_NAME, manifests.manifest_bytes(manifest))
        final = self._folder.parent / self.version
        self._rename(final)
        if make_current:
            point_current(final.parent, self.version)
        return final

    def _check_open(self) -> None:
        if self._committed:
            raise ReleaseError(f"Version {self.version} of {self.model} is committed; start a new version.")

    def _written(self, name: str, content: bytes | Path) -> FileEntry:
        path = self._folder / name
        try:
            with _opened(content) as source:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as target, _removed_on_failure(path):
                    return _copied(source, target)
        except OSError as error:
            raise _write_error(error, path, content) from error

    def _rename(self, final: Path) -> None:
        try:
            for folder in [self._folder, *(path for path in self._folder.rglob("*") if path.is_dir())]:
                _flush_folder(folder)
            # A rename would replace an empty folder, though nobody else should ever have made one here.
            if os.path.lexists(final):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final))
            self._folder.rename(final)
            self._committed = True
            _flush_folder(final.parent)
        except OSError as error:
            raise ReleaseError(
                f"{final}: the release cannot get its name ({error.strerror}). Publish again."
            ) from error


@contextmanager
def new_version(store: str | Path, model: str) -> Iterator[Draft]:
    """Reserve the next version of a model and yield the draft to write it with.

    Leaving the block without a commit, by whatever exception, leaves nothing behind.

    Raises:
        ReleaseError: the name is not valid, or the store cannot be written.
    """
    folder = model_folder(store, model)
    made: list[Path] = []
    reserved: list[tuple[Path, int]] = []
    try:
        try:
            made += _missing_folders(folder)
            version = _reserve(folder, reserved)
        except OSError as error:
            raise ReleaseError(f"{folder}: the store cannot be written ({error.strerror}).") from error
        yield Draft(reserved[0][0], model, version)
    finally:
        for draft, descriptor in reserved:
            shutil.rmtree(draft, ignore_errors=True)
            os.close(descriptor)
        for empty in made:
            with suppress(OSError):
                empty.rmdir()


def _missing_folders(folder: Path) -> list[Path]:
    """Return the folders that publishing has to make, innermost first; if still empty at the end they go."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _reserve(folder: Path, reserved: list[tuple[Path, int]]) -> str:
    """Reserve the next version by making its draft folder, and note that in `reserved` at once."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with locks.turn(folder) as locked:
                if locked:
                    _remove_abandoned(folder)
                version = _next_version(folder)
                draft = folder / f".draft-{version}"
                draft.mkdir()
                reserved.append((draft, locks.hold(draft)))
        # Without locks another publisher may be quicker; one that gave up may have removed the empty folder.
        except (FileExistsError, FileNotFoundError):
            continue
        if not (folder / version).exists():
            return version
        _release(reserved)


def _release(reserved: list[tuple[Path, int]]) -> None:
    draft, descriptor = reserved.pop()
    shutil.rmtree(draft, ignore_errors=True)
    os.close(descriptor)


def _next_version(folder: Path) -> str:
    drafts = [int(match[1]) for child in folder.iterdir() if (match := _DRAFT.fullmatch(child.name))]
    return str(max([*map(int, version_folders(folder)), *drafts], default=0) + 1)


def _remove_abandoned(folder: Path) -> None:
    for child in list(folder.iterdir()):
        if _DRAFT.fullmatch(child.name) and locks.is_abandoned(child):
            shutil.rmtree(child, ignore_errors=True)


@contextmanager
def _opened(content: bytes | Path) -> Iterator[BinaryIO]:
    if isinstance(content, bytes):
        yield io.BytesIO(content)
        return
    try:
        source = content.open("rb")
    except OSError as error:
        raise ReleaseError(f"{content}: cannot be read into the release ({error.strerror}).") from error
    with source:
        yield source


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    # A caller may catch the error and commit all the same: half a file would spoil the release.
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _copied(source: BinaryIO, target: BinaryIO) -> FileEntry:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
        target.write(chunk)
    target.flush()
    os.fsync(target.fileno())
    return FileEntry(digest.hexdigest(), size)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_error(error: OSError, path: Path, content: bytes | Path) -> ReleaseError:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return ReleaseError(f"{path.name}: cannot be written to {path.parent} ({error.strerror}).")
    needed = len(content) if isinstance(content, bytes) else content.stat().st_size
    free = shutil.disk_usage(path.parent).free
    return ReleaseError(
        f"{path.name} needs {needed:,} bytes, and {path.parent.parent} has {free:,} bytes free. Nothing was "
        "left behind. Free some space or give another store."
    )
