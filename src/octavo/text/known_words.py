"""Ids of words that were met before: most texts of BERT's English tokenizers need nothing else.

In such a tokenizer a word's ids depend on the word alone, and in plain ASCII a word is letters and digits, or one other
sign. So the library is asked once for each word, and its answer kept: a tenth of the time that it takes for a text.
Exact or not at all: whatever this does not know for certain (other scripts, control characters, added tokens, other
kinds of tokenizer) it leaves to the library.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import tokenizers

_WORDS = re.compile(r"[0-9A-Za-z]+|[!-/:-@\[-`{-~]")
_PROBE = "a b"
_MOST_WORDS = 1 << 16
_LONGEST_WORD = 32  # that is kept: nobody fills the memory with words of a megabyte
_KINDS = {"normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer", "model": "WordPiece"}
_POST_PROCESSORS = ("TemplateProcessing", "BertProcessing")


class KnownWords:
    """Ids of texts out of the ids of their words. Thread-safe."""

    def __init__(
        self, tokenizer: tokenizers.Tokenizer, max_length: int, before: Sequence[int], after: Sequence[int]
    ) -> None:
        """Use a tokenizer that `known_words` found fit."""
        self._tokenizer = tokenizer
        self._before, self._after = before, after
        self._room = max_length - len(before) - len(after)
        added = (re.escape(token.content) for token in tokenizer.get_added_tokens_decoder().values())
        self._added = re.compile("|".join(added) or "(?!)", re.IGNORECASE)
        self._ids: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int] | None:
        """Return the ids of a text, special tokens included; None where the library has to be asked."""
        if not (text.isascii() and text.isprintable()) or self._added.search(text):
            return None
        known = self._ids
        body: list[int] = []
        for word in _WORDS.findall(text):
            ids = known.get(word)
            body += self._met(word) if ids is None else ids
        return [*self._before, *body[: self._room], *self._after]

    def _met(self, word: str) -> list[int]:
        """Return the ids of a word that is new."""
        ids = _ids_alone(self._tokenizer, word)
        if len(word) <= _LONGEST_WORD:
            if len(self._ids) >= _MOST_WORDS:
                self._ids.clear()
            self._ids[word] = ids
        return ids


def known_words(tokenizer: tokenizers.Tokenizer, content: dict[str, Any], max_length: int) -> KnownWords | None:
    """Return the words of a tokenizer that cuts at `max_length`; None where words depend on more than themselves.

    Args:
        tokenizer: of the library.
        content: of its `tokenizer.json`.
        max_length: tokens of a text, special ones included.
    """
    steps = {name: content.get(name) or {} for name in (*_KINDS, "post_processor")}
    if (
        {name: steps[name].get("type") for name in _KINDS} != _KINDS
        or steps["post_processor"].get("type") not in _POST_PROCESSORS
        or (tokenizer.truncation or {}).get("direction") != "right"
        # Without one, the library refuses texts.
        or tokenizer.token_to_id(str(steps["model"].get("unk_token"))) is None
        # Written with accents, it may be found in a text that has none.
        or not all(token.content.isascii() for token in tokenizer.get_added_tokens_decoder().values())
    ):
        return None
    word = _ids_alone(tokenizer, "a")
    (whole,) = (encoding.ids for encoding in tokenizer.encode_batch_fast(["a"]))
    starts = [i for i in range(len(whole)) if whole[i : i + len(word)] == word]
    if len(starts) != 1 or len(whole) != len(word) + tokenizer.num_special_tokens_to_add(False):
        return None
    words = KnownWords(tokenizer, max_length, whole[: starts[0]], whole[starts[0] + len(word) :])
    (probe,) = tokenizer.encode_batch_fast([_PROBE])  # a template may repeat the text
    return words if words.ids(_PROBE) == probe.ids else None


def _ids_alone(tokenizer: tokenizers.Tokenizer, word: str) -> list[int]:
    (encoding,) = tokenizer.encode_batch_fast([word], add_special_tokens=False)
    ids: list[int] = encoding.ids
    return ids
