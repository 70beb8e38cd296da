"""Traffic: lengths in tokens as search traffic has them, and texts of real words with exactly these lengths.

Knows no model; a word costs what the caller's tokenizer says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from octavo.text.batch import TokenBatch
from octavo.types import IntArray

SPECIAL_TOKENS = 2  # the first and the last token of every text


@dataclass(frozen=True, slots=True)
class Trace:
    """Lognormal lengths, special tokens included.

    Attributes:
        name: on the command line and in tables.
        mean_tokens: mean length.
        sigma: standard deviation of the logarithm.
        longest_tokens: lengths are cut there.
    """

    name: str
    mean_tokens: int
    sigma: float
    longest_tokens: int


TRACES = {
    trace.name: trace
    for trace in (
        Trace("short", 11, 0.5, 64),
        Trace("medium", 32, 0.5, 128),
        Trace("passages-94", 94, 0.2, 256),
        Trace("passages-256", 256, 0.2, 512),
    )
}


@dataclass(frozen=True, slots=True)
class Words:
    """Words as often as texts have them, and how many tokens each one is; (words,)."""

    words: Sequence[str]
    tokens: IntArray

    @property
    def of_one_token(self) -> IntArray:
        """Places of the words that can fill any gap."""
        return np.flatnonzero(self.tokens == 1)


def words_from_texts(texts: Sequence[str], encode: Callable[[Sequence[str]], TokenBatch]) -> Words:
    """Take the words out of texts; `encode` says how many tokens each is, special tokens beside.

    Raises:
        ValueError: no word is one token.
    """
    words = [word for text in texts for word in text.lower().split() if word.isalpha()]
    found = Words(words, encode(words).lengths - SPECIAL_TOKENS if words else np.zeros(0, np.int64))
    if not len(found.of_one_token):
        raise ValueError(f"none of {len(words)} words is a single token: no length could be met")
    return found


def lengths_of(trace: Trace, count: int, rng: np.random.Generator) -> IntArray:
    """Draw lengths in tokens, (count,)."""
    mu = math.log(trace.mean_tokens) - trace.sigma**2 / 2  # so that the mean, not the median, is what is asked for
    drawn = np.rint(rng.lognormal(mu, trace.sigma, count)).astype(np.int64)
    return np.clip(drawn, SPECIAL_TOKENS + 1, trace.longest_tokens)


def texts_of(trace: Trace, count: int, words: Words, seed: int) -> list[str]:
    """Return texts whose lengths in tokens are drawn from the trace; the same for the same seed."""
    rng = np.random.default_rng(seed)
    return [_text(int(length) - SPECIAL_TOKENS, words, rng) for length in lengths_of(trace, count, rng)]


def _text(tokens: int, words: Words, rng: np.random.Generator) -> str:
    """Return words that are exactly `tokens` tokens together."""
    chosen: list[str] = []
    for place in rng.integers(0, len(words.words), tokens):  # no word is less than a token, so these suffice
        cost = int(words.tokens[place])
        if cost > tokens:
            place = rng.choice(words.of_one_token)
            cost = 1
        chosen.append(words.words[place])
        tokens -= cost
        if not tokens:
            break
    return " ".join(chosen)
