"""Folders that sentence-transformers writes today are read, and it loads what the tasks write."""

import json

import numpy as np
import pytest
import torch

from octavo.tasks.base import FolderFacts, Reads
from octavo.tasks.embed import Embed
from octavo.tasks.rank import Rank

library = pytest.importorskip("sentence_transformers")

PROMPTS = (("query", "book a "), ("document", "turn it off "))  # in the words of the tiny vocabulary
BESIDE_WEIGHTS = ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json")


def read_facts(folder):
    """Return a folder's JSON as a reader of folders hands it over."""
    files = {str(file.relative_to(folder)): json.loads(file.read_bytes()) for file in folder.rglob("*.json")}
    return FolderFacts(files.pop("config.json"), files, str(folder))


@pytest.fixture(scope="module")
def save_embedder(make_folder, tmp_path_factory):
    """Return what the library writes for a tiny encoder, as (folder, model)."""
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")

    def save(pooling, normalize, **options):
        parts = [modules.Transformer(str(make_folder("bert"))), modules.Pooling(32, pooling)]
        parts += [modules.Normalize()] if normalize else []
        model = library.SentenceTransformer(modules=parts, device="cpu", **options)
        folder = tmp_path_factory.mktemp("embedder")
        model.save_pretrained(str(folder), create_model_card=False)
        return folder, model

    return save


@pytest.mark.parametrize(
    ("pooling", "normalize", "similarity", "reads"),
    [("mean", True, "cosine", Reads.MEAN), ("cls", False, "dot", Reads.FIRST), ("lasttoken", True, None, Reads.LAST)],
)
def test_a_folder_of_sentence_transformers_is_read_and_written(
    save_embedder, tmp_path, pooling, normalize, similarity, reads
):
    folder, model = save_embedder(pooling, normalize, prompts=dict(PROMPTS), similarity_fn_name=similarity)
    facts = read_facts(folder)
    assert Embed.claims(facts)
    task = Embed.from_folder(facts)
    assert task == Embed(reads, normalize, PROMPTS, similarity or "cosine", 32)
    # What the task writes beside the weights is the same model to the library.
    ours = tmp_path / "ours"
    ours.mkdir()
    for file in folder.glob("*"):
        if file.is_file() and file.name not in BESIDE_WEIGHTS:
            (ours / file.name).write_bytes(file.read_bytes())
    for name, content in task.folder_facts().files.items():
        (ours / name).parent.mkdir(exist_ok=True)
        (ours / name).write_text(json.dumps(content))
    again = type(model)(str(ours), device="cpu")
    assert again.similarity_fn_name == (similarity or "cosine")
    assert again.get_embedding_dimension() == 32
    texts = ["book a table", "what is the weather for two"]
    assert not np.allclose(model.encode_query(texts), model.encode_document(texts), atol=1e-3)  # prompts matter
    np.testing.assert_array_equal(again.encode_query(texts), model.encode_query(texts))
    np.testing.assert_array_equal(again.encode_document(texts), model.encode_document(texts))
    assert Embed.from_folder(read_facts(ours)) == task


def test_the_folder_of_an_older_version_is_read(sample_encoder_folder):
    task = Embed.from_folder(read_facts(sample_encoder_folder))
    assert task == Embed(Reads.MEAN, normalize=True, dimensions=384)


@pytest.mark.parametrize("activation", ["sigmoid", "identity"])
def test_a_cross_encoder_of_sentence_transformers_is_read_and_written(make_folder, tmp_path, activation):
    function = torch.nn.Sigmoid() if activation == "sigmoid" else torch.nn.Identity()
    model = library.CrossEncoder(str(make_folder("bert", labels=1)), num_labels=1, device="cpu", activation_fn=function)
    folder = tmp_path / "theirs"
    model.save_pretrained(str(folder), create_model_card=False)
    facts = read_facts(folder)
    assert Rank.claims(facts)
    task = Rank.from_folder(facts)
    assert task == Rank(activation)
    # What the task writes into config.json is the same model to the library, without any file of its own.
    for name in BESIDE_WEIGHTS:
        (folder / name).unlink(missing_ok=True)
    (folder / "config.json").write_text(json.dumps(facts.config | task.folder_facts().config))
    assert task.folder_facts().files == {}
    pairs = [("book a table", "a table for two"), ("book a table", "the weather")]
    again = library.CrossEncoder(str(folder), device="cpu")
    np.testing.assert_allclose(again.predict(pairs), model.predict(pairs), rtol=1e-6)
    assert Rank.from_folder(read_facts(folder)) == task
