import pytest

from octavo.errors import ModelError
from octavo.tasks.labels import config_from_labels, labels_from_config


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "no id2label"),
        ({"id2label": ["a", "b"]}, "no id2label"),
        ({"id2label": {"0": 1, "1": 2}}, "no id2label"),
        ({"id2label": {"0": "a", "2": "b"}}, "2 entries but none for id 1"),
    ],
)
def test_a_config_without_names_is_refused(config, words):
    with pytest.raises(ModelError, match=f"^config.json: .*{words}"):
        labels_from_config(config, "config.json")


def test_names_stand_in_the_order_of_their_ids():
    names = {str(i): f"label {i}" for i in reversed(range(12))}
    assert labels_from_config({"id2label": names}, "") == tuple(f"label {i}" for i in range(12))
    assert labels_from_config({"id2label": {0: "a\ud800", 1: "b"}}, "") == ("a\ufffd", "b")


def test_names_are_read_back_as_written():
    labels = ("refund", "问候", "")
    assert labels_from_config(config_from_labels(labels), "") == labels
    assert config_from_labels(labels)["label2id"] == {"refund": 0, "问候": 1, "": 2}
