import json
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from octavo.encoder import trim
from octavo.encoder.folder import model_from_folder, read_folder
from octavo.encoder.running import run_all
from octavo.encoder.trim import trim_folder
from octavo.errors import InputError, ModelError
from octavo.tasks.registry import task_from_facts
from octavo.text.tokenizer import Tokenizer

FAMILIES = ["bert", "roberta", "xlm-roberta", "distilbert"]
CORPUS = ["book a table for two", "明天北京的天气怎么样 🙂", "what is the weather in Beijing"]
OTHERS = ["play some music", "帮我订一张桌子", "turn the lights off", "naïve café résumé", "refund my order"]
HIDDEN = 16


def _wordpiece(transformers):
    return transformers.BertTokenizer().train_new_from_iterator(CORPUS + OTHERS, 300, show_progress=False)


def _bpe(transformers):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.train_from_iterator(CORPUS + OTHERS, trainer)
    model = json.loads(trained.to_str())["model"]
    return transformers.RobertaTokenizer(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]])


def _unigram(transformers):
    """As XLM-R: `<s> <pad> </s> <unk>` first, `<mask>` last, a score for every piece."""
    words = [f"▁{word}" for text in CORPUS + OTHERS for word in text.split()]
    characters = [mark + character for word in words for character in word[1:] for mark in ("", "▁")]
    pieces = list(dict.fromkeys([*words, "天气", "怎么样", "北京", "▁", *characters]))
    scores = [(piece, -2.0 - number / 100 - 5 * (len(piece) == 1)) for number, piece in enumerate(pieces)]
    specials = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return transformers.XLMRobertaTokenizer(vocab=[*specials, *scores, ("<mask>", 0.0)])


def _model(transformers, family, tokens, task):
    sizes = {"vocab_size": tokens, "pad_token_id": 0 if family in ("bert", "distilbert") else 1}
    if family == "distilbert":
        config = transformers.DistilBertConfig(dim=HIDDEN, n_layers=1, n_heads=2, hidden_dim=24, **sizes)
    else:
        sizes |= {"hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
        config = transformers.AutoConfig.for_model(family, max_position_embeddings=130, **sizes)
    torch.manual_seed(0)
    model = getattr(transformers, task).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.1
    return model.eval()


@pytest.fixture(scope="module")
def make_original(torch_on_one_thread, tmp_path_factory):
    """Return a folder as `transformers` saves it, with a tokenizer and a model of the family's own classes."""
    import transformers

    tokenizers = {"bert": _wordpiece, "distilbert": _wordpiece, "roberta": _bpe, "xlm-roberta": _unigram}

    def make(family, task="AutoModel", tokenizer_of=None):
        folder = tmp_path_factory.mktemp(family)
        tokenizer = tokenizers[tokenizer_of or family](transformers)
        tokenizer.save_pretrained(folder)
        _model(transformers, family, len(tokenizer), task).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def originals(make_original):
    return {family: make_original(family) for family in FAMILIES}


@pytest.fixture
def folder(originals, tmp_path):
    """An XLM-R folder to spoil."""
    return shutil.copytree(originals["xlm-roberta"], tmp_path / "model")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def _change(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changes), "utf-8")


def _json(file):
    return json.loads(file.read_text("utf-8"))


def _change_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    save_file(change(dict(tensors)), folder / "model.safetensors", metadata={"format": "pt"})


def _kept(path, out):
    """Return the old id of each new one, by the tokens' names."""
    old, new = (Tokenizer.from_folder(folder, 128)._tokenizer for folder in (path, out))
    return np.array([old.token_to_id(new.id_to_token(number)) for number in range(new.get_vocab_size())])


def _outputs(folder, auto, texts):
    """Return what `transformers` makes of each text or pair: ids, and hidden states or logits."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, auto).from_pretrained(folder).eval()
    made = []
    with torch.no_grad():
        for text in texts:
            parts = (text,) if isinstance(text, str) else text
            inputs = tokenizer(*parts, return_tensors="pt", return_token_type_ids=False)
            made.append((inputs["input_ids"][0].numpy(), model(**inputs)[0]))
    return made


class TestWithTransformers:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_ids_and_hidden_states_are_the_same(self, originals, out, family):
        made = trim_folder(originals[family], iter(CORPUS), out)
        kept = _kept(originals[family], out)
        assert len(kept) == made.tokens_after < made.tokens_before
        before, after = (_outputs(path, "AutoModel", CORPUS) for path in (originals[family], out))
        for (old_ids, old_states), (new_ids, new_states) in zip(before, after, strict=True):
            assert kept[new_ids].tolist() == old_ids.tolist()
            assert torch.equal(new_states, old_states)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_texts_that_were_not_read_are_answered(self, originals, out, family):
        trim_folder(originals[family], CORPUS[:1], out)
        assert all(states.isfinite().all() for _, states in _outputs(out, "AutoModel", OTHERS))

    def test_pairs_of_texts(self, originals, out):
        trim_folder(originals["xlm-roberta"], CORPUS, out)
        pairs = [(CORPUS[0], CORPUS[1])]
        ((old_ids, old_states),) = _outputs(originals["xlm-roberta"], "AutoModel", pairs)
        ((new_ids, new_states),) = _outputs(out, "AutoModel", pairs)
        assert _kept(originals["xlm-roberta"], out)[new_ids].tolist() == old_ids.tolist()
        assert torch.equal(new_states, old_states)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_a_head_that_predicts_words_loses_the_same_rows(self, make_original, out, family):
        original = make_original(family, "AutoModelForMaskedLM")
        trim_folder(original, CORPUS, out)
        kept = _kept(original, out)
        before, after = (_outputs(path, "AutoModelForMaskedLM", CORPUS) for path in (original, out))
        for (_, old_logits), (_, new_logits) in zip(before, after, strict=True):
            assert torch.allclose(new_logits, old_logits[..., kept], atol=1e-6)

    def test_a_bert_with_the_tokenizer_of_xlm_r(self, make_original, out):
        """As multilingual E5 has it."""
        original = make_original("bert", tokenizer_of="xlm-roberta")
        trim_folder(original, CORPUS, out)
        before, after = (_outputs(path, "AutoModel", CORPUS) for path in (original, out))
        assert all(torch.equal(one, other) for (_, one), (_, other) in zip(before, after, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_our_own_classifier_answers_the_same(make_folder, out, family):
    texts = ["book a table", "what is the weather"]
    original = make_folder(family)
    trim_folder(original, texts, out)

    def answers(path):
        folder = read_folder(path)
        batch = Tokenizer.from_folder(path, 32).encode(texts)
        head = task_from_facts(folder.facts).head
        return run_all(model_from_folder(folder, head), batch, folder.config.positions).values

    assert read_folder(out).config.vocabulary_size < read_folder(original).config.vocabulary_size
    assert np.array_equal(answers(out), answers(original))


class TestSaved:
    def test_the_numbers_add_up(self, originals, out):
        made = trim_folder(originals["xlm-roberta"], (text for text in CORPUS), out)
        before, after = (
            load_file(path / "model.safetensors")["embeddings.word_embeddings.weight"]
            for path in (originals["xlm-roberta"], out)
        )
        assert (made.folder, made.texts) == (out, len(CORPUS))
        assert (made.tokens_before, made.tokens_after) == (len(before), len(after))
        assert (made.bytes_before, made.bytes_after) == (before.nbytes, after.nbytes)

    def test_a_table_stored_in_half_precision_is_served_in_full(self, folder, out):
        _change_tensors(folder, lambda tensors: {name: one.half() for name, one in tensors.items()})
        made = trim_folder(folder, CORPUS, out)
        assert made.bytes_after == made.tokens_after * HIDDEN * 4

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_tensors_keep_their_types_and_their_bytes(self, folder, out, dtype):
        _change_tensors(folder, lambda tensors: {name: one.to(dtype) for name, one in tensors.items()})
        _change_tensors(folder, lambda tensors: tensors | {"embeddings.position_ids": torch.arange(130)})
        trim_folder(folder, CORPUS, out)
        before, after = load_file(folder / "model.safetensors"), load_file(out / "model.safetensors")
        before["embeddings.word_embeddings.weight"] = before["embeddings.word_embeddings.weight"][_kept(folder, out)]
        assert {name: one.dtype for name, one in after.items()} == {name: one.dtype for name, one in before.items()}
        assert all(torch.equal(one, after[name]) for name, one in before.items())
        with safe_open(out / "model.safetensors", framework="pt") as opened:
            assert opened.metadata() == {"format": "pt"}

    def test_heads_of_older_checkpoints(self, folder, out):
        """They store the tied table once more, and biases under several names."""
        name = "embeddings.word_embeddings.weight"
        words = load_file(folder / "model.safetensors")[name]
        matrices = ["cls.predictions.decoder.weight", "lm_head.decoder.weight", "vocab_projector.weight"]
        biases = ["cls.predictions.bias", "cls.predictions.decoder.bias", "lm_head.bias", "vocab_projector.bias"]
        extra = {one: words.clone() for one in matrices} | {one: words[:, 0].clone() for one in biases}
        others = {"colours.decoder.weight": torch.rand(7, HIDDEN), "colours.decoder.bias": torch.tensor(1.0)}
        _change_tensors(folder, lambda tensors: tensors | extra | others)
        trim_folder(folder, CORPUS, out)
        after = load_file(out / "model.safetensors")
        assert len(after[name]) < len(words)
        assert all(torch.equal(after[one], after[name]) for one in matrices)
        assert all(torch.equal(after[one], after[name][:, 0]) for one in biases)
        assert all(torch.equal(after[one], tensor) for one, tensor in others.items())


class TestOtherFiles:
    def test_ids_in_configurations(self, folder, out):
        mask = Tokenizer.from_folder(folder, 8)._tokenizer.token_to_id("<mask>")
        unused = Tokenizer.from_folder(folder, 8)._tokenizer.token_to_id("▁music")
        ids = {"eos_token_id": [2, mask], "sep_token_id": None, "cls_token_id": unused, "bos_token_id": 10**6}
        _change(folder / "config.json", **ids)
        _change(
            folder / "tokenizer_config.json", added_tokens_decoder={"0": {"content": "<s>"}, str(mask): {}, "x": {}}
        )
        (folder / "generation_config.json").write_text('{"pad_token_id": 1, "max_length": 20}', "utf-8")
        made = trim_folder(folder, CORPUS, out)
        config = _json(out / "config.json")
        new_mask = made.tokens_after - 1
        assert config["vocab_size"] == made.tokens_after
        assert (config["pad_token_id"], config["sep_token_id"], config["bos_token_id"]) == (1, None, None)
        assert config["eos_token_id"] == [2, new_mask]
        assert _kept(folder, out)[config["cls_token_id"]] == unused, "a token that the model names stays"
        assert _json(out / "tokenizer_config.json")["added_tokens_decoder"] == {
            "0": {"content": "<s>"},
            str(new_mask): {},
        }
        assert _json(out / "generation_config.json") == {"pad_token_id": 1, "max_length": 20}
        assert config["hidden_size"] == _json(folder / "config.json")["hidden_size"]

    def test_what_stays_true_is_copied_and_what_does_not_is_left_behind(self, folder, out):
        true = ["README.md", "modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"]
        true += ["special_tokens_map.json", "config_sentence_transformers.json", "sentence_bert_config.json"]
        stale = ["vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "added_tokens.json"]
        stale += ["pytorch_model.bin", "tf_model.h5", "model.onnx", "onnx/model.onnx", "openvino/openvino_model.bin"]
        stale += [".git/HEAD", "model.safetensors.index.json", "checkpoint-500/model.safetensors"]
        for name in (*true, *stale):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(json.dumps(name), "utf-8")
        trim_folder(folder, CORPUS, out)
        found = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()}
        rewritten = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
        assert found == {*true, *rewritten}
        assert all(_json(out / name) == name for name in true)

    def test_a_broken_tokenizer_configuration_is_named(self, folder, out):
        for content in ("{", "[]", "[" * 100_000):
            (folder / "tokenizer_config.json").write_text(content, "utf-8")
            with pytest.raises(ModelError, match=r"tokenizer_config\.json"):
                trim_folder(folder, CORPUS, out)
            assert [file.name for file in out.parent.iterdir()] == ["model"]


def _set_vocabulary(folder, vocabulary):
    content = _json(folder / "tokenizer.json")
    model = {"type": "BPE", "vocab": vocabulary, "merges": [], "unk_token": "<unk>"}
    content |= {"model": model, "added_tokens": [], "post_processor": None}
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")


def test_what_stands_before_the_padding_token_stays(folder, out):
    """A RoBERTa model counts its positions from the padding token's id, which would change with it."""
    _set_vocabulary(folder, {"unused": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<s>": 4, "unused too": 5, "b": 6})
    trim_folder(folder, ["b"], out)
    assert _kept(folder, out).tolist() == [0, 1, 2, 3, 4, 6]


class TestRefusals:
    def test_what_is_no_model(self, tmp_path, out):
        with pytest.raises(ModelError, match="no such folder"):
            trim_folder(tmp_path / "nowhere", CORPUS, out)

    def test_pickled_weights(self, folder, out):
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        with pytest.raises(ModelError, match="a pickle"):
            trim_folder(folder, CORPUS, out)

    def test_a_table_smaller_than_the_vocabulary(self, folder, out):
        name = "embeddings.word_embeddings.weight"
        _change_tensors(folder, lambda tensors: tensors | {name: tensors[name][:-1].clone()})
        with pytest.raises(ModelError, match=r"word embeddings have \d+ rows, but .*tokenizer\.json has ids up to"):
            trim_folder(folder, iter(lambda: pytest.fail("the corpus was read"), None), out)

    def test_no_table(self, folder, out):
        _change_tensors(folder, lambda tensors: {k: v for k, v in tensors.items() if "word_embeddings" not in k})
        with pytest.raises(ModelError, match="should have one table of word embeddings"):
            trim_folder(folder, CORPUS, out)

    def test_a_padding_token_whose_id_would_change(self, folder, out):
        _set_vocabulary(folder, {"<pad>": 1, "</s>": 2, "<unk>": 3, "<s>": 4, "b": 5})
        with pytest.raises(ModelError, match=r"counts its positions from the id of the padding token, 1, which would"):
            trim_folder(folder, ["b"], out)

    def test_a_corpus_without_texts(self, folder, out):
        with pytest.raises(InputError, match="no texts"):
            trim_folder(folder, [], out)

    def test_a_place_that_is_taken(self, folder, out):
        out.mkdir()
        (out / "thesis.tex").write_text("", "utf-8")
        for taken in (out, out / "thesis.tex"):
            with pytest.raises(InputError, match="exists and is not a model folder"):
                trim_folder(folder, CORPUS, taken)
        assert [file.name for file in out.iterdir()] == ["thesis.tex"]

    def test_the_models_own_place(self, folder):
        before = {file.name: file.read_bytes() for file in folder.iterdir()}
        for place in (folder, folder / "small", folder.parent, folder / ".." / folder.name):
            with pytest.raises(InputError, match="own folder"):
                trim_folder(folder, CORPUS, place)
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


class TestWholeOrNothing:
    @pytest.mark.parametrize("interrupted", ["save_file", "_copy_rest"])
    @pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
    def test_an_interrupted_write_leaves_nothing(self, folder, out, monkeypatch, interrupted, error):
        def stop(*_args):
            raise error

        monkeypatch.setattr(trim, interrupted, stop)
        with pytest.raises(error):
            trim_folder(folder, CORPUS, out)
        assert [file.name for file in out.parent.iterdir()] == [folder.name]

    def test_and_leaves_an_older_folder(self, folder, out, monkeypatch):
        trim_folder(folder, CORPUS, out)
        before = {file.name: file.read_bytes() for file in out.iterdir()}
        monkeypatch.setattr(trim, "save_file", lambda *_args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trim_folder(folder, CORPUS[:1], out)
        assert {file.name: file.read_bytes() for file in out.iterdir()} == before
        assert {file.name for file in out.parent.iterdir()} == {"model", "out"}

    def test_what_a_killed_process_left_is_in_nobodys_way(self, folder, out):
        (out.parent / ".out.partial").mkdir()
        (out.parent / ".out.partial" / "half.json").write_text("{", "utf-8")
        trim_folder(folder, CORPUS, out)
        assert not (out / "half.json").exists()
        assert {file.name for file in out.parent.iterdir()} == {"model", "out"}

    def test_an_older_folder_is_replaced_whole(self, folder, out):
        trim_folder(folder, CORPUS, out)
        (out / "stale.json").write_text("{}", "utf-8")
        made = trim_folder(folder, CORPUS[:1], out)
        assert not (out / "stale.json").exists()
        assert _json(out / "config.json")["vocab_size"] == made.tokens_after

    def test_trimming_twice_changes_nothing_more(self, folder, out):
        trim_folder(folder, CORPUS, out)
        made = trim_folder(out, CORPUS, out.with_name("again"))
        assert made.tokens_after == made.tokens_before
        for name in ("model.safetensors", "tokenizer.json", "config.json"):
            assert (out / name).read_bytes() == (out.with_name("again") / name).read_bytes()
