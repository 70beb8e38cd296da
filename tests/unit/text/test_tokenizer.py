import json
from contextlib import suppress

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

from octavo.errors import InputError, ModelError, OctavoError
from octavo.text.tokenizer import Tokenizer
from octavo.types import Pair

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "shoes", "##s", "shoe", "!", "\ufffd"]
CLS, SEP, UNK = 2, 3, 1


def _wordpiece(*, specials=True, unknown="[UNK]"):
    vocabulary = {token: i for i, token in enumerate(VOCABULARY)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if specials:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    return tokenizer


def _build(tokenizer, max_length=8):
    return Tokenizer.from_bytes(tokenizer.to_str().encode(), max_length=max_length, source="tokenizer.json")


def _rows(batch):
    return [part.ids.tolist() for part in batch.split(1)]


def test_texts_become_one_packed_batch():
    batch = _build(_wordpiece()).encode(["red shoes", "", "shoes!"])
    assert _rows(batch) == [[CLS, 4, 5, SEP], [CLS, SEP], [CLS, 5, 8, SEP]]
    assert batch.ids.dtype == batch.offsets.dtype == np.int64


def test_no_texts_give_an_empty_batch():
    batch = _build(_wordpiece()).encode([])
    assert (len(batch), batch.tokens, batch.max_length) == (0, 0, 0)


def test_padding_and_truncation_of_the_file_are_not_used():
    stored = _wordpiece()
    stored.enable_padding(length=32)
    stored.enable_truncation(3)
    assert _rows(_build(stored).encode(["red red red red"])) == [[CLS, 4, 4, 4, 4, SEP]]


@pytest.mark.parametrize(("direction", "kept"), [("right", [4, 5]), ("left", [5, 8])])
def test_long_texts_are_cut_at_the_end_that_the_model_was_trained_with(direction, kept):
    stored = _wordpiece()
    stored.enable_truncation(512, direction=direction)
    assert _rows(_build(stored, 4).encode(["red shoes!"])) == [[CLS, *kept, SEP]]


@pytest.mark.parametrize("direction", ["right", "left"])
def test_what_is_cut_is_counted(direction):
    stored = _wordpiece()
    stored.enable_truncation(512, direction=direction)
    stored.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    short, long = _build(stored, 6), _build(stored, 100)
    for item in ("", "red", "red " * 4, "red " * 5, "red " * 90, Pair("red", "shoes!"), Pair("red", "red " * 80)):
        (length,) = long.encode([item]).lengths
        assert short.uncut_length(item) == long.uncut_length(item) == length


def test_odd_characters_neither_fail_nor_change_their_neighbours():
    tokenizer = _build(_wordpiece(), 64)
    assert _rows(tokenizer.encode(["re\0d", "red \ud83d"])) == [[CLS, 4, SEP], [CLS, 4, SEP]]
    texts = ["😀", "مرحبا بالعالم", "\u202eabc", "\r\n\t", "a" * 100_000, "red " * 25_000, "\ufffd"]
    batch = tokenizer.encode(texts)
    assert batch.lengths.min() >= 2
    assert batch.max_length == 64
    # Each text alone gives the same as in company.
    assert _rows(batch) == [_rows(tokenizer.encode([text]))[0] for text in texts]


def test_nothing_left_of_a_text_becomes_the_unknown_token():
    assert _rows(_build(_wordpiece(specials=False)).encode(["", "red"])) == [[UNK], [4]]


def test_unigram_names_its_unknown_token_by_id():
    unigram = tokenizers.Tokenizer(models.Unigram([("a", 0.0), ("<unk>", -1.0)], unk_id=1))
    assert _rows(_build(unigram).encode(["", "a"])) == [[1], [0]]


def test_nothing_left_and_no_unknown_token_is_refused():
    bare = tokenizers.Tokenizer(models.BPE({"a": 0}, []))
    with pytest.raises(InputError, match="Text 1 of this batch is empty"):
        _build(bare).encode(["a", ""])


def test_vocabulary_size_covers_every_id():
    stored = _wordpiece()
    stored.add_tokens(["brand"])
    assert _build(stored).vocabulary_size == len(VOCABULARY) + 1


@pytest.mark.parametrize("max_length", [-1, 0, 2])
def test_max_length_must_leave_room_for_text(max_length):
    with pytest.raises(InputError, match="2 special tokens"):
        _build(_wordpiece(), max_length)


def test_a_folder_without_the_file_is_told_how_to_make_one(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    with pytest.raises(ModelError, match=r"only vocab\.txt.*save_pretrained"):
        Tokenizer.from_folder(tmp_path, 8)
    with pytest.raises(ModelError, match="no such model folder"):
        Tokenizer.from_folder(tmp_path / "absent", 8)


def test_a_folder_is_read(tmp_path):
    (tmp_path / "tokenizer.json").write_text(_wordpiece().to_str())
    tokenizer = Tokenizer.from_folder(tmp_path, 16)
    assert tokenizer.max_length == 16
    assert _rows(tokenizer.encode(["red"])) == [[CLS, 4, SEP]]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", b'{"model": {}}', b"\xff", b"[" * 50_000])
def test_an_invalid_file_is_refused_by_name(content):
    with pytest.raises(ModelError, match=r"folder/tokenizer\.json"):
        Tokenizer.from_bytes(content, max_length=8, source="folder/tokenizer.json")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_file_raises_nothing_but_our_errors(data):
    content = bytearray(_wordpiece().to_str().encode())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    with suppress(OctavoError):
        Tokenizer.from_bytes(bytes(content), max_length=8, source="tokenizer.json").encode(["red", ""])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=40), max_size=6), st.integers(3, 12))
def test_every_text_has_one_to_max_length_tokens(texts, max_length):
    batch = _build(_wordpiece(), max_length).encode(texts)
    assert len(batch) == len(texts)
    assert all(2 <= length <= max_length for length in batch.lengths)
    assert batch.tokens == batch.offsets[-1]


def test_the_stored_model_must_be_an_object():
    content = json.loads(_wordpiece().to_str())
    content["model"] = []
    with pytest.raises(ModelError):
        Tokenizer.from_bytes(json.dumps(content).encode(), max_length=8, source="tokenizer.json")
