"""Text to the words that a tagger answers for, and back. Knows no tokenizer: what a word is, data decide.

A word is what stands between white space, punctuation included, as in rows of spoken or typed queries. Chinese and
Japanese are written without spaces and tagged by character, so each ideograph, kana and mark of CJK punctuation is a
word of its own, wherever it stands. Hangul is written with spaces, so it is divided at these only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from octavo.data.characters import well_formed

_CJK = (
    "\u3001-\u3098\u309b-\u30ff\u31f0-\u31ff"  # punctuation, 々 and 〇, hiragana, katakana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # ideographs; planes 2 and 3 hold nothing else
    "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff9f"  # full-width punctuation and half-width katakana
)
_MARKS = "\u3099\u309a\ufe00-\ufe0f\U000e0100-\U000e01ef"  # voicing marks and variation selectors: no words themselves
_WORD = re.compile(rf"[{_CJK}][{_MARKS}]*|[^\s{_CJK}]+")
_STARTS_CJK = re.compile(f"[{_CJK}]")
_ENDS_CJK = re.compile(rf"[{_CJK}][{_MARKS}]*\Z")


def words_of(text: str) -> tuple[str, ...]:
    """Divide a text into words; none for a blank one. Lone surrogates become U+FFFD."""
    return tuple(_WORD.findall(well_formed(text)))


def text_of(words: Sequence[str]) -> str:
    """Join words with spaces, and without one between two CJK characters, for people to read."""
    text = " ".join(words)
    if text.isascii() or not words:
        return text
    pieces = [words[0]]
    for left, right in pairwise(words):
        pieces.append("" if _ENDS_CJK.search(left) and _STARTS_CJK.match(right) else " ")
        pieces.append(right)
    return "".join(pieces)
