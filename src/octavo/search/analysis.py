"""Text to the terms that BM25 counts: the same for documents and for queries.

Words in lower case, without accents, reduced to their English stem. Chinese, Japanese and Korean are written without
spaces (or with endings at each word), so their characters are indexed alone and in pairs; queries look for pairs, and
for a character alone where it stands alone. Knows no file and no index.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Set
from functools import lru_cache

from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

_LONGEST_TERM = 100  # bytes; what is longer is no word that anybody types
_REMEMBERED = 1 << 15  # words
_CJK = (
    "\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff"  # 々 and 〇, hiragana, katakana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # ideographs
    "\uac00-\ud7af"  # hangul
)
_RUN = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")
_IS_CJK = re.compile(f"[{_CJK}]")


def analyzer() -> TextAnalyzer:
    """Return what makes terms out of `spaced_document` or `spaced_query`: it divides at spaces, and stems."""
    steps = TextAnalyzerBuilder(Tokenizer.whitespace())
    for step in (Filter.remove_long(_LONGEST_TERM), Filter.ascii_fold(), Filter.stemmer("english")):
        steps = steps.filter(step)
    return steps.build()


def spaced_document(text: str) -> str:
    """Return a document's words with spaces between; of CJK, each character and each pair of neighbours."""
    return " ".join(word for run in _runs(text) for word in _words(run, alone=True))


def spaced_query(text: str) -> str:
    """Return a query's words with spaces between; of CJK, pairs of neighbours, and characters that have none."""
    return " ".join(word for run in _runs(text) for word in _words(run, alone=False))


def _runs(text: str) -> Iterator[str]:
    # Compatibility forms (full-width letters, ligatures) are what people mean by them.
    return (found.group() for found in _RUN.finditer(_plain(text)))


def _words(run: str, *, alone: bool) -> Iterator[str]:
    if not _IS_CJK.match(run):
        yield run
        return
    if alone or len(run) == 1:
        yield from run
    for start in range(len(run) - 1):
        yield run[start : start + 2]


class Marker:
    """Finds words of a query in texts to be shown. Thread-safe; remembers the terms of the words that it met."""

    def __init__(self, analyze: TextAnalyzer) -> None:
        """Take what `analyzer` made."""
        self._terms = lru_cache(_REMEMBERED)(lambda word: frozenset(analyze.analyze(_plain(word))))

    def spans(self, text: str, terms: Set[str]) -> list[tuple[int, int]]:
        """Return where a text has some of the terms, as (start, end) in characters, ascending and apart."""
        found: list[tuple[int, int]] = []
        for run in _RUN.finditer(text):
            word = run.group()
            if _IS_CJK.match(word):
                _mark_pairs(found, word, run.start(), terms)
            elif not terms.isdisjoint(self._terms(word)):
                found.append(run.span())
        return found


def _mark_pairs(found: list[tuple[int, int]], run: str, at: int, terms: Set[str]) -> None:
    """Add where a run of CJK has terms; pairs of neighbours overlap, and are joined."""
    for start, end in _places(run):
        if _plain(run[start:end]) not in terms:
            continue
        begin, stop = at + start, at + end
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((begin, stop))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _places(run: str) -> Iterator[tuple[int, int]]:
    """Yield where the terms of a run of CJK stand in it: its characters and their pairs."""
    for start in range(len(run)):
        yield start, start + 1
        if start + 1 < len(run):
            yield start, start + 2
