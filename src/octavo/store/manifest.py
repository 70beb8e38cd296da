"""`manifest.json`: which files make a release, and the hash of each.

Canonical: one content has exactly one serialisation, and reading refuses any other, so that no byte of a
manifest can change unnoticed. This protects against accidents and half copies, not against someone who may
write to the store: they can hash again what they altered.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import msgspec

from octavo.errors import ReleaseError
from octavo.store.names import check_version, model_folder

FORMAT = 1
FILE_NAME = "manifest.json"
MAX_BYTES = 1 << 20
REPAIR = "Copy the release again, publish it anew, or go back to another version."

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}")
# Formats that run code or can carry a pickle when a library opens them.
_UNSAFE_SUFFIXES = frozenset(
    {"pkl", "pickle", "pt", "pth", "ckpt", "bin", "joblib", "dill", "npy", "npz", "h5", "keras", "mar"}
    | {"py", "pyc", "pyd", "so", "dll", "dylib", "exe", "sh"}
)


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of one file of a release."""

    sha256: str
    size_bytes: int


class _Format(msgspec.Struct, frozen=True):
    format: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of `manifest.json`.

    Attributes:
        files: every file of the release but the manifest itself, by relative path.
        variants: role of a graph → its path, such as `{"canonical": "model.onnx"}`.
        teacher: version of the fp32 reference release in the same store, where there is one.
        release_sha256: hash over the canonical JSON of all other fields; identifies the release.
    """

    format: int = FORMAT
    model: str
    version: str
    task: str
    rung: str
    created: str
    octavo: str
    files: dict[str, FileEntry]
    variants: dict[str, str]
    teacher: str | None = None
    release_sha256: str = ""


def sealed(manifest: Manifest) -> Manifest:
    """Return the manifest with its `release_sha256` filled in.

    Raises:
        ReleaseError: a path is unsafe, or a variant names a file that is not listed.
    """
    _check_content(manifest, FILE_NAME)
    return msgspec.structs.replace(manifest, release_sha256=_release_sha256(manifest))


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the one serialisation of `manifest`: sorted keys, two spaces, a line feed at the end."""
    return _canonical(msgspec.to_builtins(manifest))


def manifest_from_bytes(content: bytes, source: str) -> Manifest:
    """Read a manifest; `source` is what errors call it.

    Raises:
        ReleaseError: any byte differs from what Octavo wrote, the format is newer, or a path is unsafe.
    """
    if not content:
        raise ReleaseError(f"{source}: the manifest is empty. {REPAIR}")
    try:
        # First the format alone: a newer one may well have fields that this Manifest does not know.
        found = msgspec.json.decode(content, type=_Format).format
        if found != FORMAT:
            raise ReleaseError(f"{source}: format {found}, and this Octavo reads format {FORMAT}. Upgrade it.")
        manifest = msgspec.json.decode(content, type=Manifest)
    # Besides its own errors, msgspec lets nesting without end (RecursionError) and bad UTF-8 through.
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ReleaseError(f"{source}: the manifest is altered or cut ({error}). {REPAIR}") from error
    if manifest_bytes(manifest) != content or manifest.release_sha256 != _release_sha256(manifest):
        raise ReleaseError(f"{source}: the manifest is altered: it is not byte for byte what was written. {REPAIR}")
    _check_content(manifest, source)
    return manifest


def check_path(name: str, source: str = FILE_NAME) -> None:
    """Refuse a file name that could leave the release, hide in it, or run code.

    Raises:
        ReleaseError: the name is absolute, holds `..` or odd characters, or ends like a pickle or a program.
    """
    segments = name.split("/")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments) or len(name) > 512:
        raise ReleaseError(
            f"{source}: {name!r} is not a safe file name. Use a relative path of letters, digits, '.', '_', "
            "'-' and '+' in which no part starts with a dot."
        )
    if name == FILE_NAME:
        raise ReleaseError(f"{source}: {FILE_NAME} cannot list itself.")
    # Every suffix counts, so that model.pkl.json is refused as well as model.pkl.
    unsafe = _UNSAFE_SUFFIXES.intersection(segments[-1].lower().split(".")[1:])
    if unsafe:
        raise ReleaseError(
            f"{source}: {name!r} may run code when opened (.{min(unsafe)}); releases hold no such files."
        )


def _check_content(manifest: Manifest, source: str) -> None:
    model_folder("", manifest.model)
    check_version(manifest.version)
    if manifest.teacher is not None:
        check_version(manifest.teacher)
    for name in manifest.files:
        check_path(name, source)
    folders = {parent.as_posix() for name in manifest.files for parent in PurePosixPath(name).parents}
    for name in folders.intersection(manifest.files):
        raise ReleaseError(f"{source}: {name!r} is listed as a file and used as a folder.")
    for role, name in manifest.variants.items():
        if name not in manifest.files:
            raise ReleaseError(f"{source}: the variant {role!r} names {name!r}, which is not a file of it.")


def _release_sha256(manifest: Manifest) -> str:
    content: dict[str, Any] = msgspec.to_builtins(manifest)
    del content["release_sha256"]
    return hashlib.sha256(_canonical(content)).hexdigest()


def _canonical(content: Mapping[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content, order="deterministic"), indent=2) + b"\n"
