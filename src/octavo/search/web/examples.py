"""Short phrases out of an index, for a page that has to suggest something to search for. Knows no query log."""

from __future__ import annotations

import re

from octavo.search.documents import Document
from octavo.search.index import Index

_LOOKED_AT = 64  # documents, spread over the index
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_PLAIN = re.compile(r"[^\W\d_][^\W\d_ ,'’-]*([ ,'’-]+[^\W\d_]+)*")  # words, and nothing that belongs to a notation
_SHORTEST, _SHORTEST_ASCII, _LONGEST = 4, 16, 56  # characters; the fewest depend on the script
_CLOSING = ".。!！?？"


def examples_from_index(index: Index, most: int = 12) -> list[str]:
    """Return a phrase each of some documents, spread over the index; none where there is nothing short to say."""
    end = index.manifest.next_number
    count = min(_LOOKED_AT, end)
    numbers = [place * end // count for place in range(count)]
    documents = index.documents(numbers)
    phrases = [_phrase(documents[number]) for number in numbers if number in documents]
    found = list(dict.fromkeys(phrase for phrase in phrases if phrase))
    step = max(1, len(found) // most)
    return found[::step][:most]


def _phrase(document: Document) -> str:
    """Return the last plain sentence of a document, or its title; first sentences often are definitions."""
    sentences = [part.strip().rstrip(_CLOSING) for part in _SENTENCE.split(document.text[:1000])]
    return next((one for one in (*reversed(sentences), document.title) if _fits(one)), "")


def _fits(phrase: str) -> bool:
    shortest = _SHORTEST_ASCII if phrase.isascii() else _SHORTEST
    return shortest <= len(phrase) <= _LONGEST and _PLAIN.fullmatch(phrase) is not None
