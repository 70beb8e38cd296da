"""The sample for tagging: what does this command name? English sentences drawn from Home Assistant's templates.

These are templates filled with values, not what people said: say "templates" wherever a result on them is reported.
A template's sentences are in one split only, and part of the values in dev and test are in no other split.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

from octavo.data.json_lines import jsonl_from_objects
from octavo.data.sample.packages import read_home_assistant, write_files
from octavo.data.sample.templates import Chance, Node, Piece, Slot, draw, parse, slots_of, wordings
from octavo.data.sample.values import RANGES, VALUES, in_words
from octavo.data.splits import place

ATTRIBUTION = """\
The sentences of this sample are not what people said: they were drawn from templates.

The templates come from Home Assistant's intents (https://github.com/OHF-Voice/intents), by the Home
Assistant authors, licensed under the Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0).
They were taken from the file data/en.json of the Python package home-assistant-intents.

Changes made here: the templates were expanded at random; the names of rooms, devices, people, lists
and the like, which the templates leave open, were written for this sample; the text was put in lower
case, divided into words and tagged (IOB2); templates, and part of the values, were dealt to one split each.
"""

SIZES = {"train": 3000, "dev": 500, "test": 1500}
LEAST_TEMPLATES = 4
# How often dev and test draw a value that train never has.
UNSEEN_SHARE = 0.4

_TEST_SHARE, _DEV_SHARE = 0.3, 0.1
_TEST_VALUES, _DEV_VALUES = 0.25, 0.12
_SPOKEN_SHARE = 0.25
_MOST_TRIES = 25
# Words, numbers and single signs: a boundary of a slot is never visible in how its words are divided.
_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d]+(?:'[^\W\d]+)*|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words of a command, their IOB2 tags, and the intent of its template (`HassTurnOn`)."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    intent: str
    template: str

    @property
    def text(self) -> str:
        """The words with spaces between."""
        return " ".join(self.tokens)


@dataclass(frozen=True, slots=True)
class SlotSample:
    """Tagged sentences from templates: three splits that share no template and no text.

    Attributes:
        attribution: where the templates come from, their licence and what was changed; goes wherever they go.
    """

    train: tuple[Sentence, ...]
    dev: tuple[Sentence, ...]
    test: tuple[Sentence, ...]
    attribution: str = ATTRIBUTION

    @property
    def slots(self) -> tuple[str, ...]:
        """The types of entities, sorted; `train` has every one."""
        return tuple(sorted({tag[2:] for sentence in self.train for tag in sentence.tags if tag != "O"}))

    @property
    def intents(self) -> tuple[str, ...]:
        """The intents, sorted; each split has every one."""
        return tuple(sorted({sentence.intent for sentence in self.train}))


def slot_sample() -> SlotSample:
    """Draw the sample from templates; the same on every machine.

    Raises:
        MissingExtraError: the package `home-assistant-intents` is not installed.
        InputError: its data file is damaged, or has a template that cannot be read.
    """
    content = read_home_assistant()
    lists = _lists(content)
    dealt = _dealt(_templates(content, lists))
    taken: set[str] = set()
    train, dev, test = (
        tuple(_sentences(dealt[split], _Values(lists, split), size, taken)) for split, size in SIZES.items()
    )
    return SlotSample(train, dev, test)


def write_slots(folder: str | Path) -> SlotSample:
    """Write `train.jsonl`, `dev.jsonl`, `test.jsonl` and `ATTRIBUTION.txt`; return the sample, drawn from templates.

    A line is `{"tokens": [...], "tags": [...], "intent": "..."}`.

    Raises:
        MissingExtraError: the package `home-assistant-intents` is not installed.
        InputError: the folder cannot be written.
    """
    sample = slot_sample()
    splits = {"train": sample.train, "dev": sample.dev, "test": sample.test}
    files = {f"{name}.jsonl": jsonl_from_objects([_object(s) for s in sentences]) for name, sentences in splits.items()}
    write_files(folder, {**files, "ATTRIBUTION.txt": sample.attribution.encode()})
    return sample


@dataclass(frozen=True, slots=True)
class _Template:
    text: str
    intent: str
    tree: Node
    # Of the devices that {name} may be: lights, locks and so on.
    domains: tuple[str, ...]

    @property
    def slots(self) -> set[str]:
        return {slot.name for slot in slots_of(self.tree)}


def _templates(content: Mapping[str, Any], lists: Mapping[str, Sequence[str]]) -> dict[str, list[_Template]]:
    """Return intent → its templates, in the order of their hash, for the intents that have enough of them."""
    by_intent: dict[str, list[_Template]] = {}
    for intent in sorted(content["intents"]):
        domains: dict[str, set[str]] = defaultdict(set)
        for block in content["intents"][intent]["data"]:
            for text in block["sentences"]:
                domains[text] |= set((block.get("requires_context") or {}).get("domain", ()))
        trees = ((text, parse(text, content["expansion_rules"])) for text in domains)
        templates = [_Template(text, intent, tree, tuple(sorted(domains[text] & set(VALUES)))) for text, tree in trees]
        usable = [template for template in templates if _can_be_filled(template, lists)]
        if len(usable) >= LEAST_TEMPLATES:
            by_intent[intent] = sorted(usable, key=lambda template: place(template.text, "template"))
    return by_intent


def _can_be_filled(template: _Template, lists: Mapping[str, Sequence[str]]) -> bool:
    needed = {slot.values for slot in slots_of(template.tree)}
    return needed <= {"name", *lists, *VALUES} and ("name" not in needed or bool(template.domains))


def _dealt(by_intent: Mapping[str, list[_Template]]) -> dict[str, dict[str, list[_Template]]]:
    """Return split → intent → templates; every slot of dev and test is one of train's too."""
    dealt: dict[str, dict[str, list[_Template]]] = {split: {} for split in SIZES}
    for intent, templates in by_intent.items():
        in_test = max(1, round(len(templates) * _TEST_SHARE))
        in_dev = max(1, round(len(templates) * _DEV_SHARE))
        dealt["test"][intent] = templates[:in_test]
        dealt["dev"][intent] = templates[in_test : in_test + in_dev]
        dealt["train"][intent] = templates[in_test + in_dev :]
    learnt = {slot for templates in dealt["train"].values() for template in templates for slot in template.slots}
    for split in ("dev", "test"):
        for intent, templates in dealt[split].items():
            dealt[split][intent] = [template for template in templates if template.slots <= learnt]
    return dealt


def _sentences(
    by_intent: Mapping[str, list[_Template]], values: _Values, size: int, taken: set[str]
) -> Iterator[Sentence]:
    """Yield sentences that are not in `taken` yet, in rounds over the intents, until there are `size`.

    An intent's share grows with the square root of its templates: a few have a hundred, most have under ten.
    """
    sources = {intent: [_source(t, values, taken) for t in templates] for intent, templates in by_intent.items()}
    turns = {intent: isqrt(len(templates)) for intent, templates in by_intent.items()}
    count = 0
    while any(sources.values()):
        for intent, left in sources.items():
            for _ in range(min(turns[intent], len(left))):
                source = left.pop(0)
                if (sentence := next(source, None)) is None:
                    continue
                left.append(source)
                yield sentence
                count += 1
                if count == size:
                    return


def _source(template: _Template, values: _Values, taken: set[str]) -> Iterator[Sentence]:
    """Yield new sentences of a template until it has hardly any left."""
    chance = Chance(f"{values.split}\0{template.intent}\0{template.text}")
    tries = 0
    while tries < _MOST_TRIES:
        pieces = draw(template.tree, lambda slot: values.draw(slot, template.domains, chance), chance)
        sentence = _tagged(pieces, template)
        tries += 1
        if sentence.text not in taken:
            taken.add(sentence.text)
            tries = 0
            yield sentence


def _tagged(pieces: Sequence[Piece], template: _Template) -> Sentence:
    text = "".join(piece for piece, _ in pieces).lower()
    # The piece that each character belongs to.
    owner = [number for number, (piece, _) in enumerate(pieces) for _ in piece]
    tokens, tags, last = [], [], -1
    for match in _TOKEN.finditer(text):
        number = owner[match.start()]
        slot = pieces[number][1]
        tokens.append(match.group())
        tags.append("O" if slot is None else f"{'I' if number == last else 'B'}-{slot.name}")
        last = number
    return Sentence(tuple(tokens), tuple(tags), template.intent, template.text)


class _Values:
    """Draws values for the slots of one split; dev and test have values that no other split draws."""

    def __init__(self, lists: Mapping[str, tuple[str, ...]], split: str) -> None:
        self.split = split
        self._lists = lists
        self._own = {name: _dealt_to(split, values) for name, values in VALUES.items()}
        self._shared = {name: _dealt_to("train", values) for name, values in VALUES.items()}

    def draw(self, slot: Slot, domains: Sequence[str], chance: Chance) -> str:
        if slot.values in self._lists:
            value = chance.one_of(self._lists[slot.values])
            spoken = value.isdecimal() and int(value) <= 100 and chance.comes_true(_SPOKEN_SHARE)
            return in_words(int(value)) if spoken else value
        name = chance.one_of(domains) if slot.values == "name" else slot.values
        unseen = self.split != "train" and chance.comes_true(UNSEEN_SHARE)
        return chance.one_of(self._own[name] if unseen and self._own[name] else self._shared[name])


def _dealt_to(split: str, values: Sequence[str]) -> list[str]:
    return [value for value in values if _split_of_value(value) == split]


def _split_of_value(value: str) -> str:
    """Return the only split that draws the value, or `train` where all three do."""
    at = place(value, "value")
    return "test" if at < _TEST_VALUES else "dev" if at < _TEST_VALUES + _DEV_VALUES else "train"


def _lists(content: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the lists whose values the templates give: numbers of a range, and words."""
    lists: dict[str, tuple[str, ...]] = {}
    for name, listed in content["lists"].items():
        if "range" in listed:
            lists[name] = _numbers(name, listed["range"])
        elif "values" in listed:
            lists[name] = tuple(value for entry in listed["values"] for value in wordings(parse(entry["in"], {})))
    return lists


def _numbers(name: str, bounds: Mapping[str, Any]) -> tuple[str, ...]:
    first, last = RANGES.get(name, (bounds["from"], bounds["to"]))
    whole = [str(number) for number in range(first, last + 1, bounds.get("step", 1))]
    if bounds.get("fractions") != "halves":
        return tuple(whole)
    return (*whole, *(f"{number}.5" for number in whole[:-1]))


def _object(sentence: Sentence) -> dict[str, Any]:
    return {"tokens": sentence.tokens, "tags": sentence.tags, "intent": sentence.intent}
