"""JSON lines, object by object, for the readers of queries and documents.

Knows how a line becomes an object, and what is said about one that does not; the meaning of keys belongs to the
readers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from octavo.data.characters import shown, well_formed
from octavo.data.rows import _BOM, _check_is_file, _decoded, _read
from octavo.errors import InputError
from octavo.types import Json

_HIGHEST_GRADE = 1e9  # far above any real one, and far below where 32-bit floats end


def content_of(path: Path) -> bytes:
    """Return a file's bytes. Raises InputError where there is no such file, or it cannot be read."""
    _check_is_file(path)
    return _read(path)


def sha256_of(contents: Sequence[bytes]) -> str:
    """Return the sha256 of one content, or of the digests of several, in order."""
    digests = [hashlib.sha256(content) for content in contents]
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


def lines_of(content: bytes, path: Path) -> Iterator[tuple[str, str]]:
    """Yield `file:line` and the text of each line that is not blank, without its line end.

    Raises:
        InputError: a line is not UTF-8.
    """
    for number, line in enumerate(content.removeprefix(_BOM).split(b"\n"), 1):
        if line.strip():
            where = f"{path}:{number}"
            yield where, _decoded(line, where).rstrip("\r")


def objects_of(content: bytes, path: Path, form: str) -> Iterator[tuple[str, Json]]:
    """Yield `file:line` and the object of each line that is not blank; `form` is what a line should look like.

    Raises:
        InputError: a line is not UTF-8, not JSON, or no object.
    """
    for where, line in lines_of(content, path):
        yield where, object_from_text(line, where, form)


def object_from_text(line: str, where: str, form: str) -> Json:
    """Return the object that a line of JSON holds. Raises InputError, which shows `form` as the right one."""
    try:
        content = json.loads(line)
    # Besides JSONDecodeError: integers of thousands of digits (ValueError), brackets nested without end.
    except (ValueError, RecursionError) as error:
        what = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "too deep or long"
        raise InputError(f"{where}: not valid JSON ({what}): {shown(line.strip())}. Write {form}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected a JSON object but found {shown(line.strip())}. Write {form}.")
    return content


def keys_of(content: Json) -> str:
    """Say which keys an object has, for a message about the one that it lacks."""
    return ", ".join(shown(well_formed(key)) for key in list(content)[:6]) or "none"


def first_key(content: Json, names: Sequence[str]) -> str | None:
    """Return which of several names for the same thing an object uses; the first where it uses several."""
    return next((name for name in names if name in content), None)


def text_under(content: Json, key: str, where: str, *, may_be_empty: bool = False) -> str:
    """Return the text under a key, lone surrogates replaced. Raises InputError where it is none, or empty."""
    text = content[key]
    if not isinstance(text, str):
        raise InputError(f'{where}: "{key}" is {shown(repr(text))} and should be a string.')
    if not may_be_empty and not text.strip():
        raise InputError(f'{where}: "{key}" is empty. Remove the line or fill in the text.')
    return well_formed(text)


def grade_from(value: object, what: str, where: str) -> float:
    """Return a grade of relevance, 0 for irrelevant. Raises InputError for what is no number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _HIGHEST_GRADE:
        raise InputError(f"{where}: {what} is {shown(repr(value))} and should be a number of at least 0.")
    return float(value)
