"""A query as a ranker reads it: cut where it would leave no room for the document beside it.

A cross-encoder reads query and document together, and of a pair only the document is cut. Knows characters and
guesses tokens by them; that a cut was not enough is seen by trying.
"""

from __future__ import annotations

_ASCII_TOKENS = 0.25  # of a character; of others one is taken for a token
SHARES = (0.5, 0.125)  # of what is read that a query may take: a guess, and what is tried where that was wrong


def clipped(query: str, max_length: int, share: float = SHARES[0]) -> str:
    """Return the beginning of a query that takes about this share of `max_length` tokens, or all of it.

    It ends with a word where there are some.
    """
    room = share * max_length
    for place, character in enumerate(query):
        room -= _ASCII_TOKENS if character.isascii() else 1.0
        if room < 0:
            return _whole_words(query, place)
    return query


def _whole_words(query: str, end: int) -> str:
    cut = query[:end]
    if query[end].isspace() or (last := max(cut.rfind(" "), cut.rfind("\n"), cut.rfind("\t"))) <= 0:
        return cut.rstrip() or cut
    return cut[:last].rstrip()
