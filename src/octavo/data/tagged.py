"""Reader of tagged sentences, `{"tokens": [...], "tags": [...]}` a line, with an `"intent"` where there is one.

Knows which tags make sense together, and not which ones a model has. There are two schemes. Entities are tagged in
IOB2: `B-x` on the first word of an entity of type x, `I-x` on its other words, `O` on the rest. Other tags (term
weights, parts of speech) are plain: each word's tag is an answer by itself.

A gold `I-x` with no `B-x` or `I-x` before it is refused. Counted strictly, as Octavo does, it is no entity, so that
the row would silently be worth less than its author thinks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from octavo.data.characters import shown, well_formed
from octavo.data.json_lines import name_from, read_objects, required_key
from octavo.errors import InputError
from octavo.types import Json

ROW_FORMAT = '{"tokens": ["play", "jazz"], "tags": ["O", "B-genre"]}'
OUTSIDE = "O"
_PREFIXES = ("B-", "I-")


class Scheme(StrEnum):
    """How tags are meant."""

    IOB2 = "iob2"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class TaggedRow:
    """A sentence in words, each with its tag, perhaps with an intent, and where it was read (`file:line`)."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    intent: str | None
    source: str


@dataclass(frozen=True, slots=True)
class TaggedRows:
    """A split of tagged sentences, and the sha256 of the file that they were read from."""

    name: str
    rows: Sequence[TaggedRow]
    sha256: str

    def __len__(self) -> int:
        return len(self.rows)


def read_tagged(path: str | Path) -> TaggedRows:
    """Read a split of tagged sentences from JSON lines; other keys are ignored.

    Blank lines, CRLF and a UTF-8 byte-order mark are accepted, and lone surrogates in JSON escapes become U+FFFD.
    A blank token (empty, or white space only) is refused: no tokenizer sees anything of it, and no text that a user
    types has such a word.

    Raises:
        InputError: the file cannot be read or has no rows, a line is not such an object, tags make no sense where
            they stand, or only some rows have an intent; it names `file:line`.
    """
    path = Path(path)
    objects, sha256 = read_objects(path, ROW_FORMAT)
    rows = [_row_from_object(content, where) for where, content in objects]
    _check_one_scheme(rows)
    _check_orphans(rows)
    _check_intents(rows)
    return TaggedRows(path.stem, rows, sha256)


def scheme_of(tags: Iterable[str]) -> Scheme:
    """Return IOB2 where any tag begins with `B-` or `I-`."""
    return Scheme.IOB2 if any(tag.startswith(_PREFIXES) for tag in tags) else Scheme.PLAIN


def fits(tag: str, scheme: Scheme) -> bool:
    """Return whether a tag belongs to a scheme; `O` belongs to both."""
    return tag == OUTSIDE or tag.startswith(_PREFIXES) == (scheme is Scheme.IOB2)


def fault_of_tag(tag: str) -> str | None:
    """Return what is wrong with a tag taken by itself, or None.

    Types may hold dashes but not begin or end with one: `B--x` and `B-x` would read as the same type to some tools
    and as two to others.
    """
    if not tag.strip():
        return "is blank"
    if tag[:2] in ("b-", "i-"):
        return f"is written {shown(tag[0].upper() + tag[1:])} in IOB2"
    if tag.startswith(_PREFIXES) and (not tag[2:].strip() or tag[2:].strip(" -") != tag[2:]):
        return "should be B- or I- and the name of an entity type, such as B-time"
    return None


def _row_from_object(content: Json, where: str) -> TaggedRow:
    tokens = _strings(content, "tokens", "words", where)
    for place, token in enumerate(tokens, 1):
        if not token.strip():
            raise InputError(f"{where}: token {place} is blank ({shown(token)}). Remove it and its tag.")
    tags = _strings(content, "tags", "names of tags, not numbers", where)
    if len(tags) != len(tokens):
        raise InputError(
            f"{where}: there are {len(tokens)} tokens and {len(tags)} tags "
            f"(it begins {shown(' '.join(tokens))}). Give each token one tag."
        )
    for place, tag in enumerate(tags, 1):
        if fault := fault_of_tag(tag):
            raise InputError(f"{where}: tag {place}, {shown(tag)}, {fault}.")
    intent = content.get("intent")
    return TaggedRow(tokens, tags, None if intent is None else name_from(intent, '"intent"', where), where)


def _strings(content: Json, key: str, meaning: str, where: str) -> tuple[str, ...]:
    values: Any = content[required_key(content, [key], where, ROW_FORMAT)]
    if not isinstance(values, list):
        raise InputError(f'{where}: "{key}" is {shown(repr(values))} and should be a list of {meaning}.')
    if not values:
        raise InputError(f'{where}: "{key}" is empty. Remove the line or fill it in.')
    for place, value in enumerate(values, 1):
        if not isinstance(value, str):
            raise InputError(f'{where}: item {place} of "{key}" is {shown(repr(value))}; write {meaning}.')
    return tuple(map(well_formed, values))


def _check_one_scheme(rows: Sequence[TaggedRow]) -> None:
    """Refuse entity tags beside plain ones, which usually are those of a third scheme, such as IOBES."""
    first: tuple[str, str] | None = None
    for row in rows:
        for tag in row.tags:
            if tag == OUTSIDE:
                continue
            first = first or (tag, row.source)
            if tag.startswith(_PREFIXES) != first[0].startswith(_PREFIXES):
                raise InputError(
                    f"{row.source}: the tag {shown(tag)} does not go with {shown(first[0])} ({first[1]}). Use O, B-x "
                    "and I-x alone (IOB2; convert IOBES and BILOU), or tags that never begin with B- or I-."
                )


def _check_orphans(rows: Sequence[TaggedRow]) -> None:
    for row in rows:
        before = OUTSIDE
        for place, tag in enumerate(row.tags):
            if tag.startswith("I-") and before[2:] != tag[2:]:
                begin = f"B-{tag[2:]}"
                raise InputError(
                    f"{row.source}: token {place + 1} ({shown(row.tokens[place])}) has the tag {shown(tag)} with "
                    f"neither {shown(begin)} nor {shown(tag)} before it, so it would count as no entity. "
                    f"Write {shown(begin)}."
                )
            before = tag


def _check_intents(rows: Sequence[TaggedRow]) -> None:
    for row in rows:
        if (row.intent is None) != (rows[0].intent is None):
            has, lacks = (rows[0], row) if row.intent is None else (row, rows[0])
            raise InputError(
                f'{lacks.source}: this row has no "intent", and {has.source} has one. Give all rows one, or none.'
            )
