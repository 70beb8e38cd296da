"""JSON lines and other files of lines: bytes to lines, lines to objects, and the values in them.

The one place that says what is wrong with a file, a line or a value: where it stands, what was found and what to
write. Knows no format: which keys there are, and what they mean, belongs to the readers.
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from octavo.data.characters import shown, well_formed
from octavo.errors import InputError
from octavo.types import Json

_BOM = b"\xef\xbb\xbf"
_UTF_16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_GZIP = b"\x1f\x8b"
_FROM_CSV = "import csv, json, sys; [print(json.dumps(row)) for row in csv.DictReader(sys.stdin)]"
_DEEPEST = 32  # levels of lists and objects; no reader wants more than three
_LOWEST_GRADE, _HIGHEST_GRADE = 1e-9, 1e9  # far beyond real ones, and within what 32-bit floats and metrics hold


# Files.


def check_is_file(path: Path, example: str = "train.jsonl") -> None:
    """Raise InputError where a path is missing, out of reach or a folder, in which one might mean `example`."""
    try:
        mode = path.stat().st_mode
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Change its permissions.") from error
    # A path that the system cannot even look up (a NUL in it, too long a name) counts as missing.
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: there is no such file (looked from {Path.cwd()}).") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: this is a folder. Name the file in it, such as {path / example}.")


def content_of(path: Path, example: str = "train.jsonl") -> bytes:
    """Return a file's bytes. Raises InputError as `check_is_file`, or where it cannot be read."""
    check_is_file(path, example)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error


def sha256_of(contents: Sequence[bytes]) -> str:
    """Return the sha256 of one content, or of the digests of several, in order."""
    digests = [hashlib.sha256(content) for content in contents]
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


# Lines and objects.


def lines_of(content: bytes | Iterable[bytes], path: Path) -> Iterator[tuple[str, str]]:
    """Yield `file:line` and the text of each line that is not blank, without its line end.

    CRLF and a UTF-8 byte-order mark are accepted. `content` may be lines already, where a file is read bit by bit.

    Raises:
        InputError: a line is not UTF-8.
    """
    for number, line in enumerate(io.BytesIO(content) if isinstance(content, bytes) else content, 1):
        own = line.removeprefix(_BOM) if number == 1 else line
        if own.strip():
            where = f"{path}:{number}"
            yield where, _decoded(own, where).rstrip("\r\n")


def objects_of(content: bytes, path: Path, form: str) -> Iterator[tuple[str, Json]]:
    """Yield `file:line` and the object of each line that is not blank; `form` is what a line should look like.

    Lines are parsed as they are asked for, so that of several faults in a file the first one is told.

    Raises:
        InputError: a line is not UTF-8, not JSON, or no object; or there is none.
    """
    found = False
    for where, line in lines_of(content, path):
        found = True
        yield where, object_from_text(line, where, form)
    if not found:
        raise InputError(f"{path}: the file has no rows: it is empty. Write {form}, one a line.")


def read_objects(path: Path, form: str) -> tuple[Iterator[tuple[str, Json]], str]:
    """Return the objects of a file, as `objects_of`, and the file's sha256.

    Raises:
        InputError: the file cannot be read (at once), or as `objects_of` (when reached).
    """
    content = content_of(path)
    return objects_of(content, path, form), sha256_of([content])


def object_from_text(line: str, where: str, form: str) -> Json:
    """Return the object that a line of JSON holds. Raises InputError, which shows `form` as the right one."""
    try:
        content = json.loads(line)
        # What nests deeper than a row does would overflow the stack later, where a message shows it.
        if line.count("[") + line.count("{") > _DEEPEST and _depth(content) > _DEEPEST:
            raise RecursionError
    # Besides JSONDecodeError: integers of thousands of digits (ValueError), brackets nested without end.
    except (ValueError, RecursionError) as error:
        what = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "too deep or long"
        raise InputError(
            f"{where}: not valid JSON ({what}): {shown(line.strip())}. Write {form}.{_way_from(where)}"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected a JSON object but found {shown(line.strip())}. Write {form}.")
    return content


def _way_from(where: str) -> str:
    """Say how a table becomes JSON lines, where the file is named as one."""
    if not where.rpartition(":")[0].lower().endswith(".csv"):
        return ""
    return f" A table with these names in its first row becomes such lines by: python -c '{_FROM_CSV}' < FILE"


def jsonl_from_objects(objects: Iterable[Json]) -> bytes:
    """Return the JSON lines that `objects_of` reads back."""
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects).encode()


# Keys and values. `what` is what a message calls a value, such as `"text"`.


def first_key(content: Json, names: Sequence[str]) -> str | None:
    """Return which of several names for the same thing an object uses; the first where it uses several."""
    return next((name for name in names if name in content), None)


def required_key(content: Json, names: Sequence[str], where: str, form: str) -> str:
    """Return what `first_key` does. Raises InputError where the object uses none of the names."""
    key = first_key(content, names)
    if key is None:
        raise InputError(f'{where}: there is no "{names[0]}" (keys found: {keys_of(content)}). Write {form}.')
    return key


def keys_of(content: Json) -> str:
    """Say which keys an object has, for a message about the one that it lacks."""
    return ", ".join(shown(well_formed(key)) for key in list(content)[:6]) or "none"


def text_under(content: Json, key: str, where: str, *, may_be_empty: bool = False) -> str:
    """Return the text under a key, as `text_from`."""
    return text_from(content[key], f'"{key}"', where, may_be_empty=may_be_empty)


def text_from(value: object, what: str, where: str, *, may_be_empty: bool = False) -> str:
    """Return a text, lone surrogates replaced. Raises InputError for what is none, or empty."""
    if not isinstance(value, str):
        raise InputError(f"{where}: {what} is {shown(repr(value))} and should be a string.")
    if not may_be_empty and not value.strip():
        raise InputError(f"{where}: {what} is empty. Remove the line or fill in the text.")
    return well_formed(value)


def name_from(value: object, what: str, where: str, *, may_be_number: bool = False) -> str:
    """Return a name, such as a label or an id, lone surrogates replaced; whole numbers become strings where allowed.

    Raises:
        InputError: the value is no string, or an empty one.
    """
    if may_be_number and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {what} is {shown(repr(value))} and should be a non-empty string.")
    return well_formed(value)


def grade_from(value: object, what: str, where: str) -> float:
    """Return a grade of relevance, 0 for irrelevant. Raises InputError for what is no number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _HIGHEST_GRADE:
        limits = f"at least 0 and at most {_HIGHEST_GRADE:.0e}"
        raise InputError(f"{where}: {what} is {shown(repr(value))} and should be a number of {limits}.")
    if 0 < value < _LOWEST_GRADE:
        raise InputError(f"{where}: {what} is {value!r}, which is too small to count. Write 0 for irrelevant.")
    return float(value)


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line[error.start]:02x} at offset {error.start} of the line"
        if line.startswith(_GZIP):
            raise InputError(f"{where}: the file is compressed with gzip. Unpack it first: gunzip FILE") from error
        is_utf_16 = b"\0" in line or line.startswith(_UTF_16_BOMS)
        cause = "the file looks like UTF-16" if is_utf_16 else "it is in another encoding or is not text"
        raise InputError(f"{where}: {byte} is not UTF-8; {cause}. Save the file as UTF-8.") from error


def _depth(content: Any) -> int:
    """Return how many levels of lists and objects there are, without recursion; counting ends above `_DEEPEST`."""
    depth, level = 0, [content]
    while depth <= _DEEPEST:
        level = [one for one in level if isinstance(one, dict | list)]
        if not level:
            break
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth
