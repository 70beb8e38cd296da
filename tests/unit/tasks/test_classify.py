import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from octavo.errors import InputError, ModelError
from octavo.tasks.base import FolderFacts, Head, Purpose, Reads
from octavo.tasks.classify import Classify
from octavo.types import Outputs, Pair, Row

TASK = Classify(("greeting", "refund", "tracking"))

ROWS = [("hello", "greeting"), ("money back", "refund"), ("where is it", "tracking")]


def _write(folder, rows, name="test.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def _labelled(folder, rows=ROWS, name="test.jsonl"):
    return _write(folder, [{"text": text, "label": label} for text, label in rows], name)


def _outputs(*rows):
    return Outputs.one_each(np.array(rows, np.float32))


# How a task is come by.


def test_labels_come_from_the_folder_in_the_order_of_their_ids():
    config = {"id2label": {str(i): f"label {i}" for i in reversed(range(12))}}
    assert Classify.from_folder(FolderFacts(config)).labels == tuple(f"label {i}" for i in range(12))
    assert Classify.from_folder(FolderFacts({"id2label": {0: "no", 1: "yes"}})).labels == ("no", "yes")
    assert Classify.from_folder(FolderFacts({})).labels == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"id2label": ["a", "b"]}, "a/b/config.json: id2label must be"),
        ({"id2label": {"0": "a", "2": "b"}}, "none for id 1"),
        ({"id2label": {"0": "a"}}, "at least 2"),
        ({"id2label": {"0": "a", "1": "a"}}, "'a' occurs twice"),
        ({"problem_type": "multi_label_classification"}, "a/b: problem_type is 'multi_label"),
    ],
)
def test_a_folder_that_is_no_classifier_is_refused(config, words):
    with pytest.raises(ModelError, match=words):
        Classify.from_folder(FolderFacts(config, source="a/b"))


def test_sequence_classifiers_of_several_labels_are_claimed():
    config = {"architectures": ["BertForSequenceClassification"]}
    assert Classify.claims(FolderFacts(config))
    assert not Classify.claims(FolderFacts({**config, "num_labels": 1}))
    assert not Classify.claims(FolderFacts({"architectures": ["BertForTokenClassification"]}))


def test_a_task_is_read_back_as_written():
    assert Classify.from_folder(TASK.folder_facts()) == TASK
    assert Classify.from_settings(json.loads(json.dumps(TASK.settings()))) == TASK
    assert (TASK.head.reads, TASK.head.outputs, TASK.head.dense) == (Reads.FIRST, 3, True)


def test_rows_name_labels_in_alphabetical_order(tmp_path):
    assert Classify.from_rows(_labelled(tmp_path, ROWS[::-1])) == TASK
    with pytest.raises(InputError, match=r"test\.jsonl: the rows have 1 label"):
        Classify.from_rows(_labelled(tmp_path, ROWS[:1]))


# Rows.


def test_a_split_says_what_is_counted(tmp_path):
    split = TASK.read(_labelled(tmp_path), Purpose.TEST)
    assert (split.name, len(split.sha256)) == ("test", 64)
    assert split.inputs == split.units.texts == ["hello", "money back", "where is it"]
    assert split.units.truth == split.units.slices == ["greeting", "refund", "tracking"]
    assert split.units.inputs.tolist() == [0, 1, 2]
    assert len(split.groups) == 3


def test_rows_of_two_texts_are_pairs(tmp_path):
    rows = [{"text": "a", "text_pair": "b", "label": "refund"}, {"text": "a", "label": "refund"}]
    split = TASK.read(_write(tmp_path, rows), Purpose.TEST)
    assert split.inputs == [Pair("a", "b"), "a"]
    assert split.units.texts == ["a | b", "a"]
    other = TASK.read(_write(tmp_path, [{**rows[0], "text_pair": "B "}], "dev.jsonl"), Purpose.DEV)
    train = TASK.read(_write(tmp_path, [{**rows[0], "text_pair": "c"}], "train.jsonl"), Purpose.TRAIN)
    shares = "test shares 1 row with dev, which flatters the model."
    assert [text for text in TASK.warnings(train, other, split) if "shares" in text] == [shares]
    assert TASK.warnings(None, other, split) == ["test shares 1 row with dev, which flatters the model."]


def test_truth_is_the_ids_of_the_labels():
    truth = TASK.truth([Row("a", "tracking"), Row("b", "greeting")])
    assert truth.tolist() == [2, 0]
    assert truth.dtype == np.int64
    assert TASK.truth([]).shape == (0,)


def test_of_a_model_that_names_no_labels_that_is_said(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "lamp", "label": 1}\n', "utf-8")
    with pytest.raises(InputError, match=r"rows\.jsonl:1: the label '1' is not .* under id2label in its config\.json"):
        Classify(("LABEL_0", "LABEL_1")).read(tmp_path / "rows.jsonl", Purpose.TEST)


def test_an_unknown_label_is_named_with_its_place_and_near_labels():
    with pytest.raises(InputError, match=r"rows\.jsonl:9: the label 'trakcing' .* Did you mean 'tracking'"):
        TASK.truth([Row("a", "trakcing", "rows.jsonl:9")])
    with pytest.raises(InputError, match=r"rows\.jsonl:1: this row has no label"):
        TASK.truth([Row("a", None, "rows.jsonl:1")])


def test_splits_that_share_rows_are_warned_of(tmp_path):
    train, test = (TASK.read(_labelled(tmp_path, name=f"{name}.jsonl"), Purpose.TRAIN) for name in ("train", "test"))
    dev = TASK.read(_labelled(tmp_path, [("other", "refund")], "dev.jsonl"), Purpose.DEV)
    assert TASK.warnings(train, dev, test) == ["test shares 3 rows with train, which flatters the model."]
    assert TASK.warnings(None, dev, test) == []


# Items and logs.


def test_logs_hold_texts_and_pairs():
    assert TASK.inputs_from_log(" hello ", "") == ["hello"]
    assert TASK.inputs_from_log({"text": " a\ud83d", "text_pair": None}, "") == ["a\ufffd"]
    assert TASK.inputs_from_log({"text": "a", "text_pair": " b"}, "") == [Pair("a", "b")]
    for empty in ("", " \n", {"text": ""}, {"text": "", "text_pair": "b"}, {"text": "a", "text_pair": " "}):
        assert TASK.inputs_from_log(empty, "") == []
    for record in (
        {},
        {"query": "a"},
        {"text": 5},
        {"text": None},
        {"text_pair": "b"},
        {"text": "a", "text_pair": [1]},
    ):
        with pytest.raises(InputError, match=r'^log:3: .*"text'):
            TASK.inputs_from_log(record, "log:3")


@pytest.mark.parametrize(
    ("line", "item"),
    [
        ("hello", "hello"),
        ('{"text": "a"}', "a"),
        (' {"text": "a", "text_pair": "b", "n": 1}', Pair("a", "b")),
        ('{"text": "", "text_pair": null}', ""),
        ('{"query": "a"}', '{"query": "a"}'),
        ("{braces} in a text", "{braces} in a text"),
        ('["a", "b"]', '["a", "b"]'),
        ('{"text": ' * 50_000, '{"text": ' * 50_000),
    ],
)
def test_a_line_is_an_object_with_text_or_a_text(line, item):
    assert TASK.item_from_line(line) == item
    assert TASK.prepare([TASK.item_from_line(line)]) == [item]


@pytest.mark.parametrize("line", ['{"text": 5}', '{"text": null}', '{"text": "a", "text_pair": ["b"]}'])
def test_a_line_whose_texts_are_none_is_refused(line):
    with pytest.raises(InputError, match=r'the line: "text(_pair)?" is .* should be a string'):
        TASK.item_from_line(line)


def test_items_are_texts_or_pairs():
    assert TASK.prepare(["a", ("a", "b"), Pair("a", "b")]) == ["a", Pair("a", "b"), Pair("a", "b")]
    for item in (5, None, ("a",), ("a", 3), ["a", "b"], {"text": "a"}):
        with pytest.raises(InputError, match="a string, or a pair of strings"):
            TASK.prepare([item])


# What outputs mean and are worth.


def test_answers_are_right_or_wrong_and_the_teachers_or_not(tmp_path):
    split = TASK.read(_labelled(tmp_path), Purpose.TEST)
    outputs = _outputs([4, 0, 0], [0, 4, 0], [0, 4, 0])
    answers = split.answers(outputs, _outputs([4, 0, 0], [0, 0, 4], [0, 4, 0]))
    (accuracy,) = answers.measures
    assert (accuracy.name, accuracy.gains.tolist(), accuracy.weights.tolist()) == ("accuracy", [1, 1, 0], [1, 1, 1])
    assert answers.names == ["greeting", "refund", "refund"]
    assert answers.agreement.tolist() == [1, 0, 1]
    np.testing.assert_allclose(answers.shown.sum(axis=1), 1, rtol=1e-6)
    assert answers.confidence.tolist() == answers.shown.max(axis=1).tolist()
    assert split.distance(outputs, outputs) == 0
    assert split.distance(outputs, _outputs(*np.eye(3))) > 0


def test_decode_orders_the_likeliest_labels():
    first, second = TASK.decode(_outputs([0, 2, 1], [5, 5, 4]), ["a", "b"])
    assert first.label == "refund"
    assert list(first.scores) == ["refund", "tracking", "greeting"]
    assert first.confidence == first.scores["refund"] == pytest.approx(np.exp(2) / (1 + np.e + np.exp(2)), rel=1e-6)
    assert first.line() == "refund  66.5%  (tracking 24.5%, greeting 9.0%)"
    assert second.label == "greeting"  # of equals, the first
    assert TASK.decode(Outputs.one_each(np.empty((0, 3), np.float32)), []) == []
    many = Classify(tuple("abcdefg"))
    (answer,) = many.decode(_outputs(range(7)), ["a"])
    assert list(answer.scores) == list("gfedc")


@pytest.mark.parametrize("shape", [(2, 4), (3,), (1, 2, 3)])
def test_a_head_of_another_size_is_refused(shape):
    with pytest.raises(ModelError, match="3 labels"):
        TASK.decode(Outputs.one_each(np.zeros(shape, np.float32)), [])


def test_answers_need_as_many_rows_as_truth(tmp_path):
    split = TASK.read(_labelled(tmp_path), Purpose.TEST)
    with pytest.raises(InputError, match="2 rows of logits and 3 true"):
        split.answers(_outputs(*np.eye(3)[:2]), _outputs(*np.eye(3)))


@settings(deadline=None)
@given(hnp.arrays(np.float32, (4, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_decode_names_what_answers_count(tmp_path_factory, logits):
    rows = [(f"text {i}", "refund") for i in range(4)]
    split = TASK.read(_labelled(tmp_path_factory.getbasetemp(), rows), Purpose.TEST)
    outputs = Outputs.one_each(logits)
    answers = split.answers(outputs, outputs)
    decoded = TASK.decode(outputs, [text for text, _ in rows])
    assert [one.label for one in decoded] == list(answers.names)
    assert answers.measures[0].gains.tolist() == [float(one.label == "refund") for one in decoded]
    assert np.isfinite(answers.shown).all()
    np.testing.assert_allclose([one.confidence for one in decoded], answers.confidence, rtol=1e-6)


def test_the_head_reads_the_first_token():
    assert TASK.head == Head(Reads.FIRST, 3, dense=True)


def test_of_many_labels_the_likeliest_are_listed():
    task = Classify(tuple(f"label {i}" for i in range(20)))
    (answer,) = task.decode(_outputs(np.arange(20)), ["a"])
    assert list(answer.scores) == [f"label {i}" for i in (19, 18, 17, 16, 15)]
    assert answer.scores["label 19"] == pytest.approx(1 - np.exp(-1), rel=1e-6)  # of all of them, not of the listed


def test_a_line_says_the_label_and_the_next_ones():
    (answer,) = TASK.decode(_outputs([0, 2, 1]), ["a"])
    assert answer.line() == "refund  66.5%  (tracking 24.5%, greeting 9.0%)"
