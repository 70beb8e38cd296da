"""Open a release and trust what it holds, or say everything that is wrong with it.

Knows files and hashes; does not know what is in them. Never follows a symlink inside a release.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from octavo.errors import ReleaseError
from octavo.progress import Progress, Silent
from octavo.store import manifest as manifests
from octavo.store.manifest import REPAIR, FileEntry, Manifest
from octavo.store.names import CURRENT, VERSION, version_folders
from octavo.types import Json

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one file of a release."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass(frozen=True, slots=True)
class Release:
    """A release whose files were all verified when it was opened. Thread-safe."""

    folder: Path
    manifest: Manifest

    @property
    def model(self) -> str:
        """The model's name."""
        return self.manifest.model

    @property
    def version(self) -> str:
        """The version, an integer as a string."""
        return self.manifest.version

    @property
    def sha256(self) -> str:
        """The hash that stands for the whole release, such as in the key of a cache."""
        return self.manifest.release_sha256

    def read(self, name: str) -> bytes:
        """Return the content of a file, hashed as it was read: what is returned is what was released.

        Raises:
            ReleaseError: the release has no such file, or it changed since the release was opened.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise ReleaseError(f"{self.folder}: the release has no file {name!r}; it has {_listed(self.manifest)}.")
        problem: str | None
        try:
            with _regular_file(self.folder / name) as (file, size):
                # A file that grew is refused before it is read.
                content = file.read() if size == entry.size_bytes else b""
            problem = _difference(entry, size, hashlib.sha256(content).hexdigest())
        except OSError as error:
            problem = _unreadable(error)
        if problem is not None:
            raise ReleaseError(f"{self.folder / name}: {problem}. {REPAIR}")
        return content

    def variant(self, role: str) -> bytes:
        """Return the graph that plays `role`, such as `canonical`.

        Raises:
            ReleaseError: the release has no such variant, or its file changed.
        """
        if role not in self.manifest.variants:
            known = ", ".join(self.manifest.variants) or "none"
            raise ReleaseError(f"{self.folder}: the release has no variant {role!r} (it has: {known}).")
        return self.read(self.manifest.variants[role])

    def read_json(self, name: str) -> Json:
        """Return the content of a JSON file that holds an object.

        Raises:
            ReleaseError: as `read`, or the file is not such JSON.
        """
        content = self.read(name)
        try:
            return msgspec.json.decode(content, type=Json)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ReleaseError(f"{self.folder / name}: not a JSON object ({error}). Publish it anew.") from error


def open_release(path: str | Path, progress: Progress | None = None) -> Release:
    """Open a version folder, or a model folder (its current version), and verify every file of it.

    The folder is settled once: a later change of `current` does not reach a release that is open.

    Raises:
        ReleaseError: there is no release, or it has a missing, empty, cut, altered or extra file.
    """
    folder = release_folder(path)
    manifest, problems = _examine(folder, progress or Silent())
    if manifest is None or problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:10])
        more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise ReleaseError(f"{folder}: this release cannot be trusted:\n{shown}{more}\n{REPAIR}")
    return Release(folder, manifest)


def verify_release(path: str | Path, progress: Progress | None = None) -> list[Problem]:
    """Return everything that is wrong with a release, not only the first finding; empty when it is whole.

    Raises:
        ReleaseError: there is no release at `path`.
    """
    return _examine(release_folder(path), progress or Silent())[1]


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a version folder; its files are not looked at.

    Raises:
        ReleaseError: it is missing, altered, or of another version than the folder's name says.
    """
    path = folder / manifests.FILE_NAME
    try:
        with _regular_file(path) as (file, _size):
            content = file.read(manifests.MAX_BYTES + 1)
    except OSError as error:
        raise ReleaseError(f"{path}: {_unreadable(error)}. {REPAIR}") from error
    if len(content) > manifests.MAX_BYTES:
        raise ReleaseError(f"{path}: larger than {manifests.MAX_BYTES} bytes; no manifest is. {REPAIR}")
    manifest = manifests.manifest_from_bytes(content, str(path))
    if VERSION.fullmatch(folder.name) and manifest.version != folder.name:
        raise ReleaseError(f"{path}: the manifest is of version {manifest.version}, its folder is {folder.name}.")
    return manifest


def release_folder(path: str | Path) -> Path:
    """Return the version folder that `path` stands for: itself, or the current version of a model folder.

    Raises:
        ReleaseError: it is neither; the message says what there is.
    """
    path = Path(path)
    with _readable(path):
        return _resolved(path)


def _resolved(path: Path) -> Path:
    if path.name == CURRENT and path.is_symlink():
        path = path.parent
    if (path / CURRENT).is_symlink():
        return _current_folder(path)
    if os.path.lexists(path / manifests.FILE_NAME):
        return path
    if not path.is_dir():
        raise _no_release(path)
    if versions := version_folders(path):
        raise ReleaseError(f"{path}: no version is current. Make one so, or name one of: {', '.join(versions)}.")
    if models := _models_in(path):
        raise ReleaseError(f"{path}: this is a store. Name one of its models: {', '.join(models)}.")
    if (path / "config.json").is_file() and not (path / "certificate.json").exists():
        raise ReleaseError(f"{path}: this is a model's folder and no release. Make one of it: octavo compress {path} …")
    raise ReleaseError(f"{path}: there is no release here ({manifests.FILE_NAME} is missing). {REPAIR}")


def _no_release(path: Path) -> ReleaseError:
    """Say what there is where `path` is no folder: the other versions of its model, or the other models."""
    if VERSION.fullmatch(path.name) and (versions := version_folders(path.parent)):
        return ReleaseError(f"{path.parent} has no version {path.name}. There are: {', '.join(versions)}.")
    if not path.exists() and path.parent.is_dir() and (models := _models_in(path.parent)):
        return ReleaseError(f"{path.parent} has no model {path.name!r}. It has: {', '.join(models)}.")
    return ReleaseError(
        f"{path}: there is no such folder (looked from {Path.cwd()}). "
        "Give <store>/<model> or <store>/<model>/<version>."
    )


def _models_in(folder: Path) -> list[str]:
    return sorted(child.name for child in folder.iterdir() if child.is_dir() and version_folders(child))


def _current_folder(model_folder: Path) -> Path:
    link = model_folder / CURRENT
    target = str(link.readlink())
    if not VERSION.fullmatch(target):
        raise ReleaseError(f"{link}: points to {target!r} and not to a version beside it. Set it again.")
    if not (model_folder / target).is_dir():
        versions = ", ".join(version_folders(model_folder)) or "none"
        raise ReleaseError(f"{link}: points to version {target}, which is gone. There are: {versions}.")
    return model_folder / target


def _examine(folder: Path, progress: Progress) -> tuple[Manifest | None, list[Problem]]:
    try:
        manifest = read_manifest(folder)
    except ReleaseError as error:
        what = str(error).removeprefix(f"{folder / manifests.FILE_NAME}: ").removesuffix(f" {REPAIR}")
        return None, [Problem(manifests.FILE_NAME, what.rstrip("."))]
    with _readable(folder):
        problems = list(_unlisted(folder, manifest))
    with progress.step(f"Verifying {manifest.model} version {manifest.version}", len(manifest.files)) as step:
        for name, entry in sorted(manifest.files.items()):
            if wrong := _problem_with(folder / name, entry):
                problems.append(Problem(name, wrong))
            step.advance()
    return manifest, problems


def _problem_with(path: Path, entry: FileEntry) -> str | None:
    try:
        with _regular_file(path) as (file, size):
            digest = hashlib.sha256()
            # A file of the wrong size is refused unread.
            while size == entry.size_bytes and (chunk := file.read(_CHUNK_BYTES)):
                digest.update(chunk)
            return _difference(entry, size, digest.hexdigest())
    except OSError as error:
        return _unreadable(error)


def _difference(entry: FileEntry, size: int, sha256: str) -> str | None:
    if size == 0 and entry.size_bytes > 0:
        return f"empty, and should have {entry.size_bytes} bytes"
    if size != entry.size_bytes:
        return f"{'cut' if size < entry.size_bytes else 'altered'}: {size} bytes instead of {entry.size_bytes}"
    if sha256 != entry.sha256:
        return f"altered: its sha256 is {sha256[:12]}… instead of {entry.sha256[:12]}…"
    return None


@contextmanager
def _regular_file(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file that is neither a symlink nor a pipe or device, and yield it with its size."""
    # O_NONBLOCK: opening a pipe must not wait for a writer that never comes.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EISDIR, "not a regular file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file, status.st_size
    finally:
        os.close(descriptor)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReleaseError(f"{path}: cannot be looked into ({error.strerror}).") from error


def _unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "missing"
    # ELOOP is what O_NOFOLLOW answers to a symlink; its own words would mislead.
    if error.errno in (errno.ELOOP, errno.EISDIR):
        return "not a regular file but a link, folder or device"
    return f"cannot be read ({error.strerror or error})"


def _unlisted(folder: Path, manifest: Manifest) -> Iterator[Problem]:
    """Yield what lies in the release and is not in its manifest; symlinked folders are named, not entered."""
    folders = {parent.as_posix() for name in manifest.files for parent in Path(name).parents}
    pending = ["."]
    while pending:
        inside = pending.pop()
        for entry in sorted(os.scandir(folder / inside), key=lambda entry: entry.name):
            name = (Path(inside) / entry.name).as_posix()
            if entry.is_dir(follow_symlinks=False) and name in folders:
                pending.append(name)
            elif name in folders:
                yield Problem(name, "a link or file where the release has a folder")
            elif name != manifests.FILE_NAME and name not in manifest.files:
                yield Problem(name, "extra: the manifest does not list it; remove it")


def _listed(manifest: Manifest) -> str:
    return ", ".join(sorted(manifest.files)) or "none"
