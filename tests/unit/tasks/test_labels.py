import pytest

from octavo.errors import ModelError
from octavo.tasks.labels import claims_architecture, config_from_labels, labels_from_config


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a", "b"], "id2label must be such as"),
        ({"0": 1, "1": 2}, "id2label must be such as"),
        ({"0": "a", "2": "b"}, "2 entries but none for id 1"),
    ],
)
def test_names_that_name_no_outputs_are_refused(names, words):
    with pytest.raises(ModelError, match=f"^a/config.json: .*{words}"):
        labels_from_config({"id2label": names}, "a/config.json")


def test_names_stand_in_the_order_of_their_ids():
    names = {str(i): f"label {i}" for i in reversed(range(12))}
    assert labels_from_config({"id2label": names}) == tuple(f"label {i}" for i in range(12))
    assert labels_from_config({"id2label": {0: "a\ud800", 1: "b"}}) == ("a\ufffd", "b")


@pytest.mark.parametrize(
    ("config", "labels"),
    [({}, 2), ({"num_labels": 3}, 3), ({"id2label": None, "num_labels": 1}, 1), ({"num_labels": "x"}, 2)],
)
def test_names_that_are_left_unsaid_are_those_of_transformers(config, labels):
    assert labels_from_config(config) == tuple(f"LABEL_{i}" for i in range(labels))


def test_names_are_read_back_as_written():
    labels = ("refund", "问候", "")
    assert labels_from_config(config_from_labels(labels)) == labels
    assert config_from_labels(labels)["label2id"] == {"refund": 0, "问候": 1, "": 2}


def test_an_architecture_is_told_by_its_ending():
    assert claims_architecture({"architectures": ["BertForX", "RobertaForY"]}, "ForY")
    for names in (None, "BertForY", [None, 3], ["ForYou"], []):
        assert not claims_architecture({"architectures": names}, "ForY")
    assert not claims_architecture({}, "ForY")
