"""What understanding a query does to its results: a small table of rules, declared in TOML or JSON.

    [[rules]]
    when = { intent = "docker", confidence = 0.6 }
    match = { field = "title", contains = "docker" }
    boost = 1.5

    [[rules]]
    when = { slot = "area" }
    match = { field = "area", equals = "{slot}" }
    filter = true

A rule applies where the query has the intent or the slot. It then keeps the matching documents alone (`filter`), or
multiplies their scores (`boost`). Rules see what was recalled, not the whole index. Knows no model and no index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from octavo.data.characters import text_key
from octavo.data.json_lines import content_of
from octavo.errors import InputError
from octavo.search.documents import Document

ANY = "*"


@dataclass(frozen=True, slots=True)
class Intent:
    """What a query is about, as a model said."""

    model: str
    label: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Slot:
    """What a query names: `query[start:end]`, as a model said."""

    model: str
    type: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Understanding:
    """What models made of a query."""

    intents: tuple[Intent, ...] = ()
    slots: tuple[Slot, ...] = ()


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which queries a rule is for.

    Attributes:
        intent: that the query has; `*` for any.
        confidence: that the intent has at least.
        slot: type of a slot that the query names.
        value: that the slot has, whatever its case; empty for any.
    """

    intent: str = ""
    confidence: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    slot: str = ""
    value: str = ""


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which documents it is about. `{intent}` and `{slot}` stand for what the query has; case does not count.

    Attributes:
        field: `id`, `title`, `text`, or one that the index keeps.
        equals: what the field is.
        contains: what stands in the field.
    """

    field: str
    equals: str = ""
    contains: str = ""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule: `when` a query is so, documents that `match` are kept alone, or count `boost` times as much."""

    when: When
    match: Match
    filter: bool = False
    boost: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of rules, all of which apply that can."""

    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """Rules that apply to one query, with the texts that their documents have to have.

    Attributes:
        rules: each with its number in the table, from 1, and the texts that it looks for.
    """

    rules: tuple[tuple[int, Rule, tuple[str, ...]], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Say in a few words what each does, for the answer."""
        return tuple(f"{number}: {_what(rule, texts)}" for number, rule, texts in self.rules)

    def boost(self, document: Document) -> float:
        """Return by what a document's score is multiplied; 0 for one that a filter drops."""
        factor = 1.0
        for _, rule, texts in self.rules:
            matches = _matches(rule.match, texts, document)
            if rule.filter and not matches:
                return 0.0
            if matches:
                factor *= rule.boost
        return factor


def read_rules(path: Path) -> Rules:
    """Read a table of rules, .toml or .json.

    Raises:
        InputError: the file is missing, or a rule is unfit.
    """
    content = content_of(path, "rules.toml")
    decode = msgspec.json.decode if path.suffix.lower() == ".json" else msgspec.toml.decode
    try:
        table: Rules = decode(content, type=Rules)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}. docs/search.md shows every key of a rule.") from None
    for number, rule in enumerate(table.rules, 1):
        if problem := _problem(rule):
            raise InputError(f"{path}: rule {number} {problem}.")
    return table


def applied(rules: Sequence[Rule], understanding: Understanding) -> Applied:
    """Return the rules that apply to a query."""
    found = ((number, rule, _texts(rule, understanding)) for number, rule in enumerate(rules, 1))
    return Applied(tuple((number, rule, texts) for number, rule, texts in found if texts))


def _problem(rule: Rule) -> str:
    if bool(rule.when.intent) == bool(rule.when.slot):
        return 'needs either an "intent" or a "slot" under "when"'
    if bool(rule.match.equals) == bool(rule.match.contains):
        return 'needs either "equals" or "contains" under "match"'
    if not rule.filter and rule.boost == 1.0:
        return 'does nothing: give "filter = true" or a "boost" other than 1'
    return ""


def _texts(rule: Rule, understanding: Understanding) -> tuple[str, ...]:
    """Return what documents have to have for a rule, once for each intent or slot that it is for; none if for none."""
    when, looked_for = rule.when, rule.match.equals or rule.match.contains
    if when.slot:
        values = [slot.text for slot in understanding.slots if slot.type == when.slot]
        wanted = [value for value in values if not when.value or text_key(value) == text_key(when.value)]
        return tuple(dict.fromkeys(looked_for.replace("{slot}", value) for value in wanted))
    labels = [
        intent.label
        for intent in understanding.intents
        if when.intent in (ANY, intent.label) and intent.confidence >= when.confidence
    ]
    return tuple(dict.fromkeys(looked_for.replace("{intent}", label) for label in labels))


def passes(filters: Mapping[str, str], document: Document) -> bool:
    """Return whether a document has the texts that are asked for, by field; case does not count."""
    return all(text_key(_value(document, field)) == text_key(text) for field, text in filters.items())


def _matches(match: Match, texts: Sequence[str], document: Document) -> bool:
    value = text_key(_value(document, match.field))
    if match.equals:
        return any(value == text_key(text) for text in texts)
    return any(text_key(text) in value for text in texts)


def _value(document: Document, field: str) -> str:
    known = {"id": document.id, "title": document.title, "text": document.text}
    return known[field] if field in known else document.fields.get(field, "")


def _what(rule: Rule, texts: Sequence[str]) -> str:
    does = "only" if rule.filter else f"{rule.boost:g} ×"
    return f"{does} {rule.match.field} {'=' if rule.match.equals else '~'} {' or '.join(texts)}"
