"""Readers of JSON lines: each error names the file, the line, what stood there and the fix.

Knows JSON lines of any format, and the row format `{"text": ..., "label": ...}`; nothing of what a label means.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from octavo.data.characters import shown, well_formed
from octavo.errors import InputError
from octavo.types import Json, Row, Rows

_EXAMPLE = '{"text": "...", "label": "..."}'
_BOM = b"\xef\xbb\xbf"


def read_rows(path: str | Path, *, labelled: bool = True) -> Rows:
    """Read a split from JSON lines, one `{"text": ..., "label": ...}` a line; other keys are ignored.

    Blank lines, CRLF and a UTF-8 byte-order mark are accepted, integer labels become strings, and lone
    surrogates in JSON escapes become U+FFFD. With `labelled=False` a row may go without a label.

    Raises:
        InputError: the file cannot be read or has no rows, or a line is not such an object; it names
            `file:line`.
    """
    path = Path(path)
    objects, sha256 = read_objects(path, _EXAMPLE)
    rows = [Row(_text_of(content, where), _label_of(content, where, labelled), where) for where, content in objects]
    return Rows(path.stem, rows, sha256)


def read_objects(path: Path, example: str) -> tuple[Iterable[tuple[str, Json]], str]:
    """Return the objects of a file of JSON lines, each after its `file:line`, and the file's sha256.

    Blank lines, CRLF and a UTF-8 byte-order mark are accepted. Lines are parsed as they are asked for, so that of
    several faults in a file the first one is told. `example` is a row of the expected format, for errors.

    Raises:
        InputError: the file cannot be read or has no rows (at once), or a line is no object (when reached).
    """
    content = _read(path)
    lines = [
        (f"{path}:{number}", line)
        for number, line in enumerate(content.removeprefix(_BOM).split(b"\n"), 1)
        if line.strip()
    ]
    if not lines:
        raise InputError(f"{path}: the file has no rows. Write one {example} a line.")
    objects = ((where, _object_from_line(_decoded(line, where), where, example)) for where, line in lines)
    return objects, hashlib.sha256(content).hexdigest()


def jsonl_from_rows(rows: Iterable[Row]) -> bytes:
    """Return the JSON lines that `read_rows` reads back as these texts and labels."""
    lines: list[str] = []
    for row in rows:
        content = {"text": row.text} if row.label is None else {"text": row.text, "label": row.label}
        lines.append(json.dumps(content, ensure_ascii=False) + "\n")
    return "".join(lines).encode()


def rows_in_memory(name: str, rows: Sequence[Row]) -> Rows:
    """Return a split that was made and not read; its sha256 is that of its own JSON lines."""
    return Rows(name, rows, hashlib.sha256(jsonl_from_rows(rows)).hexdigest())


def _read(path: Path) -> bytes:
    _check_is_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error


def _check_is_file(path: Path) -> None:
    # A path that the system cannot even look up (a NUL in it, too long a name) counts as missing.
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError):
        is_folder = exists = False
    if is_folder:
        raise InputError(f"{path}: this is a folder. Name the file in it, such as {path / 'train.jsonl'}.")
    if not exists:
        raise InputError(f"{path}: there is no such file (looked from {Path.cwd()}).")


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line[error.start]:02x} at offset {error.start} of the line"
        cause = "the file looks like UTF-16" if b"\0" in line else "it is in another encoding or is not text"
        raise InputError(f"{where}: {byte} is not UTF-8; {cause}. Save the file as UTF-8.") from error


def _object_from_line(line: str, where: str, example: str) -> Json:
    try:
        content = json.loads(line)
    # Besides JSONDecodeError: integers of thousands of digits (ValueError), brackets nested without end.
    except (ValueError, RecursionError) as error:
        what = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "too deep or long"
        raise InputError(
            f"{where}: not valid JSON ({what}): {shown(line.strip())}. Write one object a line: {example}."
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected a JSON object but found {shown(line.strip())}. Write {example}.")
    return content


def _text_of(content: Json, where: str) -> str:
    if "text" not in content:
        keys = ", ".join(shown(well_formed(key)) for key in list(content)[:6]) or "none"
        raise InputError(f'{where}: there is no "text" (keys found: {keys}). Name the text column "text".')
    text = content["text"]
    if not isinstance(text, str):
        raise InputError(f'{where}: "text" is {shown(repr(text))} and should be a string.')
    if not text.strip():
        raise InputError(f'{where}: "text" is empty. Remove the line or fill in the text.')
    return well_formed(text)


def _label_of(content: Json, where: str, labelled: bool) -> str | None:
    label = content.get("label")
    if label is None and not labelled:
        return None
    if label is None:
        raise InputError(f'{where}: there is no "label" for the text {shown(well_formed(content["text"]))}. Add one.')
    if isinstance(label, int) and not isinstance(label, bool):
        return str(label)
    if not isinstance(label, str) or not label.strip():
        raise InputError(f'{where}: "label" is {shown(repr(label))} and should be a non-empty string.')
    return well_formed(label)
