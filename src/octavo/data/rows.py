"""Rows of labelled texts, `{"text": ..., "label": ...}` a line, with a `"text_pair"` where two texts are judged.

Knows nothing of what a label means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from octavo.data.characters import shown, well_formed
from octavo.data.json_lines import (
    jsonl_from_objects,
    name_from,
    read_objects,
    required_key,
    sha256_of,
    text_under,
)
from octavo.errors import InputError
from octavo.types import Json, Row, Rows

ROW_FORM = '{"text": "...", "label": "..."}'


def read_rows(path: str | Path, *, labelled: bool = True) -> Rows:
    """Read a split from JSON lines, one `{"text": ..., "label": ...}` a line; other keys are ignored.

    A row of two texts has the other one under `text_pair`; null there counts as none. Blank lines, CRLF and a
    UTF-8 byte-order mark are accepted, integer labels become strings, and lone surrogates in JSON escapes become
    U+FFFD. With `labelled=False` a row may go without a label.

    Raises:
        InputError: the file cannot be read or has no rows, or a line is not such an object; it names
            `file:line`.
    """
    path = Path(path)
    objects, sha256 = read_objects(path, ROW_FORM)
    return Rows(path.stem, [_row_from_object(content, where, labelled) for where, content in objects], sha256)


def jsonl_from_rows(rows: Iterable[Row]) -> bytes:
    """Return the JSON lines that `read_rows` reads back as these texts and labels."""
    return jsonl_from_objects(map(_object_from_row, rows))


def rows_in_memory(name: str, rows: Sequence[Row]) -> Rows:
    """Return a split that was made and not read; its sha256 is that of its own JSON lines."""
    return Rows(name, rows, sha256_of([jsonl_from_rows(rows)]))


def texts_under(content: Json, where: str, form: str, *, may_be_empty: bool = False) -> tuple[str, str | None]:
    """Return the text of an object, and the one that makes a pair of it, or None.

    Raises:
        InputError: there is no text, or one that is no string or empty; names `where`, and `form` as the right one.
    """
    text = text_under(content, required_key(content, ["text"], where, form), where, may_be_empty=may_be_empty)
    if content.get("text_pair") is None:
        return text, None
    return text, text_under(content, "text_pair", where, may_be_empty=may_be_empty)


def texts_of(row: Row) -> tuple[str, ...]:
    """Return the one or two texts of a row."""
    return (row.text,) if row.second is None else (row.text, row.second)


def _row_from_object(content: Json, where: str, labelled: bool) -> Row:
    text, second = texts_under(content, where, ROW_FORM)
    return Row(text, _label_of(content, where, labelled), where, second)


def _object_from_row(row: Row) -> Json:
    content = {"text": row.text, "text_pair": row.second, "label": row.label}
    return {key: value for key, value in content.items() if value is not None}


def _label_of(content: Json, where: str, labelled: bool) -> str | None:
    label = content.get("label")
    if label is None and not labelled:
        return None
    if label is None:
        raise InputError(f'{where}: there is no "label" for the text {shown(well_formed(content["text"]))}. Add one.')
    return name_from(label, '"label"', where, may_be_number=True)
