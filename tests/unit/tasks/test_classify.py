import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from octavo.errors import InputError, ModelError
from octavo.tasks.classify import Classify, softmax
from octavo.types import Row

TASK = Classify(("greeting", "refund", "tracking"))


def test_labels_come_from_the_config_in_the_order_of_their_ids():
    config = {"id2label": {str(i): f"label {i}" for i in reversed(range(12))}}
    assert Classify.from_config(config).labels == tuple(f"label {i}" for i in range(12))
    assert Classify.from_config({"id2label": {0: "no", 1: "yes"}}).labels == ("no", "yes")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "no id2label"),
        ({"id2label": ["a", "b"]}, "no id2label"),
        ({"id2label": {"0": 1, "1": 2}}, "no id2label"),
        ({"id2label": {"0": "a", "2": "b"}}, "none for id 1"),
        ({"id2label": {"0": "a"}}, "at least 2"),
        ({"id2label": {"0": "a", "1": "a"}}, "'a' occurs twice"),
        ({"id2label": {"0": "a", "1": "b"}, "problem_type": "multi_label_classification"}, "multi_label"),
    ],
)
def test_a_config_that_is_no_classifier_is_refused(config, words):
    with pytest.raises(ModelError, match=words):
        Classify.from_config(config)


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
    first, second = TASK.decode(np.array([[0, 2, 1], [5, 5, 4]], np.float32), top_k=2)
    assert first.label == "refund"
    assert list(first.scores) == ["refund", "tracking"]
    assert first.confidence == first.scores["refund"] == pytest.approx(np.exp(2) / (1 + np.e + np.exp(2)), rel=1e-6)
    assert second.label == "greeting"  # of equals, the first
    assert TASK.decode(np.empty((0, 3), np.float32)) == []
    with pytest.raises(InputError, match="top_k"):
        TASK.decode(np.zeros((1, 3), np.float32), top_k=0)


@pytest.mark.parametrize("shape", [(2, 4), (3,), (1, 2, 3)])
def test_a_head_of_another_size_is_refused(shape):
    with pytest.raises(ModelError, match="3 labels"):
        TASK.decode(np.zeros(shape, np.float32))


def test_score_needs_as_many_rows_as_truth():
    with pytest.raises(InputError, match="2 rows of logits and 1 true"):
        TASK.score(np.zeros((2, 3), np.float32), np.array([0]))


@settings(deadline=None)
@given(hnp.arrays(np.float32, (4, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_softmax_is_finite_and_decode_agrees_with_score(logits):
    probabilities = softmax(logits)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    chosen = [TASK.labels.index(answer.label) for answer in TASK.decode(logits)]
    assert TASK.score(logits, np.array(chosen)).tolist() == [1.0] * 4
    assert TASK.score(logits, (np.array(chosen) + 1) % 3).tolist() == [0.0] * 4
