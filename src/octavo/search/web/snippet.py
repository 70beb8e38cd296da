"""The part of a long text that is worth showing for a query. Pure; knows characters and spans, no index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

MOST_CHARACTERS = 240

_LEAD = 40  # characters before the first word of the query
_SEEK = 24  # within which a cut looks for the end of a word
_ELLIPSIS = "…"

Span = tuple[int, int]


class Snippet(NamedTuple):
    """A part of a text, and where words of the query stand in it: (start, end) in characters."""

    text: str
    spans: list[Span]


def snippet(text: str, spans: Sequence[Span], most: int = MOST_CHARACTERS) -> Snippet:
    """Return the part of a text that has the most words of a query, the first such part of several.

    Args:
        text: whole.
        spans: where it has words of the query, (start, end) in characters, ascending and apart.
        most: characters that may be shown, without the dots where something was left out.
    """
    if len(text) <= most:
        return Snippet(text, list(spans))
    start = _after_word(text, _start(text, spans, most))
    end = _before_word(text, min(start + most, len(text)))
    before, after = _ELLIPSIS if start else "", _ELLIPSIS if end < len(text) else ""
    shift = len(before) - start
    inside = [
        (max(begin, start) + shift, min(stop, end) + shift) for begin, stop in spans if begin < end and stop > start
    ]
    return Snippet(f"{before}{text[start:end]}{after}", inside)


def _start(text: str, spans: Sequence[Span], most: int) -> int:
    """Return where to begin, so that the most spans are inside."""
    best, most_inside, last = 0, 0, 0
    for first, (begin, _) in enumerate(spans):
        start = min(max(0, begin - _LEAD), len(text) - most)
        while last < len(spans) and spans[last][1] <= start + most:
            last += 1
        if last - first > most_inside:
            best, most_inside = start, last - first
    return best


def _after_word(text: str, place: int) -> int:
    """Return where the next word begins, if that is near."""
    if place == 0:
        return 0
    for near in range(place, min(place + _SEEK, len(text))):
        if text[near - 1].isspace():
            return near
    return place


def _before_word(text: str, place: int) -> int:
    """Return where the last whole word ends, if that is near."""
    if place == len(text):
        return place
    for near in range(place, max(place - _SEEK, 0), -1):
        if text[near].isspace():
            return near
    return place
