"""What an exception means to a user: a sentence and an exit code. A pure function; prints nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from octavo.errors import Interrupted, MissingExtraError, OctavoError

REFUSED = 1
USAGE = 2
BUG = 70
INTERRUPTED = 130
BROKEN_PIPE = 141

_EXTRAS = {
    "torch": "compress",
    "transformers": "compress",
    "safetensors": "compress",
    "onnx": "compress",
    "onnxscript": "compress",
    **dict.fromkeys(
        ("grpc", "google", "httptools", "orjson", "prometheus_client", "starlette", "uvicorn", "uvloop"), "serve"
    ),
    **dict.fromkeys(("faiss", "tantivy"), "search"),
}
_NAMED = {"faiss": "faiss-cpu"}  # where a package is imported by another name
_FULL = "The disk is full{where}. Free some space and run the same command again."


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a command ended: `kind` for programs, `message` for people, and the exit code."""

    kind: str
    message: str
    exit_code: int = USAGE

    @property
    def interrupted(self) -> bool:
        """Whether the user wanted it so."""
        return self.exit_code == INTERRUPTED


def failure_from(error: BaseException) -> Failure:
    """Return what to tell the user about `error`."""
    match error:
        case KeyboardInterrupt() | typer.Abort():
            return Failure("Interrupted", "Stopped.", INTERRUPTED)
        case Interrupted():
            return Failure("Interrupted", str(error), INTERRUPTED)
        case OctavoError():
            return Failure(type(error).__name__, str(error))
        case typer.TyperException():
            return Failure("UsageError", _usage(error))
        case OSError():
            return Failure("OSError", _system(error))
        case MemoryError():
            return Failure("MemoryError", "There is not enough memory for this.")
    if os.strerror(errno.ENOSPC) in str(error):  # as libraries in other languages pass it on
        return Failure("OSError", _FULL.format(where=""))
    what = " ".join(str(error).split())
    return Failure("Bug", f"This is a bug in Octavo: {type(error).__name__}: {what}", BUG)


@contextmanager
def needs_extra() -> Iterator[None]:
    """Turn the failed import of a package that an extra brings into an error that names the pip command.

    Raises:
        MissingExtraError: such a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        raise MissingExtraError(_NAMED.get(package, package), _EXTRAS[package]) from None


def _usage(error: typer.TyperException) -> str:
    message = error.format_message().rstrip().replace("Value error, ", "")  # the parser's own words
    message += "" if message.endswith((".", "?", "!")) else "."
    context = getattr(error, "ctx", None)
    return f"{message} See: {context.command_path} --help" if context else message


def _system(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _FULL.format(where=where)
    return f"{error.strerror or error}{where}."
