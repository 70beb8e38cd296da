"""Documents to search, read one at a time from files of any size: JSON lines in BEIR's form, CSV or TSV with a header.

Knows files and fields; knows no index and no model. Of what was read it holds a digest of each id and nothing else.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from octavo.data.characters import shown
from octavo.data.json_lines import check_is_file, first_key, keys_of, lines_of, name_from, text_from, text_under
from octavo.data.logs import log_bytes, read_records
from octavo.errors import InputError
from octavo.types import Json

LONGEST_ID = 512  # characters; an index finds documents again by it

_FORM = '{"_id": "...", "title": "...", "text": "..."}'
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_LINE_BYTES = 1 << 24
_ROWS_A_REPORT = 256


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it is shown and searched.

    Attributes:
        id: of its own, and stable: a document of the same id replaces it.
        title: may be empty.
        text: may be empty.
        fields: what else is kept of it, by name; rules may look at it.
    """

    id: str
    title: str
    text: str
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """What models read: "title text", as BEIR joins them."""
        return f"{self.title} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class FieldNames:
    """Under which names a file keeps what: the first one that a row has.

    Attributes:
        id: of the document's id.
        title: of its title; a row may lack it.
        text: of its text; a row may lack it where it has a title.
        kept: other fields to keep, those that a row has.
    """

    id: tuple[str, ...] = ("_id", "id")
    title: tuple[str, ...] = ("title",)
    text: tuple[str, ...] = ("text", "contents", "body")
    kept: tuple[str, ...] = ()


def corpus_bytes(path: Path) -> int:
    """Return the size of a corpus on the disk: the total for progress. Raises InputError as `read_documents`."""
    if _is_table(path):
        check_is_file(path, "corpus.csv")
        return path.stat().st_size
    if not path.name.lower().removesuffix(".gz").endswith(".jsonl"):
        check_is_file(path, "corpus.jsonl")
        raise InputError(f"{path}: a corpus is .jsonl (also .jsonl.gz), .csv or .tsv; rename it.")
    return log_bytes([path])


def read_documents(
    path: Path, names: FieldNames, done: Callable[[int], None] = lambda _bytes: None
) -> Iterator[Document]:
    """Yield the documents of a corpus, in order; `done` is told how many more bytes were read.

    Numbers count as ids, and null as an empty title or text.

    Raises:
        InputError: the file is missing or of another kind (at once), or a row is unfit or an id occurs twice (when
            reached); names `file:line`.
    """
    corpus_bytes(path)
    rows = _table_rows(path, done) if _is_table(path) else _json_rows(path, done)
    return _distinct((where, _document(row, where, names)) for where, row in rows)


def read_ids(path: Path) -> list[str]:
    """Return the ids of a file, one a line, each once.

    Raises:
        InputError: the file cannot be read, or has none.
    """
    check_is_file(path, "ids.txt")
    with path.open("rb") as file:
        ids = [line.strip() for _, line in lines_of(file, path)]
    if not ids:
        raise InputError(f"{path}: there is no id in it. Write one a line.")
    return list(dict.fromkeys(ids))


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in _SEPARATORS


def _json_rows(path: Path, done: Callable[[int], None]) -> Iterator[tuple[str, Json]]:
    for record, where in read_records([path], done):
        assert isinstance(record, dict)  # of .jsonl, each record is an object
        yield where, record


def _table_rows(path: Path, done: Callable[[int], None]) -> Iterator[tuple[str, Json]]:
    told = 0
    with path.open("rb") as file:
        # Cells may hold line ends, so rows are told by the line on which they end.
        reader = csv.DictReader(_text_lines(file, path), delimiter=_SEPARATORS[path.suffix.lower()], strict=True)
        try:
            for number, row in enumerate(reader, 1):
                where = f"{path}:{reader.line_num}"
                if None in row:
                    raise InputError(
                        f"{where}: the row has more cells than the header. Quote cells with commas in them."
                    )
                yield where, dict(row)
                if number % _ROWS_A_REPORT == 0:
                    done(file.tell() - told)
                    told = file.tell()
        except csv.Error as error:
            raise InputError(
                f"{path}:{reader.line_num}: not valid CSV ({error}). Long texts are better off as JSON lines: {_FORM}."
            ) from error
        done(file.tell() - told)


def _text_lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """Yield lines with their ends, which belong to a cell where it is quoted."""
    number = 0
    while line := file.readline(_LINE_BYTES):
        number += 1
        if len(line) >= _LINE_BYTES:
            raise InputError(f"{path}:{number}: the line has over {_LINE_BYTES >> 10:,} KiB; no corpus has.")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}:{number}: this line is not UTF-8. Save the file as UTF-8.") from error


def _document(row: Json, where: str, names: FieldNames) -> Document:
    key = first_key(row, names.id)
    if key is None:
        fix = f"Write {_FORM}, or name your fields."
        if len(row) == 1 and ";" in next(iter(row)):  # as spreadsheets save tables in some countries
            fix = "Its columns have semicolons between; save it with commas, or with tabs as .tsv."
        raise InputError(f'{where}: there is no "{names.id[0]}" (keys found: {keys_of(row)}). {fix}')
    if first_key(row, (*names.title, *names.text)) is None:
        raise InputError(
            f'{where}: there is neither "{names.text[0]}" nor "{names.title[0]}" (keys found: {keys_of(row)}). '
            f"Write {_FORM}, or name your fields."
        )
    name = name_from(row[key], f'"{key}"', where, may_be_number=True).strip()
    if len(name) > LONGEST_ID or "\0" in name:
        raise InputError(f"{where}: the id {shown(name)} is over {LONGEST_ID} characters long, or holds a NUL.")
    kept = {field: _text_of(row[field], field, where) for field in names.kept if row.get(field) is not None}
    return Document(name, _text_at(row, names.title, where), _text_at(row, names.text, where), kept)


def _text_at(row: Json, keys: Sequence[str], where: str) -> str:
    key = first_key(row, keys)
    return "" if key is None or row[key] is None else text_under(row, key, where, may_be_empty=True).strip()


def _text_of(value: object, key: str, where: str) -> str:
    """Return a field that is kept; numbers and truth values as JSON writes them."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else text_from(value, f'"{key}"', where, may_be_empty=True)


def _distinct(documents: Iterable[tuple[str, Document]]) -> Iterator[Document]:
    seen: set[bytes] = set()  # about 80 bytes each, however long the ids are
    for where, document in documents:
        digest = hashlib.blake2b(document.id.encode(), digest_size=8).digest()
        if digest in seen:
            raise InputError(f"{where}: the id {shown(document.id)} occurs twice. Give each document an id of its own.")
        seen.add(digest)
        yield document
