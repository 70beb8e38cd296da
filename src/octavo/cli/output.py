"""Where words go: results to stdout, everything else for people to stderr. Colours only where a terminal is."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from octavo.errors import InputError

# Into a file or a pipe, tables are as wide as they like to be.
_WIDTH_OF_FILES = 120


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the program's one place for errors, where Rich would end the process."""
        raise


def console(*, stderr: bool = False) -> Console:
    """Return a console on stdout or stderr as they are now; NO_COLOR and COLUMNS are respected."""
    made = _Console(stderr=stderr, highlight=False, markup=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _WIDTH_OF_FILES
    return made


def show(renderable: RenderableType) -> None:
    """Print a result, such as a table, to stdout."""
    console().print(renderable)


def line(text: str = "", style: str = "") -> None:
    """Print one line of a result to stdout, never wrapped: paths and commands are there to be copied."""
    console().print(Text(text, style=style), soft_wrap=True)


def tell(text: str, style: str = "dim") -> None:
    """Print one line beside the result, to stderr."""
    console(stderr=True).print(Text(text, style=style), soft_wrap=True)


def complain(message: str, label: str = "error") -> None:
    """Print an error to stderr."""
    text = Text()
    if label:
        text.append(f"{label}: ", style="bold red")
    console(stderr=True).print(text.append(message), soft_wrap=True)


def emit(document: Any) -> None:
    """Print one JSON document to stdout. Certificates and other structs keep the names of their fields."""
    import msgspec

    content = msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2)
    sys.stdout.write(content.decode() + "\n")


def write_file(path: Path, content: bytes) -> None:
    """Write a file that was asked for, whole or not at all, and the folders to it.

    Raises:
        InputError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from error


def printable(text: str) -> str:
    """Return `text` on one line, without characters that would steer a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
