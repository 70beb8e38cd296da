"""Texts out of words that were met before: the same ids as the library's, or none."""

import json
import string

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

from octavo.text.known_words import known_words

_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_PIECES = [*string.ascii_lowercase, *(f"##{sign}" for sign in string.ascii_lowercase + "0123456789"), *string.digits]
_WORDS = ["red", "shoe", "##s", "shoes", "undo", "un", "##do", "commit", "!", "?", "-", "_", "'", "[", "]", "a1"]
_MAX_LENGTH = 12


def _library(*, lowercase=True, added=(), processor=None):
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*_SPECIALS, *_WORDS, *_PIECES]))}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=20))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processor or processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(_SPECIALS)
    tokenizer.add_tokens(list(added))
    tokenizer.enable_truncation(_MAX_LENGTH)
    return tokenizer


def _words(tokenizer):
    return known_words(tokenizer, json.loads(tokenizer.to_str()), _MAX_LENGTH)


_TEXTS = st.one_of(
    st.text(st.characters(max_codepoint=127), max_size=60),
    st.lists(st.sampled_from([*_WORDS, *_SPECIALS, "RED", "Shoes", "wow cat", " ", "\t", "é", "x" * 40])).map(" ".join),
    st.lists(st.sampled_from([*_WORDS, *_SPECIALS, "Mask", "cls"])).map("".join),
)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("added", [(), ("wow cat", "re")])
def test_ids_are_those_of_the_library(lowercase, added):
    library = _library(lowercase=lowercase, added=added)
    words = _words(library)

    @given(_TEXTS)
    def check(text):
        assert words.ids(text) in (None, library.encode(text).ids)

    check()


@pytest.mark.parametrize("text", ["undo the last commit", "Red SHOES!", "", "   ", "a_b-c [x]", "y" * 500, "s " * 500])
def test_plain_texts_need_no_library(text):
    library = _library()
    words = _words(library)
    assert words.ids(text) == words.ids(text) == library.encode(text).ids


@pytest.mark.parametrize("text", ["crème", "red\tshoes", "red\nshoes", "\x00", "two [MASK] words", "[mask]", "red\x7f"])
def test_what_is_not_certain_is_left_to_the_library(text):
    assert _words(_library()).ids(text) is None


def test_tokenizers_of_other_kinds_do_not_fit():
    assert _words(_library(added=["crème"])) is None
    assert _words(_library(processor=processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2)))) is None
    twice = processors.TemplateProcessing(single="[CLS] $A $A", special_tokens=[("[CLS]", 2)])
    assert _words(_library(processor=twice)) is None
    other = _library()
    other.normalizer = normalizers.Lowercase()
    assert _words(other) is None
    other = _library()
    other.pre_tokenizer = pre_tokenizers.Whitespace()
    assert _words(other) is None
    other = _library()
    other.enable_truncation(_MAX_LENGTH, direction="left")
    assert _words(other) is None
    other = _library()
    other.model = models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")
    assert _words(other) is None


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr("octavo.text.known_words._MOST_WORDS", 3)
    library = _library()
    words = _words(library)
    for text in ("red shoes undo commit a b c", "red " + "z" * 1000):
        assert words.ids(text) == library.encode(text).ids
        assert len(words._ids) <= 3
        assert max(map(len, words._ids)) < 100
