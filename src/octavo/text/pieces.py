"""The models that cut words into pieces (WordPiece, Unigram, BPE), as `tokenizer.json` holds them, and fewer of them.

Knows how each one chooses its pieces, and so which tokens it needs in order to go on choosing the same ones. Knows no
texts, and none of the ids that stand elsewhere in the file.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from octavo.types import Json

KINDS = ("WordPiece", "Unigram", "BPE")

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
# [MASK], </s>: a tokenizer need not list all of its special tokens as added ones.
_SPECIAL = re.compile(r"\[[A-Z]+\]|</?[a-z]+>")
_WORD_START = "▁"  # of SentencePiece

Entry = tuple[str, int]  # token, id


def kept_entries(model: Json, used: set[int]) -> list[Entry]:
    """Return the tokens that stay, with their ids and in the order of these; `used` are ids that a corpus needs.

    Also single characters, bytes and special tokens. Why the corpus is then cut as before:

    WordPiece takes the longest token that matches. The one that it took is still there, and no other has come.

    Unigram takes the path with the best sum of scores. It is still there with the same sum, and what was no better
    among all paths is no better among fewer. A character is unknown where it is no token by itself, at a price below
    the least score of all: every single character stays, and so does the token with the least score.

    BPE applies the first merge that fits, again and again. Every merge on the way to a kept token stays in its order,
    and the first one that fits among all is the first among fewer.
    """
    entries = _entries(model)
    staying = {token for token, old in entries if old in used or _always_stays(token, model)}
    if model["type"] == "BPE":
        staying = _with_parts(staying, model)
    elif model["type"] == "Unigram":
        staying.add(min(model["vocab"], key=_score)[0])
    return [entry for entry in entries if entry[0] in staying]


def trimmed_model(model: Json, kept: list[Entry]) -> Json:
    """Return the model with these tokens alone, numbered from 0."""
    if model["type"] == "Unigram":
        old_ids = [old for _, old in kept]
        unknown = model.get("unk_id")
        return {
            **model,
            "vocab": [model["vocab"][old] for old in old_ids],
            "unk_id": None if unknown is None else old_ids.index(unknown),
        }
    vocabulary = {token: new for new, (token, _) in enumerate(kept)}
    if model["type"] == "BPE":
        merges = [merge for merge in model["merges"] if _merged(merge, model) in vocabulary]
        return {**model, "vocab": vocabulary, "merges": merges}
    return {**model, "vocab": vocabulary}


def longest_matches(word: str, model: Json) -> Iterator[str]:
    """Yield the tokens that WordPiece finds in a word, from its start and as far as it finds any."""
    start = 0
    while start < len(word) <= model["max_input_chars_per_word"]:
        mark = model["continuing_subword_prefix"] if start else ""
        ends = range(len(word), start, -1)
        end = next((end for end in ends if mark + word[start:end] in model["vocab"]), None)
        if end is None:
            return
        yield mark + word[start:end]
        start = end


def _entries(model: Json) -> list[Entry]:
    if model["type"] == "Unigram":
        return [(token, place) for place, (token, _) in enumerate(model["vocab"])]
    return sorted(model["vocab"].items(), key=lambda entry: entry[1])


def _always_stays(token: str, model: Json) -> bool:
    """Return whether a token is special, a byte, or one character with whatever marks its place in the word."""
    start, end = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    character = token.removeprefix(start).removesuffix(end).removeprefix(_WORD_START)
    return (
        len(character) <= 1
        or token == model.get("unk_token")
        or bool(_BYTE.fullmatch(token) or _SPECIAL.fullmatch(token))
    )


def _score(entry: list[Any]) -> float:
    return float(entry[1])


def _with_parts(tokens: set[str], model: Json) -> set[str]:
    """Return `tokens`, what they can be merged from, what that can be merged from, and so on."""
    parts: dict[str, list[str]] = defaultdict(list)
    for merge in model["merges"]:
        parts[_merged(merge, model)] += _pair(merge)
    found, unseen = set(tokens), list(tokens)
    while unseen:
        new = set(parts.get(unseen.pop(), ())) - found
        found |= new
        unseen += new
    return found


def _pair(merge: str | list[str]) -> list[str]:
    """Return the two tokens of a merge; older files write them as one string."""
    return merge.split(" ") if isinstance(merge, str) else merge


def _merged(merge: str | list[str], model: Json) -> str:
    left, right = _pair(merge)
    return left + right[len(model.get("continuing_subword_prefix") or "") :]
