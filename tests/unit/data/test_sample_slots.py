import importlib.util
import json

import pytest

from octavo.data import sample as samples
from octavo.data.sample import slots
from octavo.data.sample.templates import Chance, Slot
from octavo.data.sample.values import VALUES
from octavo.errors import InputError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("home_assistant_intents") is None, reason="the package home-assistant-intents is missing"
)
SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def sample():
    return samples.slot_sample()


def entities(sentence):
    """The (type, words) of a sentence's entities; an I- that continues nothing is an error."""
    found = []
    for before, tag, token in zip(("O", *sentence.tags), sentence.tags, sentence.tokens, strict=False):
        if tag.startswith("I-"):
            assert before[2:] == tag[2:], sentence
            found[-1] = (tag[2:], f"{found[-1][1]} {token}")
        elif tag != "O":
            assert tag.startswith("B-")
            found.append((tag[2:], token))
    return found


def test_sizes(sample):
    assert {split: len(getattr(sample, split)) for split in SPLITS} == slots.SIZES
    assert len(sample.intents) >= 15
    assert {"area", "name", "floor", "minutes", "brightness", "search_query"} <= set(sample.slots)


def test_splits_share_no_template_and_no_text(sample):
    for key in ("template", "text"):
        found = [{getattr(sentence, key) for sentence in getattr(sample, split)} for split in SPLITS]
        assert not found[0] & found[1]
        assert not found[0] & found[2]
        assert not found[1] & found[2]
    assert len({sentence.text for split in SPLITS for sentence in getattr(sample, split)}) == sum(slots.SIZES.values())


def test_tags_are_iob2_and_train_has_every_type_and_intent(sample):
    for split in SPLITS:
        sentences = getattr(sample, split)
        assert all(len(sentence.tokens) == len(sentence.tags) > 0 for sentence in sentences)
        assert {kind for sentence in sentences for kind, _ in entities(sentence)} <= set(sample.slots)
        assert {sentence.intent for sentence in sentences} == set(sample.intents)


def test_words_are_plain(sample):
    for sentence in sample.test:
        assert sentence.text == sentence.text.lower()
        assert not set("()[]{}<>|;") & set(sentence.text)
        assert not any(" " in token or not token for token in sentence.tokens)


@pytest.mark.parametrize("kind", ["area", "name"])
def test_a_share_of_the_values_in_test_is_new(sample, kind):
    seen = {entity for sentence in sample.train for entity in entities(sentence)}
    asked = [entity for sentence in sample.test for entity in entities(sentence) if entity[0] == kind]
    assert 0.3 < sum(entity not in seen for entity in asked) / len(asked) < 0.6


@pytest.mark.parametrize("name", sorted(VALUES))
def test_no_two_splits_draw_the_same_own_value(name):
    drawn = {}
    for split in SPLITS:
        values, chance = slots._Values({}, split), Chance(split)
        drawn[split] = {values.draw(Slot(name, name), [name], chance) for _ in range(400)}
    assert len(drawn["train"]) > 2
    assert not (drawn["test"] - drawn["train"]) & drawn["dev"]
    assert drawn["test"] & drawn["train"]


def test_neighbouring_slots_stay_apart_and_units_are_words_of_their_own():
    template = slots._Template("", "Any", slots.parse("{a}{b:a}% 2-hour {c} today's", {}), ())
    pieces = slots.draw(
        template.tree, lambda slot: {"a": "Big Lamp ", "b": "21.5", "c": "1/2"}[slot.values], Chance("")
    )
    sentence = slots._tagged(pieces, template)
    assert sentence.tokens == ("big", "lamp", "21.5", "%", "2", "-", "hour", "1", "/", "2", "today's")
    assert sentence.tags == ("B-a", "I-a", "B-a", "O", "O", "O", "O", "B-c", "I-c", "I-c", "O")


def test_a_template_that_nothing_can_fill_is_left_out():
    sentences = ["open {area}", "shut {area}", "open {area} now", "shut {area} now", "open {unheard_of}", "open {name}"]
    content = {"intents": {"Open": {"data": [{"sentences": sentences}]}}, "expansion_rules": {}}
    assert {t.text for t in slots._templates(content, {})["Open"]} == set(sentences[:4])
    content["intents"]["Open"]["data"][0]["sentences"] = sentences[1:]
    assert slots._templates(content, {}) == {}


def test_the_sample_is_the_same_each_time_and_on_disk(sample, tmp_path):
    written = samples.write_slots(tmp_path / "slots")
    assert written == sample
    for split in SPLITS:
        rows = [json.loads(line) for line in (tmp_path / "slots" / f"{split}.jsonl").read_text("utf-8").splitlines()]
        expected = [(list(s.tokens), list(s.tags), s.intent) for s in getattr(sample, split)]
        assert [(row["tokens"], row["tags"], row["intent"]) for row in rows] == expected
    attribution = (tmp_path / "slots" / "ATTRIBUTION.txt").read_text()
    assert "Apache License 2.0" in attribution
    assert "templates" in attribution


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        samples.write_slots(tmp_path / "file" / "slots")
