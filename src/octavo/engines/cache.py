"""Compiled engines on disk, beside no release: losing the cache costs a compilation, never an answer.

A key names the release, the backend's version and the CPU, so a blob is never run where it was not made.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from octavo.engines.hardware import hardware_key, this_hardware

Compiled = TypeVar("Compiled")
_DIGEST_BYTES = 32
_MOST_BLOBS = 24


def cache_folder() -> Path:
    """Return where compiled engines are kept: `$OCTAVO_CACHE`, or `octavo` in the user's cache folder."""
    if folder := os.environ.get("OCTAVO_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "octavo"


def cached_blob(
    release_key: str | None,
    backend: str,
    compile_: Callable[[], Compiled],
    export: Callable[[Compiled], bytes],
    import_: Callable[[bytes], Compiled],
) -> Compiled:
    """Return a compiled model out of the cache, or compile it and keep it there. Without a key, just compile.

    A blob that is damaged or that the backend refuses is compiled anew. A cache that cannot be read or
    written, or has no place because the user has no home, is no error.
    """
    if release_key is None:
        return compile_()
    key = hashlib.sha256("\0".join((release_key, backend, hardware_key(this_hardware()))).encode()).hexdigest()
    name = f"{key}.blob"
    with contextlib.suppress(OSError, RuntimeError):
        content = (cache_folder() / name).read_bytes()
        digest, blob = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(blob).digest() == digest:
            return import_(blob)
    compiled = compile_()
    with contextlib.suppress(OSError, RuntimeError):
        blob = export(compiled)
        write_atomically(cache_folder() / name, hashlib.sha256(blob).digest() + blob)
        _drop_oldest(cache_folder())
    return compiled


def _drop_oldest(folder: Path) -> None:
    """Keep the newest engines: a blob is about as large as its model, and versions come and go."""
    blobs = sorted(folder.glob("*.blob"), key=lambda file: file.stat().st_mtime)
    for blob in blobs[:-_MOST_BLOBS]:
        blob.unlink(missing_ok=True)


def write_atomically(file: Path, content: bytes) -> None:
    """Write a file of the cache whole or not at all, with the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as draft:
        try:
            draft.write(content)
            draft.close()
            Path(draft.name).replace(file)
        except BaseException:
            Path(draft.name).unlink(missing_ok=True)
            raise
