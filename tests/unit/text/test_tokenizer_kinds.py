"""Pairs and words: what the tokenizer makes of inputs that are more than one text."""

import threading
from itertools import chain

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from octavo.errors import InputError
from octavo.text.tokenizer import Tokenizer
from octavo.types import Pair, Words

FAMILIES = ("bert", "roberta", "xlm-roberta")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "shoes", "##s", "shoe", "!"]
UNK, CLS, SEP, RED, SHOES, S, SHOE = 1, 2, 3, 4, 5, 6, 7
_TEXTS = ["red shoes for two", "what is the weather", "cancel the order!", "café naïve"]


def _wordpiece(*, specials=True, unknown="[UNK]"):
    tokenizer = tokenizers.Tokenizer(models.WordPiece({t: i for i, t in enumerate(VOCABULARY)}, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if specials:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    return tokenizer


def _byte_level():
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_TEXTS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def _sentencepiece():
    pieces = ["▁", "▁red", "▁shoes", "▁the", "s", *"abcdefghijklmnopqrtuvwxyz!"]
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = tokenizers.Tokenizer(models.Unigram([*special, *((p, -float(len(p))) for p in pieces)], unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


_MADE = {"bert": _wordpiece(), "roberta": _byte_level(), "xlm-roberta": _sentencepiece()}


def _build(tokenizer, max_length=8, direction="right"):
    stored = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    stored.enable_truncation(512, direction=direction)
    return Tokenizer.from_bytes(stored.to_str().encode(), max_length=max_length, source="tokenizer.json")


def _rows(batch):
    return [part.ids.tolist() for part in batch.split(1)]


def _reads(batch):
    return [part.reads.tolist() for part in batch.split(1)]


@pytest.fixture(scope="module")
def as_transformers_has_it():
    """Return how `transformers` wraps a tokenizer: the reference for pairs and words."""
    transformers = pytest.importorskip("transformers")

    def wrap(family, direction):
        copy = tokenizers.Tokenizer.from_str(_MADE[family].to_str())
        return transformers.PreTrainedTokenizerFast(tokenizer_object=copy, truncation_side=direction)

    return wrap


texts = st.text("redshoe !\0é", max_size=30)


@pytest.mark.parametrize("direction", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_are_those_of_transformers(as_transformers_has_it, family, direction):
    reference, ours = as_transformers_has_it(family, direction), _build(_MADE[family], 14, direction)

    @settings(max_examples=60)
    @given(st.lists(st.tuples(st.text("red ", max_size=4), texts), min_size=1, max_size=4))
    def check(pairs):
        room = 14 - reference.num_special_tokens_to_add(True)
        pairs = [pair for pair in pairs if len(reference(pair[0], add_special_tokens=False)["input_ids"]) < room]
        # As a list: of a single pair transformers takes an empty second text for none.
        options = {"truncation": "only_second", "max_length": 14, "return_token_type_ids": True}
        expected = reference([*pairs, ("", "")], **options)
        batch = ours.encode([Pair(*pair) for pair in [*pairs, ("", "")]])
        assert _rows(batch) == expected["input_ids"]
        types = list(chain.from_iterable(expected["token_type_ids"]))
        assert (batch.segments.tolist() if batch.segments is not None else [0] * batch.tokens) == types
        assert batch.reads is None

    check()


@pytest.mark.parametrize("family", FAMILIES)
def test_words_are_those_of_transformers(as_transformers_has_it, family):
    reference, ours = as_transformers_has_it(family, "right"), _build(_MADE[family], 12, "left")

    @settings(max_examples=60)
    @given(st.lists(st.lists(st.text("redshoe!é", min_size=1, max_size=8), max_size=9), min_size=1, max_size=4))
    def check(sentences):
        expected = [reference(s, is_split_into_words=True, truncation=True, max_length=12) for s in sentences]
        batch = ours.encode([Words(tuple(sentence)) for sentence in sentences])
        assert _rows(batch) == [each["input_ids"] for each in expected]
        words = [each.word_ids() for each in expected]
        firsts = [[ids.index(word) for word in sorted({*ids} - {None})] for ids in words]
        assert _reads(batch) == [[0, *places] for places in firsts]
        assert batch.segments is None

    check()


def test_texts_have_neither_segments_nor_reads():
    batch = _build(_wordpiece()).encode(["red", "shoes"])
    assert batch.segments is batch.reads is None


def test_a_pair_is_one_sequence_whose_segments_tell_the_texts_apart():
    batch = _build(_wordpiece()).encode([Pair("red", "shoes"), Pair("red", ""), Pair("", "")])
    assert _rows(batch) == [[CLS, RED, SEP, SHOES, SEP], [CLS, RED, SEP, SEP], [CLS, SEP, SEP]]
    assert batch.segments.tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 1]


def test_a_tokenizer_that_tells_no_texts_apart_has_no_segments():
    assert _build(_byte_level()).encode([Pair("red", "the")]).segments is None


@pytest.mark.parametrize(("direction", "kept"), [("right", [SHOES, SHOE]), ("left", [SHOE, RED])])
def test_only_the_second_text_is_cut(direction, kept):
    pair = Pair("red red red", "shoes shoe red")
    assert _rows(_build(_wordpiece(), 8, direction).encode([pair])) == [[CLS, RED, RED, RED, SEP, *kept, SEP]]


def test_a_first_text_that_leaves_no_room_is_refused_with_its_row_and_the_fix():
    tokenizer = _build(_wordpiece(), 8)
    with pytest.raises(InputError, match=r"Pair 2 .* has 5 tokens .* are 3.* max_length 8.* at least 9\."):
        tokenizer.encode(["red", Pair("red", "red"), Pair("red " * 5, "red"), Pair("red", "red")])
    with pytest.raises(InputError, match=r"Pair 0 .* has 40 tokens"):
        tokenizer.encode([Pair("red " * 40, "")])
    assert _rows(tokenizer.encode([Pair("red " * 5, "")])) == [[CLS, *[RED] * 5, SEP, SEP]]
    assert _build(_wordpiece(), 9).encode([Pair("red " * 5, "red red")]).tokens == 9


def test_added_tokens_keep_their_ids_in_pairs_and_words():
    stored = _wordpiece()
    stored.add_special_tokens(["[SEP]", "[QUERY]"])
    stored.add_tokens(["nike", "red"])
    pair, words = Pair("[QUERY] red nike", "shoes [SEP]"), Words(("[QUERY]", "xnike", "red"))
    batch = _build(stored, 16, "left").encode([pair, words])
    assert _rows(batch) == [[CLS, 9, RED, 10, SEP, SHOES, SEP, SEP], [CLS, 9, UNK, 10, RED, SEP]]


def test_max_length_must_leave_room_for_pairs_where_there_are_pairs():
    tokenizer = _build(_byte_level(), 4)
    assert _rows(tokenizer.encode(["red"]))[0][0] == 0
    with pytest.raises(InputError, match=r"4 special tokens to each pair .* at least 6"):
        tokenizer.encode([Pair("", "")])


def test_each_word_has_a_read():
    batch = _build(_wordpiece()).encode([Words(("red", "shoess", "shoe!")), Words(("red",))])
    assert _rows(batch) == [[CLS, RED, SHOES, S, SHOE, 8, SEP], [CLS, RED, SEP]]
    assert _reads(batch) == [[0, 1, 2, 4], [0, 1]]


@pytest.mark.parametrize("word", ["\0", " ", "", "\t\n", "\u200b"])
def test_a_word_without_a_token_becomes_the_unknown_token(word):
    tokenizer = _build(_wordpiece())
    for words, ids in (
        (["red", word, "shoes"], [RED, UNK, SHOES]),
        ([word, word], [UNK, UNK]),
        ([word, "red"], [UNK, RED]),
        (["red", word], [RED, UNK]),
    ):
        batch = tokenizer.encode([Words(tuple(words))])
        assert _rows(batch) == [[CLS, *ids, SEP]]
        assert batch.reads.tolist() == list(range(len(words) + 1))


@pytest.mark.parametrize("direction", ["right", "left"])
def test_words_beyond_max_length_have_no_read(direction):
    tokenizer = _build(_wordpiece(), 5, direction)
    for words, ids, reads in (
        (["red"] * 9, [RED] * 3, [0, 1, 2, 3]),
        (["red", "red", "shoess"], [RED, RED, SHOES], [0, 1, 2, 3]),  # cut within the word
        (["shoess", "shoess"], [SHOES, S, SHOES], [0, 1, 3]),
        (["red", "", "red", "red", "", "red"], [RED, UNK, RED], [0, 1, 2, 3]),
        (["red"] * 3 + [""], [RED] * 3, [0, 1, 2, 3]),
        ([""] * 9, [UNK] * 3, [0, 1, 2, 3]),
    ):
        batch = tokenizer.encode([Words(tuple(words))])
        assert _rows(batch) == [[CLS, *ids, SEP]]
        assert batch.reads.tolist() == reads


def test_a_sentence_of_no_words_is_the_special_tokens():
    batch = _build(_wordpiece()).encode([Words(()), Words(("red",))])
    assert _rows(batch) == [[CLS, SEP], [CLS, RED, SEP]]
    assert _reads(batch) == [[0], [0, 1]]


def test_without_special_tokens_the_first_word_is_read_twice():
    batch = _build(_wordpiece(specials=False)).encode([Words(("red", "", "shoess")), Words(()), Words(("",))])
    assert _rows(batch) == [[RED, UNK, SHOES, S], [UNK], [UNK]]
    assert _reads(batch) == [[0, 0, 1, 2], [0], [0, 0]]
    assert batch.read_offsets.tolist() == [0, 4, 5, 7]


def test_byte_level_bpe_has_an_unknown_token_that_its_model_does_not_name():
    assert _rows(_build(_byte_level()).encode([Words(("",))])) == [[0, 3, 2]]


def test_no_token_for_a_word_and_no_unknown_token_is_refused():
    bare = tokenizers.Tokenizer(models.BPE({"a": 0}, []))
    with pytest.raises(InputError, match="Word 1 of sentence 2 of this batch is empty"):
        _build(bare).encode([Words(("a",)), "a", Words(("a", ""))])


kinds = (
    texts
    | st.builds(Pair, st.text("red ", max_size=4), texts)
    | st.builds(lambda words: Words(tuple(words)), st.lists(st.text("redshoe !\0", max_size=6), max_size=6))
)


@settings(max_examples=100)
@given(st.lists(kinds, max_size=8), st.sampled_from(FAMILIES), st.integers(10, 14))
def test_in_a_mixed_batch_each_input_is_as_it_is_alone(inputs, family, max_length):
    tokenizer = _build(_MADE[family], max_length)
    batch = tokenizer.encode(inputs)
    assert len(batch) == len(inputs)
    for item, part in zip(inputs, batch.split(1), strict=True):
        alone = tokenizer.encode([item])
        assert part.ids.tolist() == alone.ids.tolist()
        assert part.read_places.tolist() == alone.read_places.tolist()
        segments = [0] * part.tokens if part.segments is None else part.segments.tolist()
        assert segments == ([0] * alone.tokens if alone.segments is None else alone.segments.tolist())
        assert part.tokens <= max_length
        if isinstance(item, Words):
            assert len(part.reads) <= 1 + len(item.words)
            # A word without a read has no room left.
            assert len(part.reads) == 1 + len(item.words) or part.tokens == max_length


def test_threads_do_not_change_each_others_truncation():
    tokenizer = _build(_wordpiece(), 8, "left")
    items = ["red shoes " * 9, Pair("red", "shoes shoe " * 9), Words(("red", "shoes") * 9)]
    expected = [_rows(_build(_wordpiece(), 8, "left").encode([item])) for item in items]
    found = []

    def encode(item, rows):
        found.extend(_rows(tokenizer.encode([item])) == rows for _ in range(50))

    pairs = zip(items * 2, expected * 2, strict=True)
    threads = [threading.Thread(target=encode, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 300
    assert all(found)
