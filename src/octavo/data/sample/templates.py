"""Home Assistant's sentence templates: a small grammar, read into a tree, from which sentences are drawn.

    (a|b)      one of them                 {list}        a value of a list, tagged `list`
    [a]        a or nothing                {list:slot}   a value of a list, tagged `slot`
    [a|b]      a, b or nothing             <rule>        the expansion rule of that name
    (a;b)      all of them, in any order

Knows nothing of intents and of where values come from.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import TypeVar

from octavo.data.characters import shown
from octavo.data.splits import place
from octavo.errors import InputError

T = TypeVar("T")

_SPECIAL = "()[]{}<>|;"


@dataclass(frozen=True, slots=True)
class Text:
    """Words as they stand."""

    text: str


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for a value of `values`, which is tagged `name`."""

    values: str
    name: str


@dataclass(frozen=True, slots=True)
class Series:
    """All parts, in order."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the parts."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Permutation:
    """All parts, in any order."""

    parts: tuple[Node, ...]


Node = Text | Slot | Series | Choice | Permutation
# A stretch of a sentence, with the slot whose value it is.
Piece = tuple[str, Slot | None]


class Chance:
    """A source of choices that follows from a seed alone: the same on every machine and version of Python."""

    def __init__(self, seed: str) -> None:
        # Of `random`, only random() is promised to stay the same.
        self._random = random.Random(int(place(seed, "chance") * 2**48))

    def below(self, bound: int) -> int:
        """Return a whole number from 0 to `bound` - 1."""
        return int(self._random.random() * bound)

    def comes_true(self, share: float) -> bool:
        """Return true in this share of cases."""
        return self._random.random() < share

    def one_of(self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in some order."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in items]


def parse(template: str, rules: Mapping[str, str]) -> Node:
    """Return the tree of a template, with every expansion rule put in its place.

    Raises:
        InputError: brackets that do not match, a group with both `|` and `;`, or a rule that is unknown or
            contains itself.
    """
    return _Parser(template, rules, ()).whole()


def slots_of(node: Node) -> Iterator[Slot]:
    """Yield every slot of a tree."""
    if isinstance(node, Slot):
        yield node
    elif not isinstance(node, Text):
        for part in node.parts:
            yield from slots_of(part)


def wordings(node: Node) -> Iterator[str]:
    """Yield every text of a tree, with `{name}` for a slot. Trees of real sentences have millions."""
    match node:
        case Text():
            yield node.text
        case Slot():
            yield f"{{{node.name}}}"
        case Choice():
            for part in node.parts:
                yield from wordings(part)
        case Series():
            yield from map("".join, product(*(wordings(part) for part in node.parts)))
        case Permutation():
            for parts in permutations(node.parts):
                yield from map(" ".join, product(*(wordings(part) for part in parts)))


def draw(node: Node, value_of: Callable[[Slot], str], chance: Chance) -> list[Piece]:
    """Return the pieces of one sentence; spaces may stand double."""
    match node:
        case Text():
            return [(node.text, None)]
        case Slot():
            return [(value_of(node), node)]
        case Choice():
            return draw(chance.one_of(node.parts), value_of, chance)
        case Series():
            return [piece for part in node.parts for piece in draw(part, value_of, chance)]
        case Permutation():
            ordered = chance.shuffled(node.parts)
            return [piece for part in ordered for piece in ((" ", None), *draw(part, value_of, chance), (" ", None))]


class _Parser:
    """Reads one template from left to right; `at` is the next character."""

    def __init__(self, template: str, rules: Mapping[str, str], within: tuple[str, ...]) -> None:
        self._template, self._rules, self._within = template, rules, within
        self._at = 0

    def whole(self) -> Node:
        node = self._sequence()
        if self._at < len(self._template):
            raise self._error(f"'{self._template[self._at]}' is out of place")
        return node

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while (character := self._peek()) and character not in ")]}>|;":
            parts.append(self._part(character))
        return parts[0] if len(parts) == 1 else Series(tuple(parts))

    def _part(self, character: str) -> Node:
        match character:
            case "(":
                return self._group(")")
            case "[":
                return Choice((self._group("]"), Text("")))
            case "{":
                values, _, name = self._enclosed("}").partition(":")
                return Slot(values, name or values)
            case "<":
                return self._rule(self._enclosed(">"))
        start = self._at
        while (character := self._peek()) and character not in _SPECIAL:
            self._at += 1
        return Text(self._template[start : self._at])

    def _group(self, closing: str) -> Node:
        self._at += 1
        parts = [self._sequence()]
        separators: set[str] = set()
        while (separator := self._peek()) and separator in "|;":
            self._at += 1
            separators.add(separator)
            parts.append(self._sequence())
        if self._peek() != closing:
            raise self._error(f"'{closing}' is missing")
        if len(separators) > 1:
            raise self._error("one group has both '|' and ';'")
        self._at += 1
        if len(parts) == 1:
            return parts[0]
        return Permutation(tuple(parts)) if ";" in separators else Choice(tuple(parts))

    def _enclosed(self, closing: str) -> str:
        end = self._template.find(closing, self._at)
        if end < 0:
            raise self._error(f"'{closing}' is missing")
        name = self._template[self._at + 1 : end]
        self._at = end + 1
        return name

    def _rule(self, name: str) -> Node:
        if name not in self._rules or name in self._within:
            raise self._error(f"the rule <{name}> {'contains itself' if name in self._within else 'is unknown'}")
        return _Parser(self._rules[name], self._rules, (*self._within, name)).whole()

    def _peek(self) -> str:
        return self._template[self._at : self._at + 1]

    def _error(self, what: str) -> InputError:
        return InputError(f"The template {shown(self._template)} cannot be read: {what}, at character {self._at + 1}.")
