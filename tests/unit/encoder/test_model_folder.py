import json
import pickle
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.encoder import folder as folder_module
from octavo.encoder.folder import model_from_encoder, model_from_folder, read_folder, save_model
from octavo.encoder.running import run
from octavo.errors import ModelError
from octavo.tasks.base import FolderFacts, Head, Reads
from octavo.tasks.classify import Classify
from octavo.tasks.embed import Embed
from octavo.tasks.labels import config_from_labels
from octavo.tasks.rank import Rank
from octavo.tasks.registry import task_from_facts

FAMILIES = ["bert", "roberta", "xlm-roberta", "distilbert"]


@dataclass(frozen=True)
class Tagger:
    """What `save_model` asks of a task, for a head that answers each word."""

    labels = ("O", "B-place", "I-place")
    head = Head(Reads.WORDS, 3)

    def folder_facts(self):
        return FolderFacts(config_from_labels(self.labels))


TASKS = {
    "classify": Classify(("a", "b", "ü")),
    "rank": Rank("identity"),
    "tag": Tagger(),
    "embed by the mean": Embed(Reads.MEAN, normalize=True, prompts=(("query", "query: "),), dimensions=32),
    "embed by the first": Embed(Reads.FIRST, normalize=False, similarity="dot", dimensions=32),
    "embed by the last": Embed(Reads.LAST, normalize=True, dimensions=32),
}
HEADS = {"classify": "classify", "rank": "pairs", "tag": "words", "embed by the mean": "mean"} | {
    "embed by the first": "first",
    "embed by the last": "last",
}


@pytest.fixture(scope="module")
def originals(make_folder):
    return {family: make_folder(family) for family in FAMILIES}


@pytest.fixture
def folder(originals, tmp_path):
    """A BERT folder to spoil."""
    return shutil.copytree(originals["bert"], tmp_path / "model")


def change_config(folder, **changes):
    file = folder / "config.json"
    config = json.loads(file.read_text("utf-8")) | changes
    kept = {key: value for key, value in config.items() if value is not ...}  # ... removes the key
    file.write_text(json.dumps(kept), "utf-8")


def change_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    save_file(change(dict(tensors)), folder / "model.safetensors", metadata={"format": "pt"})


def assert_same_model(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def classifier_from_folder(folder):
    return model_from_folder(folder, Classify.from_folder(folder.facts).head)


def classifier_from_encoder(folder, labels, seed):
    return model_from_encoder(folder, Head(Reads.FIRST, labels, dense=True), seed)


def labels_of(folder):
    return Classify.from_folder(folder.facts).labels


class TestRefusals:
    def test_not_a_folder(self, folder):
        with pytest.raises(ModelError, match="not a folder"):
            read_folder(folder / "config.json")
        with pytest.raises(ModelError, match="no such folder"):
            read_folder(folder / "nowhere")

    def test_no_config(self, folder):
        (folder / "config.json").unlink()
        with pytest.raises(ModelError, match=r"no config\.json"):
            read_folder(folder)

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"bert"', b"\xff\xfe{}", b"{'a': 1}"])
    def test_broken_json(self, folder, content):
        (folder / "config.json").write_bytes(content)
        with pytest.raises(ModelError, match=r"config\.json.*JSON"):
            read_folder(folder)

    def test_another_family(self, folder):
        change_config(folder, model_type="deberta-v2")
        with pytest.raises(ModelError, match=r"config\.json: model_type 'deberta-v2'"):
            read_folder(folder)

    def test_remote_code(self, folder):
        change_config(folder, auto_map={"AutoModel": "modeling.Mine"})
        (folder / "modeling.py").write_text("raise SystemExit('ran')", "utf-8")
        with pytest.raises(ModelError, match="runs no remote code"):
            read_folder(folder)

    def test_adapter(self, folder):
        (folder / "adapter_config.json").write_text("{}", "utf-8")
        with pytest.raises(ModelError, match=r"LoRA adapter.*merge_and_unload"):
            read_folder(folder)

    def test_no_tokenizer(self, folder):
        (folder / "tokenizer.json").unlink()
        with pytest.raises(ModelError, match=r"no tokenizer\.json.*save_pretrained"):
            read_folder(folder)

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "tf_model.h5"])
    def test_pickled_weights_alone_are_never_opened(self, folder, tmp_path, name):
        (folder / "model.safetensors").unlink()
        ran = tmp_path / "ran"
        (folder / name).write_bytes(pickle.dumps(_Touch(ran)))
        with pytest.raises(ModelError, match=f"{name}, a pickle"):
            read_folder(folder)
        assert not ran.exists()

    def test_pickled_weights_beside_safe_ones_are_never_opened(self, folder, tmp_path):
        ran = tmp_path / "ran"
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Touch(ran)))
        classifier_from_folder(read_folder(folder))
        assert not ran.exists()

    def test_no_weights(self, folder):
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        with pytest.raises(ModelError, match=r"no model\.safetensors.*shards"):
            read_folder(folder)

    @pytest.mark.parametrize("kept", [0, 4, 100, -1])
    def test_truncated_weights(self, folder, kept):
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:kept])
        with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
            read_folder(folder)

    @pytest.mark.parametrize(
        "name",
        [
            "bert.embeddings.word_embeddings.weight",
            "bert.encoder.layer.1.attention.self.key.bias",
            "bert.encoder.layer.0.output.LayerNorm.weight",
            "bert.pooler.dense.weight",
            "classifier.bias",
        ],
    )
    def test_a_missing_tensor_is_named(self, folder, name):
        change_tensors(folder, lambda tensors: {k: v for k, v in tensors.items() if k != name})
        with pytest.raises(ModelError, match=f"no tensor {name}, which a bert model needs"):
            classifier_from_folder(read_folder(folder))

    def test_no_head(self, folder):
        change_tensors(folder, lambda t: {k: v for k, v in t.items() if not k.startswith("classifier")})
        with pytest.raises(ModelError, match=r"has no head \(classifier\.weight\).*octavo finetune"):
            classifier_from_folder(read_folder(folder))

    @pytest.mark.parametrize(
        ("name", "spoilt"),
        [
            ("bert.encoder.layer.0.intermediate.dense.weight", lambda x: x[:-1]),
            ("bert.encoder.layer.0.intermediate.dense.weight", lambda x: x.T),
            ("bert.encoder.layer.1.attention.self.query.weight", lambda x: x[:, :-1]),
            ("bert.encoder.layer.1.attention.self.value.bias", lambda x: x[0]),
            ("bert.embeddings.position_embeddings.weight", lambda x: x[:10]),
            ("classifier.weight", lambda x: x[:3]),
        ],
    )
    def test_a_wrong_shape_is_named(self, folder, name, spoilt):
        change_tensors(folder, lambda tensors: tensors | {name: spoilt(tensors[name]).contiguous()})
        with pytest.raises(ModelError, match=f"{name} has shape .*config.json asks for"):
            classifier_from_folder(read_folder(folder))

    def test_q_and_k_of_wrong_shapes_that_add_up_are_refused(self, folder):
        at = "bert.encoder.layer.0.attention.self."

        def shift(tensors):
            query, key = tensors[f"{at}query.bias"], tensors[f"{at}key.bias"]
            return tensors | {f"{at}query.bias": torch.cat([query, key[:1]]), f"{at}key.bias": key[1:].clone()}

        change_tensors(folder, shift)
        with pytest.raises(ModelError, match=r"query\.bias has shape \(33,\)"):
            classifier_from_folder(read_folder(folder))

    def test_labels_and_head_disagree(self, folder):
        change_config(folder, id2label={"0": "a", "1": "b"})
        with pytest.raises(ModelError, match=r"classifier\.weight has shape \(5, 32\).*asks for \(2, 32\)"):
            classifier_from_folder(read_folder(folder))

    def test_no_labels_are_the_two_default_ones(self, folder):
        """`transformers` leaves them out of config.json; a head of another size is refused."""
        change_config(folder, id2label=...)
        assert labels_of(read_folder(folder)) == ("LABEL_0", "LABEL_1")
        with pytest.raises(ModelError, match=r"classifier\.weight has shape \(5, 32\).*asks for \(2, 32\)"):
            classifier_from_folder(read_folder(folder))

    @pytest.mark.parametrize("labels", [[], ["a", "b"], {"0": "a", "2": "b"}, {"0": 1, "1": 2}, {"0": "a"}])
    def test_unusable_labels(self, folder, labels):
        change_config(folder, id2label=labels)
        with pytest.raises(ModelError, match=r"id2label|at least 2 labels"):
            classifier_from_folder(read_folder(folder))

    def test_labels_that_are_null_are_the_default_ones(self, folder):
        change_config(folder, id2label=None)
        with pytest.raises(ModelError, match=r"classifier\.weight has shape \(5, 32\).*asks for \(2, 32\)"):
            classifier_from_folder(read_folder(folder))

    @pytest.mark.parametrize("task", ["BertForTokenClassification", "BertForMaskedLM"])
    def test_a_model_of_another_task(self, folder, task):
        change_config(folder, architectures=[task])
        with pytest.raises(ModelError, match=f"holds a {task}.*needs a BertForSequenceClassification"):
            classifier_from_folder(read_folder(folder))

    @pytest.mark.parametrize("value", [None, "BertForMaskedLM", [None], [["a"]], 3])
    def test_architectures_that_are_no_list_of_names_say_nothing(self, folder, value):
        change_config(folder, architectures=value)
        classifier_from_folder(read_folder(folder))


class _Touch:
    """Unpickles by creating a file: proof that a pickle was opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))


class TestReading:
    def test_labels_in_the_order_of_the_outputs(self, originals):
        assert labels_of(read_folder(originals["bert"])) == tuple(f"label {i}" for i in range(5))

    def test_evaluation_mode(self, originals):
        folder = read_folder(originals["bert"])
        assert not classifier_from_folder(folder).training
        assert not classifier_from_encoder(folder, 3, seed=0).training

    def test_gamma_and_beta(self, originals, folder):
        def rename(tensors):
            return {
                k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
                for k, v in tensors.items()
            }

        change_tensors(folder, rename)
        assert not any("LayerNorm.weight" in name for name in load_file(folder / "model.safetensors"))
        assert_same_model(
            classifier_from_folder(read_folder(folder)),
            classifier_from_folder(read_folder(originals["bert"])),
        )

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_float_types_are_read_as_float32(self, folder, dtype):
        change_tensors(folder, lambda tensors: {k: v.to(dtype) for k, v in tensors.items()})
        model = classifier_from_folder(read_folder(folder))
        assert {p.dtype for p in model.parameters()} == {torch.float32}

    def test_tensors_that_are_not_needed_are_ignored(self, folder, originals):
        extra = {"bert.embeddings.position_ids": torch.arange(512), "cls.predictions.bias": torch.ones(3)}
        change_tensors(folder, lambda tensors: tensors | extra)
        assert_same_model(
            classifier_from_folder(read_folder(folder)),
            classifier_from_folder(read_folder(originals["bert"])),
        )


class TestSentenceTransformers:
    """Folders in which the encoder lies beside what follows it."""

    @pytest.fixture
    def nested(self, folder):
        inner = folder / "0_Transformer"
        inner.mkdir()
        for file in list(folder.glob("*.*")):
            if file.is_file():
                file.rename(inner / file.name)
        modules = [{"type": "m.Transformer", "path": "0_Transformer"}, {"type": "m.Pooling", "path": "1_Pooling"}]
        (folder / "modules.json").write_text(json.dumps(modules), "utf-8")
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}', "utf-8")
        return folder

    def test_the_encoder_is_read_where_it_lies(self, nested, originals):
        read = read_folder(nested)
        assert read.path == nested / "0_Transformer"
        task = task_from_facts(read.facts)
        assert (task.pooling, task.dimensions) == (Reads.FIRST, 32)
        expected = model_from_folder(read_folder(originals["bert"]), task.head)
        assert_same_model(model_from_folder(read, task.head), expected)

    @pytest.mark.parametrize("path", ["..", "../other", "/tmp", "a/../../b", 3, None])
    def test_a_path_out_of_the_folder_is_refused(self, nested, path):
        (nested / "modules.json").write_text(json.dumps([{"type": "m.Transformer", "path": path}]), "utf-8")
        with pytest.raises(ModelError, match="leads out of the folder"):
            read_folder(nested)

    @pytest.mark.parametrize("content", ["{", "\xff"])
    def test_broken_modules(self, nested, content):
        (nested / "modules.json").write_text(content, "latin-1")
        with pytest.raises(ModelError, match=r"modules\.json cannot be read as JSON"):
            read_folder(nested)

    @pytest.mark.parametrize("content", [{}, [], [3], "x", None])
    def test_modules_that_say_nothing(self, folder, content):
        (folder / "modules.json").write_text(json.dumps(content), "utf-8")
        assert read_folder(folder).path == folder

    def test_the_tokenizers_settings_are_among_the_facts(self, folder):
        """Lower-casing that both files ask for is that of tokenizer.json, and no reason to refuse the folder."""
        (folder / "modules.json").write_text('[{"type": "m.Transformer", "path": ""}]', "utf-8")
        (folder / "sentence_bert_config.json").write_text('{"do_lower_case": true}', "utf-8")
        (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}', "utf-8")
        change_config(folder, id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0})
        assert task_from_facts(read_folder(folder).facts) == Rank()


class TestHeads:
    def test_an_embedding_needs_no_head_whatever_the_model_was_trained_for(self, originals, make_batch):
        read = read_folder(originals["bert"])
        model = model_from_folder(read, Head(Reads.MEAN))
        assert not list(model.head.parameters())
        assert run(model, make_batch([3, 5]), read.config.positions).shape == (2, 32)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_a_tagger_is_read(self, make_folder, family):
        folder = read_folder(make_folder(family, kind="ForTokenClassification"))
        model = model_from_folder(folder, Head(Reads.WORDS, 5))
        assert torch.equal(model.head.output.weight, folder.tensors["classifier.weight"])
        with pytest.raises(ModelError, match=r"holds a \w+ForTokenClassification.*ForSequenceClassification"):
            model_from_folder(folder, Head(Reads.FIRST, 5, dense=True))

    def test_an_encoder_alone_is_no_tagger_and_no_ranker(self, make_folder):
        folder = read_folder(make_folder("bert", kind="Model"))
        for head in (Head(Reads.WORDS, 5), Head(Reads.FIRST, 1, dense=True)):
            with pytest.raises(ModelError, match=r"no head \(classifier\.weight\).*octavo finetune"):
                model_from_folder(folder, head)

    def test_a_new_head_without_a_dense_layer_is_drawn_by_the_seed(self, originals):
        folder = read_folder(originals["bert"])
        one, same, other = (model_from_encoder(folder, Head(Reads.WORDS, 9), seed) for seed in (1, 1, 2))
        assert_same_model(one, same)
        assert not torch.equal(one.head.output.weight, other.head.output.weight)
        assert one.head.output.weight.shape == (9, 32)


class TestEncoderAlone:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_without_prefix_and_head(self, originals, tmp_path, family):
        folder = shutil.copytree(originals[family], tmp_path / "model")
        prefix = {"bert": "bert.", "distilbert": "distilbert."}.get(family, "roberta.")

        def encoder_only(tensors):
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        change_tensors(folder, encoder_only)
        with_prefix = classifier_from_encoder(read_folder(originals[family]), 3, seed=5)
        without = classifier_from_encoder(read_folder(folder), 3, seed=5)
        assert_same_model(without.encoder, with_prefix.encoder)
        if family == "bert":  # its pooler is saved with the encoder
            assert_same_model(without.head, with_prefix.head)

    def test_the_trained_pooler_is_kept(self, originals):
        folder = read_folder(originals["bert"])
        model = classifier_from_encoder(folder, 3, seed=0)
        assert torch.equal(model.head.dense.weight, folder.tensors["bert.pooler.dense.weight"])

    def test_without_pooler_the_head_is_new(self, folder):
        change_tensors(folder, lambda t: {k: v for k, v in t.items() if "pooler" not in k})
        head = classifier_from_encoder(read_folder(folder), 3, seed=0).head
        assert 0.015 < head.dense.weight.detach().std().item() < 0.025
        assert not head.dense.bias.any()

    def test_the_new_head_depends_on_the_seed_alone(self, originals):
        folder = read_folder(originals["bert"])
        one, same, other = (classifier_from_encoder(folder, 3, seed) for seed in (1, 1, 2))
        assert_same_model(one, same)
        assert not torch.equal(one.head.output.weight, other.head.output.weight)

    def test_a_missing_tensor_is_named(self, folder):
        name = "bert.encoder.layer.0.attention.self.query.weight"
        change_tensors(folder, lambda tensors: {k: v for k, v in tensors.items() if k != name})
        with pytest.raises(ModelError, match=f"no tensor {name}"):
            classifier_from_encoder(read_folder(folder), 3, seed=0)


class TestSaving:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_round_trip(self, originals, tmp_path, family):
        template = read_folder(originals[family])
        model = classifier_from_encoder(template, 3, seed=0)
        save_model(model, Classify(("a", "b", "ü")), template, tmp_path / "out")
        read = read_folder(tmp_path / "out")
        assert labels_of(read) == ("a", "b", "ü")
        assert read.config == template.config
        assert_same_model(classifier_from_folder(read), model)

    @pytest.mark.parametrize("name", TASKS)
    @pytest.mark.parametrize("family", FAMILIES)
    def test_every_task_reads_back_what_it_was(self, originals, tmp_path, make_batch, family, name):
        task, template = TASKS[name], read_folder(originals[family])
        model = model_from_encoder(template, task.head, seed=3)
        save_model(model, task, template, tmp_path / "out")
        read = read_folder(tmp_path / "out")
        if name != "tag":
            assert task_from_facts(read.facts) == task
        again = model_from_folder(read, task.head)
        assert_same_model(again, model)
        batch = make_batch([3, 1, 9], head=HEADS[name])
        assert np.array_equal(*(run(one, batch, read.config.positions) for one in (model, again)))

    @pytest.mark.parametrize("name", TASKS)
    def test_nothing_is_left_of_the_head_that_the_template_had(self, originals, folder, tmp_path, name):
        change_config(folder, problem_type="regression", num_labels=7, sbert_ce_default_activation_function="x")
        (folder / "modules.json").write_text('[{"type": "x.Pooling", "path": ""}]', "utf-8")
        template, task = read_folder(folder), TASKS[name]
        save_model(model_from_encoder(template, task.head, seed=3), task, template, tmp_path / "out")
        config = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))
        said = task.folder_facts()
        for key in ("id2label", "label2id", "problem_type", "num_labels", "sbert_ce_default_activation_function"):
            assert config.get(key) == said.config.get(key)
        written = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.json")}
        assert written == {"config.json", "tokenizer.json", *said.files}
        suffix = {"classify": "ForSequenceClassification", "rank": "ForSequenceClassification"}
        assert config["architectures"] == ["Bert" + (suffix | {"tag": "ForTokenClassification"}).get(name, "Model")]

    def test_an_older_folder_is_replaced_whole(self, originals, tmp_path):
        template = read_folder(originals["bert"])
        out = tmp_path / "out"
        out.mkdir()
        (out / "stale.json").write_text("{}", "utf-8")
        save_model(classifier_from_folder(template), Classify(labels_of(template)), template, out)
        assert {file.name for file in out.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
        assert [file.name for file in tmp_path.iterdir()] == ["out"]

    def test_onto_its_own_template(self, folder):
        template = read_folder(folder)
        model = classifier_from_encoder(template, 3, seed=0)
        save_model(model, Classify(("a", "b", "c")), template, folder)
        assert_same_model(classifier_from_folder(read_folder(folder)), model)

    def test_a_failure_leaves_the_older_folder_and_nothing_else(self, originals, folder, monkeypatch):
        template = read_folder(originals["bert"])
        model = classifier_from_folder(template)
        before = {file.name: file.read_bytes() for file in folder.iterdir()}

        def full(*_args, **_options):
            raise OSError("no space left on device")

        monkeypatch.setattr(folder_module, "save_file", full)
        with pytest.raises(OSError, match="no space"):
            save_model(model, Classify(labels_of(template)), template, folder)
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
        assert [file.name for file in folder.parent.iterdir()] == [folder.name]
