import numpy as np
import pytest

from bench.engines.traces import SPECIAL_TOKENS, TRACES, Words, lengths_of, texts_of, words_from_texts
from octavo.text.batch import TokenBatch

WORDS = Words(["list", "files", "kubernetes"], np.array([1, 1, 3]))


def _tokens(text: str) -> int:
    costs = dict(zip(WORDS.words, WORDS.tokens, strict=True))
    return sum(int(costs[word]) for word in text.split())


@pytest.mark.parametrize("trace", TRACES.values(), ids=lambda trace: trace.name)
def test_lengths_have_the_mean_of_the_trace(trace):
    lengths = lengths_of(trace, 20_000, np.random.default_rng(0))
    assert lengths.mean() == pytest.approx(trace.mean_tokens, rel=0.03)
    assert lengths.min() > SPECIAL_TOKENS
    assert lengths.max() <= trace.longest_tokens


def test_short_lengths_are_skewed_as_queries_are():
    lengths = lengths_of(TRACES["short"], 20_000, np.random.default_rng(0))
    assert np.median(lengths) < lengths.mean()
    assert np.log(lengths).std() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("trace", ["short", "passages-256"])
def test_texts_have_exactly_the_drawn_lengths(trace):
    texts = texts_of(TRACES[trace], 200, WORDS, seed=5)
    lengths = lengths_of(TRACES[trace], 200, np.random.default_rng(5))
    assert [_tokens(text) + SPECIAL_TOKENS for text in texts] == lengths.tolist()


def test_the_seed_decides_the_texts():
    one, other = (texts_of(TRACES["short"], 50, WORDS, seed=seed) for seed in (1, 2))
    assert texts_of(TRACES["short"], 50, WORDS, seed=1) == one
    assert one != other


def test_words_come_with_their_cost():
    def encode(words):
        return TokenBatch.from_sequences([[1, *range(len(word)), 2] for word in words])

    found = words_from_texts(["A cat's x", "to x-ray A"], encode)
    assert list(found.words) == ["a", "x", "to", "a"]  # as often as they occur
    assert found.tokens.tolist() == [1, 1, 2, 1]


def test_words_without_a_single_token_are_refused():
    with pytest.raises(ValueError, match="none of 1 words is a single token"):
        words_from_texts(["cats"], lambda words: TokenBatch.from_sequences([[0] * 6 for _ in words]))
    with pytest.raises(ValueError, match="none of 0 words"):
        words_from_texts(["12 ?"], lambda words: TokenBatch.from_sequences([]))
