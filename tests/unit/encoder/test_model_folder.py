import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.encoder.folder import (
    classifier_from_encoder,
    classifier_from_folder,
    read_folder,
    save_classifier,
)
from octavo.errors import ModelError

FAMILIES = ["bert", "roberta", "xlm-roberta", "distilbert"]


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


class TestRefusals:
    def test_not_a_folder(self, folder):
        with pytest.raises(ModelError, match="not a folder"):
            read_folder(folder / "config.json")
        with pytest.raises(ModelError, match="not a folder"):
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
        with pytest.raises(ModelError, match=r"no classification head \(classifier\.weight\).*octavo finetune"):
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
        assert read_folder(folder).labels == ("LABEL_0", "LABEL_1")
        with pytest.raises(ModelError, match=r"classifier\.weight has shape \(5, 32\).*asks for \(2, 32\)"):
            classifier_from_folder(read_folder(folder))

    @pytest.mark.parametrize("labels", [None, [], ["a", "b"], {"0": "a", "2": "b"}, {"0": 1, "1": 2}, {"0": "a"}])
    def test_unusable_labels(self, folder, labels):
        change_config(folder, id2label=labels)
        with pytest.raises(ModelError, match=r"id2label|at least 2 labels"):
            classifier_from_folder(read_folder(folder))

    @pytest.mark.parametrize("task", ["BertForTokenClassification", "BertForMaskedLM"])
    def test_a_model_of_another_task(self, folder, task):
        change_config(folder, architectures=[task])
        with pytest.raises(ModelError, match=f"holds a {task}.*BertForSequenceClassification"):
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
        assert read_folder(originals["bert"]).labels == tuple(f"label {i}" for i in range(5))

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
        save_classifier(model, ("a", "b", "ü"), template, tmp_path / "out")
        read = read_folder(tmp_path / "out")
        assert read.labels == ("a", "b", "ü")
        assert read.config == template.config
        assert_same_model(classifier_from_folder(read), model)

    def test_an_older_folder_is_replaced_whole(self, originals, tmp_path):
        template = read_folder(originals["bert"])
        out = tmp_path / "out"
        out.mkdir()
        (out / "stale.json").write_text("{}", "utf-8")
        save_classifier(classifier_from_folder(template), template.labels, template, out)
        assert {file.name for file in out.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
        assert [file.name for file in tmp_path.iterdir()] == ["out"]

    def test_onto_its_own_template(self, folder):
        template = read_folder(folder)
        model = classifier_from_encoder(template, 3, seed=0)
        save_classifier(model, ("a", "b", "c"), template, folder)
        assert_same_model(classifier_from_folder(read_folder(folder)), model)

    def test_a_failure_leaves_the_older_folder_and_nothing_else(self, originals, folder, monkeypatch):
        template = read_folder(originals["bert"])
        model = classifier_from_folder(template)
        before = {file.name: file.read_bytes() for file in folder.iterdir()}

        def full(*_args, **_options):
            raise OSError("no space left on device")

        monkeypatch.setattr("octavo.encoder.folder.save_file", full)
        with pytest.raises(OSError, match="no space"):
            save_classifier(model, template.labels, template, folder)
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
        assert [file.name for file in folder.parent.iterdir()] == [folder.name]
