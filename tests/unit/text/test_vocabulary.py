import json

import numpy as np
import pytest
import tokenizers
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from octavo.text.vocabulary import trimmed_vocabulary
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from octavo.errors import InputError, ModelError, OctavoError
from octavo.text import vocabulary

TEXTS = [
    "Book a table for two people tonight 🍣",
    "what is the weather in Beijing tomorrow morning?",
    "cancel the order, and refund my card",
    "明天上午北京的天气怎么样",
    "帮我订一张两个人的桌子 🙂🙂",
    "退款什么时候到账？",
    "play some music 🎵 or turn it off",
    "naïve café résumé",
]
BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]


def _wordpiece():
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=260, special_tokens=BERT_SPECIALS, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]", length=128)
    tokenizer.enable_truncation(4, direction="left")
    return tokenizer


def _unigram():
    """As XLM-R: four special tokens first, and the mask last."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=ROBERTA_SPECIALS, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def _bpe():
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=ROBERTA_SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


TRAINED = {"WordPiece": _wordpiece(), "Unigram": _unigram(), "BPE": _bpe()}
each_kind = pytest.mark.parametrize("kind", TRAINED)


def _content(tokenizer):
    return json.loads(tokenizer.to_str())


def _bytes(content):
    return json.dumps(content).encode()


def _loaded(content):
    tokenizer = tokenizers.Tokenizer.from_buffer(content)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _trim(tokenizer, texts, **options):
    """Return the trimmed tokenizer and the old id of each new one; the corpus must be cut as before."""
    content = tokenizer if isinstance(tokenizer, bytes) else tokenizer.to_str().encode()
    trimmed = trimmed_vocabulary(content, iter(texts), source="tokenizer.json", **options)
    old, new = _loaded(content), _loaded(trimmed.tokenizer_json)
    for text in texts:
        assert trimmed.kept[new.encode(text).ids].tolist() == old.encode(text).ids, text
    return new, trimmed.kept


@each_kind
def test_the_corpus_is_cut_into_the_same_tokens(kind):
    tokenizer = TRAINED[kind]
    for texts in (TEXTS, TEXTS[:1], TEXTS[3:6]):
        new, kept = _trim(tokenizer, texts)
        assert new.get_vocab_size() == len(kept)
        assert kept.dtype == np.int64
    assert len(kept) < tokenizer.get_vocab_size()


@each_kind
def test_a_token_keeps_its_text_and_its_place_in_the_order(kind):
    new, kept = _trim(TRAINED[kind], TEXTS[:2])
    assert [new.id_to_token(i) for i in range(len(kept))] == [TRAINED[kind].id_to_token(i) for i in kept]
    assert (np.diff(kept) > 0).all()
    assert kept[:4].tolist() == [0, 1, 2, 3]


@each_kind
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_any_corpus_is_cut_into_the_same_tokens(kind, data):
    words = [word for text in TEXTS for word in text.split()] + ["[MASK]", "<mask>", "未知", "\0", "\u200b", "ﬁ"]
    text = st.lists(st.sampled_from(words) | st.text(max_size=4), min_size=1, max_size=6).map(" ".join)
    _trim(TRAINED[kind], data.draw(st.lists(text, min_size=1, max_size=5)))


@each_kind
@given(text=st.text(st.sampled_from(sorted({character for text in TEXTS for character in text})), max_size=30))
@settings(max_examples=100, deadline=None)
def test_known_characters_never_become_unknown(kind, text):
    new, _ = _trim(TRAINED[kind], ["hello"])
    unknown = new.token_to_id("[UNK]" if kind == "WordPiece" else "<unk>")
    if unknown not in _loaded(TRAINED[kind].to_str().encode()).encode(text).ids:
        assert unknown not in new.encode(text).ids


@each_kind
@given(text=st.text(max_size=30))
def test_unseen_texts_are_cut_without_an_error(kind, text):
    new, kept = _trim(TRAINED[kind], ["hello"])
    assert all(0 <= i < len(kept) for i in new.encode(text).ids)


@each_kind
def test_specials_and_pairs_are_as_before(kind):
    new, kept = _trim(TRAINED[kind], ["退款"])
    old = _loaded(TRAINED[kind].to_str().encode())
    specials = BERT_SPECIALS if kind == "WordPiece" else [*ROBERTA_SPECIALS, "<mask>"]
    assert all(kept[new.token_to_id(token)] == old.token_to_id(token) for token in specials)
    before, after = old.encode("退款", f"退款 {specials[-1]}"), new.encode("退款", f"退款 {specials[-1]}")
    assert kept[after.ids].tolist() == before.ids
    assert after.type_ids == before.type_ids
    assert after.special_tokens_mask == before.special_tokens_mask


@each_kind
def test_nothing_but_ids_and_tokens_changes(kind):
    before = _content(TRAINED[kind])
    after = json.loads(trimmed_vocabulary(_bytes(before), TEXTS[:1], source="t").tokenizer_json)
    for content in (before, after):
        for key in ("vocab", "merges", "unk_id"):
            content["model"].pop(key, None)
        content["added_tokens"] = [{**token, "id": 0} for token in content["added_tokens"]]
    assert before.pop("post_processor")["type"] == after.pop("post_processor")["type"]
    assert after == before


# What has to stay although no text shows it


def test_a_word_stays_unknown():
    """Without 'ab', which no text shows, WordPiece would find 'a' and then '##bcd'."""
    vocabulary = {token: i for i, token in enumerate(["[UNK]", "ab", "a", "##b", "##bcd", "x"])}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert tokenizer.encode("xbcd ABCD").tokens == ["x", "##bcd", "[UNK]"]
    _trim(tokenizer, ["xbcd ABCD"])
    tokenizer.pre_tokenizer = None
    _trim(tokenizer, ["xbcd", "ABCD"])


def test_the_price_of_an_unknown_character_stays():
    """It is 10 below the least score. Without 'zz', 'ab' and an unknown 'b' would cost 61, and 'a' and 'bb' cost 70."""
    pieces = [("<unk>", 0.0), ("a", -20.0), ("ab", -1.0), ("bb", -50.0), ("zz", -600.0)]
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0))
    assert [tokenizer.encode(text).tokens for text in ("ab", "abb")] == [["ab"], ["a", "bb"]]
    _trim(tokenizer, ["ab", "abb"])


def test_the_unknown_token_stays_whatever_it_is_called():
    pieces = [("red", -1.0), ("a", -5.0), ("oov", -3.0), ("▁b", -1.0)]
    new, kept = _trim(tokenizers.Tokenizer(models.Unigram(pieces, unk_id=2)), ["a"])
    assert kept.tolist() == [1, 2, 3]
    assert new.encode("é").ids == [1]
    words = {"red": 0, "blue": 1, "oov": 2}
    new, kept = _trim(tokenizers.Tokenizer(models.WordPiece(words, unk_token="oov")), ["blue"])
    assert kept.tolist() == [1, 2]
    assert new.encode("red").ids == [1]


def test_words_too_long_to_be_looked_up_keep_nothing():
    tokenizer = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "red": 1}, max_input_chars_per_word=5))
    _, kept = _trim(tokenizer, ["redred"])
    assert kept.tolist() == [0]


def test_bytes_stay():
    pieces = [("<unk>", 0.0), ("a", -1.0), ("ab", -2.0), *((f"<0x{byte:02X}>", -9.0) for byte in range(256))]
    new, _ = _trim(tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True)), ["a"])
    assert new.get_vocab_size() == 258
    assert new.encode("é").tokens == ["<0xC3>", "<0xA9>"]


def test_a_merged_token_stays_with_all_that_it_is_merged_from():
    content = _content(TRAINED["BPE"])
    new, _ = _trim(TRAINED["BPE"], ["weather"])
    merges = json.loads(new.to_str())["model"]["merges"]
    assert 5 <= len(merges) < len(content["model"]["merges"])
    assert merges == [merge for merge in content["model"]["merges"] if merge in merges]
    vocabulary = new.get_vocab()
    assert all({left, right, left + right} <= vocabulary.keys() for left, right in merges)
    assert set(pre_tokenizers.ByteLevel.alphabet()) <= vocabulary.keys()


def test_merges_are_read_in_both_spellings():
    listed = _content(TRAINED["BPE"])
    joined = _content(TRAINED["BPE"])
    joined["model"]["merges"] = [" ".join(merge) for merge in listed["model"]["merges"]]
    new, kept = _trim(_bytes(joined), TEXTS[:3])
    other, other_kept = _trim(_bytes(listed), TEXTS[:3])
    assert new.to_str() == other.to_str()
    assert kept.tolist() == other_kept.tolist()


@pytest.mark.parametrize("marks", [{"continuing_subword_prefix": "##"}, {"end_of_word_suffix": "</w>"}])
def test_merges_of_marked_pieces(marks):
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", **marks))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], show_progress=False, **marks)
    tokenizer.train_from_iterator(TEXTS, trainer)
    new, _ = _trim(tokenizer, TEXTS[:2])
    assert new.get_vocab_size() < tokenizer.get_vocab_size()
    characters = {token for token in tokenizer.get_vocab() if len(token.strip("#").removesuffix("</w>")) == 1}
    assert len(characters) > 50
    assert characters <= new.get_vocab().keys()


def test_ids_to_keep_stay_and_others_are_ignored():
    old = TRAINED["WordPiece"]
    unused = old.token_to_id("weather")
    _, without = _trim(old, ["table"])
    _, kept = _trim(old, ["table"], keep=[unused, 10**9, -1])
    assert unused not in without
    assert set(kept) == {*without, unused}


def test_specials_that_are_not_marked_as_added_stay():
    content = _content(TRAINED["WordPiece"])
    content["added_tokens"] = []
    new, _ = _trim(_bytes(content), ["table"])
    assert [new.token_to_id(token) for token in BERT_SPECIALS] == [0, 1, 2, 3, 4]


# Any vocabulary, however odd: short words of three characters, not all of which are tokens by themselves

_word = st.text("abc", min_size=1, max_size=4)
_corpus = st.lists(st.text("abc ", min_size=1, max_size=24), min_size=1, max_size=8)
_spread = st.randoms(use_true_random=False)


def _with_holes(tokens, random):
    return dict(zip(tokens, random.sample(range(len(tokens) + 5), len(tokens)), strict=True))


@given(st.sets(st.tuples(st.sampled_from(["", "##", "##"]), _word), min_size=1, max_size=14), _corpus, _spread)
@settings(max_examples=200, deadline=None)
def test_any_wordpiece(pieces, texts, random):
    tokens = ["[UNK]", *sorted(mark + word for mark, word in pieces)]
    tokenizer = tokenizers.Tokenizer(models.WordPiece(_with_holes(tokens, random), unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    _trim(tokenizer, texts)


@given(
    st.dictionaries(st.builds(str.__add__, st.sampled_from(["", "▁"]), _word), st.floats(-600, 0), min_size=1), _corpus
)
@settings(max_examples=200, deadline=None)
def test_any_unigram(scores, texts):
    tokenizer = tokenizers.Tokenizer(models.Unigram([("<unk>", 0.0), *scores.items()], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    _trim(tokenizer, texts)


@given(st.sets(st.sampled_from("abc"), min_size=1), st.data(), st.booleans(), st.booleans(), _corpus, _spread)
@settings(max_examples=200, deadline=None)
def test_any_bpe(characters, data, fuse_unk, ignore_merges, texts, random):
    tokens, merges = ["<unk>", *sorted(characters)], []
    for _ in range(data.draw(st.integers(0, 12))):
        pair = tuple(data.draw(st.sampled_from(tokens[1:])) for _ in range(2))
        merges.append(pair)
        tokens += [] if "".join(pair) in tokens else ["".join(pair)]
    merges = list(dict.fromkeys(merges))
    model = models.BPE(
        _with_holes(tokens, random), merges, unk_token="<unk>", fuse_unk=fuse_unk, ignore_merges=ignore_merges
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    _trim(tokenizer, texts)


# Ids wherever they stand


def _small(vocabulary, added=()):
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_tokens(list(added))
    return tokenizer


def test_holes_in_the_vocabulary_close():
    vocabulary = {"[UNK]": 7, "red": 3, "blue": 40, "shoes": 99}
    content = _content(_small(vocabulary))
    content["model"]["vocab"] = vocabulary  # in this order
    new, kept = _trim(_bytes(content), ["red shoes"])
    assert kept.tolist() == [3, 7, 99]
    assert new.get_vocab() == {"red": 0, "[UNK]": 1, "shoes": 2}


def test_added_tokens_follow_those_of_the_model():
    """The library numbers them from the model's size, which lies among its ids where these have holes."""
    tokenizer = _small({"[UNK]": 0, "red": 1, "blue": 2, "shoes": 9}, added=["brand", "red", "new brand"])
    assert (tokenizer.token_to_id("brand"), tokenizer.token_to_id("new brand")) == (4, 5)
    new, kept = _trim(tokenizer, ["shoes new brand brand"])
    assert kept.tolist() == [0, 1, 9, 4, 5]
    assert new.encode("new brand brand").tokens == ["new brand", "brand"]
    trimmed = trimmed_vocabulary(tokenizer.to_str().encode(), ["red"], source="t").tokenizer_json
    added = {token["content"]: token["id"] for token in json.loads(trimmed)["added_tokens"]}
    assert added == {"red": 1, "brand": 2, "new brand": 3}


def test_a_tokenizer_of_older_files_names_no_type():
    content = _content(_small({"[UNK]": 0, "red": 1, "blue": 2}))
    del content["model"]["type"]
    _, kept = _trim(_bytes(content), ["blue"])
    assert kept.tolist() == [0, 2]


@pytest.mark.parametrize(
    "processor",
    [
        processors.BertProcessing(("[SEP]", 20), ("[CLS]", 10)),
        processors.RobertaProcessing(("[SEP]", 20), ("[CLS]", 10)),
        processors.Sequence(
            [processors.ByteLevel(), processors.TemplateProcessing("[CLS] $A", None, [("[CLS]", 10), ("[SEP]", 20)])]
        ),
    ],
    ids=["bert", "roberta", "sequence"],
)
def test_ids_in_every_post_processor(processor):
    tokenizer = _small({"[UNK]": 0, "[CLS]": 10, "[SEP]": 20, "red": 30, "blue": 40})
    tokenizer.post_processor = processor
    new, kept = _trim(tokenizer, ["blue"])
    assert kept.tolist() == [0, 10, 20, 40]
    assert new.encode("red").ids[:1] == [1]


def test_the_padding_token_is_renumbered_and_truncation_is_not_touched():
    tokenizer = _small({"[UNK]": 4, "red": 5, "padded": 6, "blue": 8})
    tokenizer.enable_padding(pad_id=6, pad_token="padded", length=3)
    tokenizer.enable_truncation(2, direction="left")
    trimmed = trimmed_vocabulary(tokenizer.to_str().encode(), ["blue red blue"], source="t")
    new = tokenizers.Tokenizer.from_buffer(trimmed.tokenizer_json)
    assert trimmed.kept.tolist() == [4, 5, 6, 8], "the corpus is read uncut, padding stays"
    assert new.padding == {**tokenizer.padding, "pad_id": 2}
    assert new.truncation == tokenizer.truncation


# Refusals


def _message(tokenizer, texts=("red",)):
    content = tokenizer if isinstance(tokenizer, bytes) else tokenizer.to_str().encode()
    with pytest.raises(ModelError) as raised:
        trimmed_vocabulary(content, texts, source="folder/tokenizer.json")
    assert str(raised.value).startswith("folder/tokenizer.json: ")
    return str(raised.value)


def test_whole_words_cannot_be_trimmed():
    assert "a WordLevel tokenizer cannot be trimmed" in _message(
        tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "red": 1}, unk_token="[UNK]"))
    )


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", b'{"model": {}}', b"\xff"])
def test_what_is_no_tokenizer_is_refused(content):
    assert "not a tokenizer" in _message(content)


def test_ids_that_no_token_has_are_refused():
    tokenizer = _small({"[UNK]": 0, "red": 1})
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 7), ("red", 1))
    assert "the id 7, which no token has" in _message(tokenizer)


def test_a_tokenizer_that_fails_is_refused():
    tokenizer = tokenizers.Tokenizer(models.WordPiece({"red": 0}, unk_token="[UNK]"))
    assert "fails on a text of the corpus" in _message(tokenizer, ["blue"])


def test_a_tokenizer_that_cuts_by_chance_is_refused():
    content = _content(TRAINED["BPE"])
    content["model"]["dropout"] = 0.5
    assert "would be cut into other tokens" in _message(_bytes(content), TEXTS * 20)


def test_a_result_that_differs_is_refused(monkeypatch):
    monkeypatch.setattr(vocabulary, "trimmed_model", lambda model, kept: {**model, "vocab": {"[UNK]": 0, "red": 1}})
    assert "would get the ids of others" in _message(_small({"[UNK]": 0, "blue": 1, "red": 2, "shoes": 3}), ["shoes"])


@pytest.mark.parametrize("texts", [[], iter(())])
def test_a_corpus_without_texts_is_refused(texts):
    with pytest.raises(InputError, match="no texts"):
        trimmed_vocabulary(TRAINED["BPE"].to_str().encode(), texts, source="t")


def test_lone_surrogates_are_no_failure():
    trimmed_vocabulary(TRAINED["Unigram"].to_str().encode(), ["red \ud83d"], source="t")


def test_the_corpus_is_streamed_and_its_errors_arrive():
    pulled = []

    def texts():
        for number in range(10**9):
            if number == 5_000:
                raise InputError("log.txt:5001: not UTF-8")
            pulled.append(number)
            yield "red"

    with pytest.raises(InputError, match=r"log\.txt:5001"):
        trimmed_vocabulary(TRAINED["BPE"].to_str().encode(), texts(), source="t")
    assert len(pulled) == 5_000


def test_the_sample_for_the_check_comes_from_all_of_the_corpus():
    sample = vocabulary._Sample(50)
    assert list(sample.watched(map(str, range(10_000)))) == [str(number) for number in range(10_000)]
    assert len(sample.texts) == 50
    assert max(map(int, sample.texts)) > 5_000


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(TRAINED)), st.data())
def test_a_damaged_file_raises_nothing_but_our_errors(kind, data):
    content = bytearray(TRAINED[kind].to_str().encode())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.sampled_from(b'01}{[],:"a'))
    assume(content != TRAINED[kind].to_str().encode())
    try:
        trimmed_vocabulary(bytes(content), ["red shoes"], source="tokenizer.json")
    except OctavoError as error:
        assert "tokenizer.json" in str(error)  # noqa: PT017 - most damage is harmless
