"""`manifest.json` of an index: what it holds, which release made its vectors, and the hash of every file.

Canonical, as the manifest of a release is: one content has exactly one serialisation, and reading refuses any other, so
that no byte of it can change unnoticed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from octavo.errors import ReleaseError
from octavo.progress import Progress
from octavo.search.lexical import LOCK_FILES
from octavo.search.lineage import Lineage
from octavo.search.vectors import Kind
from octavo.store.manifest import FileEntry

FILE_NAME = "manifest.json"
REPAIR = "Go back to another version of the index, or index the corpus again."
_CHUNK_BYTES = 1 << 20
_MOST_BYTES = 1 << 24


class IndexManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of `manifest.json`.

    Attributes:
        version: of the index, an integer as a string.
        created: ISO 8601 time in UTC.
        octavo: version that wrote it.
        documents: that can be found.
        next_number: that a new document gets; numbers are never used twice.
        kind: how vectors are kept.
        vectors_by: the release that made the vectors.
        store: where that release lay, as a path from the index: a hint for those who search without naming a store.
        files: every file but the manifest itself, by relative path.
        index_sha256: hash over the canonical JSON of all other fields; identifies the version.
    """

    format: Literal[1] = 1
    version: str
    created: str
    octavo: str
    documents: int
    next_number: int
    kind: Kind
    vectors_by: Lineage
    store: str = ""
    files: dict[str, FileEntry]
    index_sha256: str = ""


def sealed(manifest: IndexManifest) -> IndexManifest:
    """Return the manifest with its `index_sha256` filled in."""
    return msgspec.structs.replace(manifest, index_sha256=_index_sha256(manifest))


def manifest_bytes(manifest: IndexManifest) -> bytes:
    """Return the one serialisation of `manifest`: sorted keys, two spaces, a line feed at the end."""
    return _canonical(msgspec.to_builtins(manifest))


def read_index_manifest(folder: Path) -> IndexManifest:
    """Read the manifest of a version folder; its files are not looked at.

    Raises:
        ReleaseError: it is missing, or any byte of it differs from what Octavo wrote.
    """
    file = folder / FILE_NAME
    try:
        with _opened(file) as descriptor:
            content = descriptor.read(_MOST_BYTES)
        manifest = msgspec.json.decode(content, type=IndexManifest)
    except OSError as error:
        raise ReleaseError(f"{file}: cannot be read ({error.strerror}). {REPAIR}") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ReleaseError(f"{file}: altered, cut, or of another version of Octavo ({error}). {REPAIR}") from error
    if manifest_bytes(manifest) != content or manifest.index_sha256 != _index_sha256(manifest):
        raise ReleaseError(f"{file}: altered: it is not byte for byte what was written. {REPAIR}")
    return manifest


def entries_of(folder: Path, progress: Progress) -> dict[str, FileEntry]:
    """Hash every file in a folder, but the manifest and lock files, and flush each to the disk.

    Raises:
        ReleaseError: a link or a device is among them.
    """
    names = list(_names(folder))
    with progress.step("hash the index (bytes)", sum((folder / name).stat().st_size for name in names)) as step:
        entries = {}
        for name in names:
            entries[name] = _entry(folder / name, flush=True)
            step.advance(entries[name].size_bytes)
    return entries


def check_files(folder: Path, manifest: IndexManifest, progress: Progress) -> None:
    """Refuse a version with a missing, altered, cut or extra file.

    Raises:
        ReleaseError: names the first such files.
    """
    names = set(_names(folder))
    wrong = [f"{name}: extra" for name in sorted(names - set(manifest.files))]
    size_bytes = sum(entry.size_bytes for entry in manifest.files.values())
    with progress.step("verify the index (bytes)", size_bytes) as step:
        for name, entry in sorted(manifest.files.items()):
            if name not in names:
                wrong.append(f"{name}: missing")
            elif (folder / name).stat().st_size != entry.size_bytes or _entry(folder / name) != entry:
                wrong.append(f"{name}: altered")
            step.advance(entry.size_bytes)
    if wrong:
        shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise ReleaseError(f"{folder}: this index cannot be trusted: {shown}. {REPAIR}")


def _names(folder: Path) -> Iterator[str]:
    """Yield the files in a folder by relative path, sorted; refuse links and devices."""
    for parent, folders, files in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted([*files, *(one for one in folders if (Path(parent) / one).is_symlink())]):
            path = Path(parent) / name
            if path.is_symlink() or not path.is_file():
                raise ReleaseError(f"{path}: a link or device, where an index has files. {REPAIR}")
            if name not in LOCK_FILES and path != folder / FILE_NAME:
                yield path.relative_to(folder).as_posix()


def _entry(path: Path, *, flush: bool = False) -> FileEntry:
    digest, size = hashlib.sha256(), 0
    with _opened(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
        if flush:
            os.fsync(file.fileno())
    return FileEntry(digest.hexdigest(), size)


def _opened(path: Path) -> Any:
    # O_NONBLOCK: opening a pipe must not wait for a writer that never comes.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def _index_sha256(manifest: IndexManifest) -> str:
    content: dict[str, Any] = msgspec.to_builtins(manifest)
    del content["index_sha256"]
    return hashlib.sha256(_canonical(content)).hexdigest()


def _canonical(content: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content, order="deterministic"), indent=2) + b"\n"
