import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from octavo.errors import InputError, ModelError
from octavo.tasks.base import FolderFacts, Head, Purpose, Reads
from octavo.tasks.classify import Classify, LabelledSplit
from octavo.tasks.probabilities import softmax
from octavo.tasks.registry import task_from_facts, task_from_settings
from octavo.types import Measure, Outputs, Pair, Row, Rows

TASK = Classify(("greeting", "refund", "tracking"))
logits_of_four = hnp.arrays(np.float32, (4, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32))


def outputs(values):
    return Outputs.one_each(np.asarray(values, np.float32))


def from_config(config):
    return Classify.from_folder(FolderFacts(config))


def split_of(labels, texts=None):
    texts = texts or [f"text {i}" for i in range(len(labels))]
    rows = [Row(text, label, f"rows.jsonl:{i}") for i, (text, label) in enumerate(zip(texts, labels, strict=True), 1)]
    return LabelledSplit(TASK, Rows("test", rows, sha256="0" * 64))


class TestLabels:
    def test_come_from_the_config_in_the_order_of_their_ids(self):
        config = {"id2label": {str(i): f"label {i}" for i in reversed(range(12))}}
        assert from_config(config).labels == tuple(f"label {i}" for i in range(12))
        assert from_config({"id2label": {0: "no", 1: "yes"}}).labels == ("no", "yes")

    def test_that_are_left_out_are_the_default_ones(self):
        assert from_config({}).labels == ("LABEL_0", "LABEL_1")
        assert from_config({"num_labels": 3}).labels == ("LABEL_0", "LABEL_1", "LABEL_2")

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ({"id2label": []}, "id2label must be"),
            ({"id2label": ["a", "b"]}, "id2label must be"),
            ({"id2label": {"0": 1, "1": 2}}, "id2label must be"),
            ({"id2label": {"0": "a", "2": "b"}}, "none for id 1"),
            ({"id2label": {"0": "a"}}, "at least 2"),
            ({"id2label": {"0": "a", "1": "a"}}, "'a' occurs twice"),
            ({"id2label": {"0": "a", "1": "b"}, "problem_type": "multi_label_classification"}, "multi_label"),
        ],
    )
    def test_that_make_no_classifier_are_refused(self, config, words):
        with pytest.raises(ModelError, match=words):
            from_config(config)

    def test_of_rows_are_in_alphabetical_order(self, tmp_path):
        file = tmp_path / "train.jsonl"
        lines = [json.dumps({"text": "a", "label": label}) + "\n" for label in ("b", "ü", "a", "b")]
        file.write_text("".join(lines), "utf-8")
        assert Classify.from_rows(file).labels == ("a", "b", "ü")
        file.write_text(lines[0] * 2, "utf-8")
        with pytest.raises(InputError, match=r"train\.jsonl: the rows have 1 label"):
            Classify.from_rows(file)

    def test_survive_a_folder_and_a_release(self):
        facts = TASK.folder_facts()
        config = json.loads(json.dumps(facts.config)) | {"architectures": ["BertForSequenceClassification"]}
        assert task_from_facts(FolderFacts(config)) == TASK
        assert task_from_settings("classify", json.loads(json.dumps(TASK.settings())), "here") == TASK

    @pytest.mark.parametrize("settings", [{}, {"labels": None}, {"labels": 3}, {"labels": ["a"]}])
    def test_of_a_release_that_cannot_be_used(self, settings):
        with pytest.raises(ModelError):
            task_from_settings("classify", settings, "here")


@pytest.mark.parametrize(
    ("config", "claimed"),
    [
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"}}, True),
        ({"architectures": ["RobertaForSequenceClassification"]}, True),  # two default labels
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a"}}, False),  # a ranker
        ({"architectures": ["BertForTokenClassification"], "id2label": {"0": "a", "1": "b"}}, False),
        ({"architectures": ["BertModel"]}, False),
        ({"architectures": None}, False),
        ({}, False),
    ],
)
def test_a_folder_is_claimed_by_its_architecture_and_its_labels(config, claimed):
    assert Classify.claims(FolderFacts(config)) == claimed


def test_the_head_reads_the_first_token():
    assert TASK.head == Head(Reads.FIRST, 3, dense=True)


def test_truth_is_the_ids_of_the_labels():
    truth = TASK.truth([Row("a", "tracking"), Row("b", "greeting")])
    assert truth.tolist() == [2, 0]
    assert truth.dtype == np.int64
    assert TASK.truth([]).shape == (0,)


def test_an_unknown_label_is_named_with_its_place_and_near_labels():
    with pytest.raises(InputError, match=r"rows\.jsonl:9: the label 'trakcing' .* Did you mean 'tracking'"):
        TASK.truth([Row("a", "trakcing", "rows.jsonl:9")])
    with pytest.raises(InputError, match=r"rows\.jsonl:1: this row has no label"):
        TASK.truth([Row("a", None, "rows.jsonl:1")])


def test_decode_orders_the_likeliest_labels():
    first, second = TASK.decode(outputs([[0, 2, 1], [5, 5, 4]]), ["a", "b"])
    assert first.label == "refund"
    assert list(first.scores) == ["refund", "tracking", "greeting"]
    assert first.confidence == first.scores["refund"] == pytest.approx(np.exp(2) / (1 + np.e + np.exp(2)), rel=1e-6)
    assert second.label == "greeting"  # of equals, the first
    assert TASK.decode(outputs(np.empty((0, 3))), []) == []


def test_of_many_labels_the_likeliest_are_listed():
    task = Classify(tuple(f"label {i}" for i in range(20)))
    (answer,) = task.decode(outputs([np.arange(20)]), ["a"])
    assert list(answer.scores) == [f"label {i}" for i in (19, 18, 17, 16, 15)]
    assert answer.scores["label 19"] == pytest.approx(1 - np.exp(-1), rel=1e-6)  # of all of them, not of the listed


def test_a_line_says_the_label_and_the_next_ones():
    (answer,) = TASK.decode(outputs([[0, 2, 1]]), ["a"])
    assert answer.line() == "refund  66.5%  (tracking 24.5%, greeting 9.0%)"


@pytest.mark.parametrize("shape", [(2, 4), (3,), (1, 2, 3)])
def test_a_head_of_another_size_is_refused(shape):
    with pytest.raises(ModelError, match="3 labels"):
        TASK.decode(outputs(np.zeros(shape)), [])


class TestInputs:
    def test_are_texts_and_pairs(self):
        assert TASK.prepare(["a", Pair("b", "c"), ("d", "e"), ""]) == ["a", Pair("b", "c"), Pair("d", "e"), ""]

    @pytest.mark.parametrize("item", [None, 3, b"bytes", ["a", "b"], ("a",), ("a", 1), ("a", "b", "c")])
    def test_of_another_form_are_refused(self, item):
        with pytest.raises(InputError, match="A text to classify is a string"):
            TASK.prepare(["fine", item])

    def test_of_a_log(self):
        assert TASK.inputs_from_log("  play it \n", "log:1") == ["play it"]
        assert TASK.inputs_from_log({"text": "play it", "label": "x"}, "log:1") == ["play it"]
        assert TASK.inputs_from_log(" ", "log:1") == TASK.inputs_from_log({"text": ""}, "log:1") == []
        for record in ({}, {"text": 3}, {"query": "a"}):
            with pytest.raises(InputError, match='log:7: there is no "text"'):
                TASK.inputs_from_log(record, "log:7")

    def test_of_a_command(self):
        assert TASK.items_from_arguments(["a", "b c"]) == [("a", "a"), ("b c", "b c")]


class TestSplit:
    def test_is_read_and_checked(self, tmp_path):
        file = tmp_path / "test.jsonl"
        file.write_text('{"text": "where is it", "label": "tracking"}\n{"text": "hi", "label": "greetin"}\n', "utf-8")
        with pytest.raises(InputError, match=r"test\.jsonl:2.*Did you mean 'greeting'"):
            TASK.read(file, Purpose.TEST)
        file.write_text('{"text": "where is it", "label": "tracking"}\n', "utf-8")
        split = TASK.read(file, Purpose.TEST)
        assert list(split.inputs) == ["where is it"]
        assert len(split.sha256) == 64

    def test_counts_rows(self):
        split = split_of(["refund", "tracking"], ["a", "b"])
        units = split.units
        assert (units.word, list(units.texts), list(units.truth)) == ("row", ["a", "b"], ["refund", "tracking"])
        assert units.inputs.tolist() == [0, 1]
        assert list(units.slices) == ["refund", "tracking"]
        assert split.groups.inputs.tolist() == [0, 1]
        assert len(split.groups) == 2

    def test_answers_are_judged_against_truth_and_teacher(self):
        split = split_of(["refund", "tracking", "greeting"])
        answers = split.answers(outputs(np.eye(3)), outputs([[1, 0, 0], [0, 1, 0], [0, 1, 0]]))
        (measure,) = answers.measures
        assert isinstance(measure, Measure)
        assert (measure.name, measure.value) == ("accuracy", 0)
        assert answers.names == ["greeting", "refund", "tracking"]
        assert answers.agreement.tolist() == [1, 1, 0]
        assert answers.confidence == pytest.approx(np.full(3, np.e / (np.e + 2)))
        np.testing.assert_allclose(answers.shown.sum(axis=1), 1, rtol=1e-6)
        (measure,) = split.answers(outputs(np.eye(3)[[1, 2, 0]]), outputs(np.eye(3))).measures
        assert measure.value == 1

    def test_answers_need_as_many_rows_as_truth(self):
        with pytest.raises(InputError, match="2 rows of logits and 1 true"):
            split_of(["refund"]).answers(outputs(np.zeros((2, 3))), outputs(np.zeros((2, 3))))

    def test_distance_is_the_divergence_from_the_teacher(self):
        split = split_of(["refund", "tracking"])
        teacher, other = np.random.default_rng(0).normal(size=(2, 2, 3)).astype(np.float32)
        assert split.distance(outputs(teacher), outputs(teacher)) == pytest.approx(0, abs=1e-9)
        p, q = softmax(teacher), softmax(other)
        assert split.distance(outputs(other), outputs(teacher)) == pytest.approx(
            (p * np.log(p / q)).sum(axis=1).mean(), rel=1e-4
        )


@settings(deadline=None)
@given(logits_of_four)
def test_softmax_is_finite_and_decode_agrees_with_the_measure(logits):
    probabilities = softmax(logits)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    chosen = [answer.label for answer in TASK.decode(outputs(logits), "abcd")]
    for labels, right in ((chosen, 1.0), ([TASK.labels[(TASK.labels.index(one) + 1) % 3] for one in chosen], 0.0)):
        answers = split_of(labels).answers(outputs(logits), outputs(logits))
        assert answers.names == chosen
        assert answers.measures[0].gains.tolist() == [right] * 4


@given(logits_of_four, logits_of_four)
def test_distance_is_finite_and_never_negative(one, other):
    split = split_of(["refund"] * 4)
    assert np.isfinite(split.distance(outputs(one), outputs(other)))
    assert split.distance(outputs(one), outputs(other)) > -1e-6
    assert split.distance(outputs(one), outputs(one)) == pytest.approx(0, abs=1e-6)
