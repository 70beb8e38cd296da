import pytest

from octavo.errors import ModelError
from octavo.tasks.labels import config_from_labels, labels_from_config


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"id2label": ["a", "b"]}, "id2label must be"),
        ({"id2label": {"0": 1, "1": 2}}, "id2label must be"),
        ({"id2label": {"0": "a", "2": "b"}}, "2 entries but none for id 1"),
    ],
)
def test_names_that_cannot_be_used_are_refused(config, words):
    with pytest.raises(ModelError, match=f"^config.json: .*{words}"):
        labels_from_config(config, "config.json")


def test_names_that_are_left_out_are_the_default_ones():
    assert labels_from_config({}) == ("LABEL_0", "LABEL_1")
    assert labels_from_config({"id2label": None, "num_labels": 3}) == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_names_stand_in_the_order_of_their_ids():
    names = {str(i): f"label {i}" for i in reversed(range(12))}
    assert labels_from_config({"id2label": names}, "") == tuple(f"label {i}" for i in range(12))
    assert labels_from_config({"id2label": {0: "a\ud800", 1: "b"}}, "") == ("a\ufffd", "b")


def test_names_are_read_back_as_written():
    labels = ("refund", "问候", "")
    assert labels_from_config(config_from_labels(labels), "") == labels
    assert config_from_labels(labels)["label2id"] == {"refund": 0, "问候": 1, "": 2}
