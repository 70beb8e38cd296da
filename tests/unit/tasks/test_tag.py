import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from octavo.errors import InputError, ModelError
from octavo.tasks.base import FolderFacts, Purpose, Reads
from octavo.tasks.entities import Entity
from octavo.tasks.tag import Tag
from octavo.types import Outputs, Words

SLOTS = Tag(("O", "B-device", "I-device", "B-room", "I-room"))
JOINT = Tag(SLOTS.tags, ("ask", "turn_on"))
WEIGHTS = Tag(("0", "1", "2"))

ROWS = (
    ("turn on the desk lamp", "O O O B-device I-device", "turn_on"),
    ("kitchen lamp", "B-room B-device", "turn_on"),
    ("is it on", "O O O", "ask"),
)


def _write(folder, rows, name="test.jsonl"):
    path = folder / name
    lines = []
    for words, tags, *intent in rows:
        row = {"tokens": words.split(), "tags": tags.split()} | ({"intent": intent[0]} if intent else {})
        lines.append(json.dumps(row, ensure_ascii=False))
    path.write_text("\n".join(lines), "utf-8")
    return path


def _outputs(task, sentences, scale=9.0):
    """Return outputs that mean these tags, and intents where there are any; None for one that is cut off."""
    rows, counts = [], []
    for tags, *intent in sentences:
        first = np.zeros(task.head.outputs, np.float32)
        if task.intents:
            first[len(task.tags) + task.intents.index(intent[0])] = scale
        first[1] = 100.0  # the tags of the first row mean nothing
        kept = [tag for tag in tags.split() if tag != "-"]
        rows += [first, *(scale * np.eye(task.head.outputs, dtype=np.float32)[task.tags.index(tag)] for tag in kept)]
        counts.append(1 + len(kept))
    for row in rows:
        if task.intents and row[1] != 100.0:
            row[len(task.tags)] = 100.0  # the intents of a word's row mean nothing
    return Outputs(np.array(rows, np.float32), np.concatenate([[0], np.cumsum(counts)]))


# How a task is come by.


def test_rows_name_tags_by_entity_and_intents_in_order(tmp_path):
    rows = [("a b c", "B-time I-time B-date", "z"), ("a", "B-x-y", "é"), ("a", "B-date", "b")]
    task = Tag.from_rows(_write(tmp_path, rows))
    assert task.tags == ("O", "B-date", "B-time", "I-time", "B-x-y")  # O is added: other rows have words outside
    assert task.intents == ("b", "z", "é")
    assert Tag.from_rows(_write(tmp_path, [("red shoes now", "2 1 O")])) == Tag(("O", "1", "2"))


def test_rows_that_call_for_no_task_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"test\.jsonl: .*at least 2 tags"):
        Tag.from_rows(_write(tmp_path, [("a b", "O O")]))


def test_a_folder_is_read_back_as_written():
    facts = JOINT.folder_facts()
    assert facts.config["id2label"]["6"] == "intent:turn_on"
    assert facts.config["label2id"]["B-room"] == 3
    for task in (SLOTS, JOINT, WEIGHTS, Tag(("1", "2"), (" x", "意图"))):
        assert Tag.from_folder(task.folder_facts()) == task
        assert Tag.from_settings(json.loads(json.dumps(task.settings()))) == task
    assert Tag.from_settings({"tags": ["1", "2"]}) == Tag(("1", "2"))


def test_token_classifiers_are_claimed():
    assert Tag.claims(FolderFacts({"architectures": ["RobertaForTokenClassification"]}))
    for config in ({}, {"architectures": None}, {"architectures": [None]}, {"architectures": ["BertModel"]}):
        assert not Tag.claims(FolderFacts(config))
    assert not Tag.claims(FolderFacts({"architectures": ["BertForSequenceClassification"]}))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["O", "intent:a", "B-x"], "'intent:a' stands before a tag"),
        (["intent:a", "intent:b"], "at least 2 tags, and there are 0"),
        (["O"], "at least 2 tags"),
        (["O", "B-x", "B-x"], "'B-x' occurs twice"),
        (["O", "B-x", "intent:a", "intent:a"], "'a' occurs twice"),
        (["O", "B-x", "intent: "], "blank name"),
        (["B-x", "I-x"], "lack 'O'"),
        (["O", "I-x"], "no 'B-x'.*Train with IOB2"),
        (["O", "B-x", "NOUN"], "'NOUN' is not IOB2"),
        (["O", "B-x", "E-x"], "'E-x' is not IOB2"),
        (["O", "B-"], "'B-' should be"),
        (["O", ""], "'' is blank"),
    ],
)
def test_a_folder_of_unfit_names_is_refused(names, words):
    config = {"id2label": {str(i): name for i, name in enumerate(names)}}
    with pytest.raises(ModelError, match=f"a/b: config.json: .*{words}"):
        Tag.from_folder(FolderFacts(config, source="a/b"))


@pytest.mark.parametrize(
    "settings", [{}, {"tags": "O"}, {"tags": ["O", 1]}, {"tags": ["O", "B-x"], "intents": None}, {"tags": ["O"]}]
)
def test_unfit_settings_are_refused(settings):
    with pytest.raises(ModelError, match="tags"):
        Tag.from_settings(settings)


def test_the_head_has_an_output_for_each_tag_and_intent():
    head = JOINT.head
    assert (head.reads, head.outputs, head.dense) == (Reads.WORDS, 7, False)


# Rows.


def test_a_split_says_what_is_counted(tmp_path):
    path = _write(tmp_path, ROWS)
    split = JOINT.read(path, Purpose.TEST)
    assert split.name == "test"
    assert len(split.sha256) == 64
    assert split.inputs[1] == Words(("kitchen", "lamp"))
    assert split.units.word == "sentence"
    assert split.units.texts[1] == "kitchen lamp"
    assert split.units.truth == [
        "device=desk lamp · intent: turn_on",
        "room=kitchen · device=lamp · intent: turn_on",
        "– · intent: ask",
    ]
    assert split.units.slices == ["turn_on", "turn_on", "ask"]
    assert split.units.inputs.tolist() == [0, 1, 2]
    assert len(split.groups) == 3
    without = SLOTS.read(path, Purpose.TEST)
    assert without.units.truth == ["device=desk lamp", "room=kitchen · device=lamp", "–"]
    assert without.units.slices == ()
    assert without.truth.intents is None


def test_chinese_is_shown_without_spaces(tmp_path):
    task = Tag(("O", "B-地点", "I-地点"))
    split = task.read(_write(tmp_path, [("打 开 客 厅 的 灯", "O O B-地点 I-地点 O O")]), Purpose.TEST)
    assert split.units.texts == ["打开客厅的灯"]
    assert split.units.truth == ["地点=客厅"]


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        (SLOTS, ("lamp", "B-devise"), "the tag 'B-devise' is not one of the 5 tags. Did you mean 'B-device'"),
        (SLOTS, ("lamp", "B-x"), "Known: 'O', 'B-device'"),
        (SLOTS, ("lamp", "NOUN"), "the tag 'NOUN'"),
        (JOINT, ("lamp", "O", "turn_of"), "the intent 'turn_of' is not one of the 2 intents. Did you mean 'turn_on'"),
        (JOINT, ("lamp", "O"), "no \"intent\". Add one of: 'ask', 'turn_on'"),
    ],
)
def test_rows_that_the_model_cannot_answer_are_refused(tmp_path, task, row, words):
    with pytest.raises(InputError, match=r"test\.jsonl:1: ") as raised:
        task.read(_write(tmp_path, [row]), Purpose.TRAIN)
    assert words in str(raised.value)


# What outputs mean and are worth.


def test_the_truth_is_worth_everything(tmp_path):
    split = JOINT.read(_write(tmp_path, ROWS), Purpose.TEST)
    outputs = _outputs(JOINT, [row[1:] for row in ROWS])
    answers = split.answers(outputs, outputs)
    f1, intent = answers.measures
    assert (f1.name, f1.value, f1.gates) == ("f1", 1.0, False)
    assert f1.weights.tolist() == [2, 4, 0]
    assert (intent.name, intent.value, intent.gates) == ("intent accuracy", 1.0, True)
    assert answers.names == split.units.truth
    assert answers.agreement.tolist() == [1, 1, 1]
    assert answers.shown.shape == (10, 5)
    np.testing.assert_allclose(answers.shown.sum(axis=1), 1, rtol=1e-6)
    assert split.distance(outputs, outputs) == 0


def test_errors_cost_gains_and_agreement(tmp_path):
    split = JOINT.read(_write(tmp_path, ROWS), Purpose.TEST)
    teacher = _outputs(JOINT, [row[1:] for row in ROWS])
    wrong = _outputs(JOINT, [("O O O B-device O", "turn_on"), ("I-room B-device", "turn_on"), ("O O O", "turn_on")])
    answers = split.answers(wrong, teacher)
    f1, intent = answers.measures
    assert f1.gains.tolist() == [0, 2, 0]
    assert f1.weights.tolist() == [2, 3, 0]
    assert f1.value == pytest.approx(2 / 5)
    assert intent.gains.tolist() == [1, 1, 0]
    assert answers.agreement.tolist() == [0, 0, 0]
    assert answers.names[1] == "device=lamp · intent: turn_on"  # an orphan I- is shown as it is counted: not at all
    assert split.answers(wrong, wrong).agreement.tolist() == [1, 1, 1]
    assert split.distance(wrong, teacher) > 1


def test_plain_tags_are_worth_the_words_that_are_right(tmp_path):
    split = WEIGHTS.read(_write(tmp_path, [("buy red shoes", "0 1 2"), ("shoes", "2")]), Purpose.TEST)
    assert split.units.truth == ["buy/0 red/1 shoes/2", "shoes/2"]
    outputs = _outputs(WEIGHTS, [("0 2 1",), ("2",)])
    (accuracy,) = split.answers(outputs, outputs).measures
    assert accuracy.name == "accuracy"
    assert accuracy.gains.tolist() == [1, 1]
    assert accuracy.weights.tolist() == [3, 1]
    assert split.answers(outputs, outputs).names[0] == "buy/0 red/2 shoes/1"


def test_words_that_were_cut_off_are_outside(tmp_path):
    split = JOINT.read(_write(tmp_path, ROWS), Purpose.TEST)
    whole = _outputs(JOINT, [row[1:] for row in ROWS])
    cut = _outputs(JOINT, [("O O O B-device -", "turn_on"), ("- -", "turn_on"), ("O O O", "ask")])
    answers = split.answers(cut, whole)
    assert answers.measures[0].weights.tolist() == [2, 2, 0]
    assert answers.measures[0].gains.tolist() == [0, 0, 0]
    assert answers.agreement.tolist() == [0, 0, 1]
    assert answers.shown[4].tolist() == [1, 0, 0, 0, 0]
    assert answers.confidence[0] > 0.99
    assert answers.confidence[1] == 0  # nothing of it was read
    assert split.distance(cut, whole) == pytest.approx(0, abs=1e-6)  # what both read is equal
    assert split.distance(whole, cut) == pytest.approx(0, abs=1e-6)
    assert split.answers(whole, cut).agreement.tolist() == [0, 0, 1]
    # Without an O, the first tag stands for what was not read.
    plain = WEIGHTS.read(_write(tmp_path, [("a b", "0 0")]), Purpose.TEST)
    (accuracy,) = plain.answers(*[_outputs(WEIGHTS, [("1 -",)])] * 2).measures
    assert accuracy.gains.tolist() == [1]


def test_outputs_of_other_sentences_are_refused(tmp_path):
    split = JOINT.read(_write(tmp_path, ROWS), Purpose.TEST)
    good = _outputs(JOINT, [row[1:] for row in ROWS])
    for bad, words in (
        (Outputs(good.values[:, :6], good.offsets), "7 tags and intents"),
        (good.select([0, 1]), "3 sentences"),
        (good.select([1, 0, 2]), "at most one more per word"),
    ):
        with pytest.raises(ModelError, match=words):
            split.answers(bad, good)
        with pytest.raises(ModelError, match=words):
            split.distance(good, bad)


def test_confidence_is_the_lowest_of_a_sentence(tmp_path):
    split = JOINT.read(_write(tmp_path, [("a b", "O O", "ask")]), Purpose.TEST)
    values = np.zeros((3, 7), np.float32)
    values[0, 5] = 3.0
    values[1, 0] = 2.0
    values[2, 3] = 1.0
    outputs = Outputs(values, np.array([0, 3]))
    assert split.answers(outputs, outputs).confidence[0] == pytest.approx(np.e / (np.e + 4), rel=1e-6)
    values[:, 0], values[0, 5] = 9.0, 0.1
    assert split.answers(outputs, outputs).confidence[0] == pytest.approx(1 / (1 + np.exp(-0.1)), rel=1e-6)


def test_distance_adds_tags_and_intents(tmp_path):
    split = JOINT.read(_write(tmp_path, [("a b", "O O", "ask"), ("a", "O", "ask")]), Purpose.DEV)
    values, teacher = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)
    offsets = np.array([0, 3, 5])

    def kl(columns, rows):
        p, q = (np.exp(x[rows][:, columns]) for x in (teacher, values))
        p, q = (x / x.sum(axis=1, keepdims=True) for x in (p, q))
        return (p * np.log(p / q)).sum(axis=1).mean()

    expected = kl(slice(0, 5), [1, 2, 4]) + kl(slice(5, 7), [0, 3])
    assert split.distance(Outputs(values, offsets), Outputs(teacher, offsets)) == pytest.approx(expected, rel=1e-5)


@given(st.integers(0, 2**32 - 1))
def test_f1_over_a_split_is_that_of_seqeval(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    truth = []
    for size in rng.integers(1, 8, 5):
        tags = list(rng.choice(SLOTS.tags, size))
        before = ["O", *tags]  # an I-x that became a B-x has kept its type, so that the next I-x follows it
        truth.append([t.replace("I-", "B-") if t[2:] != before[i][2:] else str(t) for i, t in enumerate(tags)])
    path = _write(tmp_path_factory.mktemp("rows"), [(" ".join("w" * len(t)), " ".join(t)) for t in truth])
    split = SLOTS.read(path, Purpose.TEST)
    offsets = np.concatenate([[0], np.cumsum([1 + len(t) for t in truth])])
    values = rng.normal(size=(offsets[-1], 5)).astype(np.float32)
    chosen = [[SLOTS.tags[i] for i in values[a + 1 : b].argmax(axis=1)] for a, b in pairwise(offsets)]
    (measure,) = split.answers(*[Outputs(values, offsets)] * 2).measures
    if measure.weights.any():
        assert measure.value == pytest.approx(f1_score(truth, chosen, mode="strict", scheme=IOB2, zero_division=0))


# Items and logs.


def test_items_are_texts_or_words():
    assert JOINT.prepare(["turn on", ["New York", "x\ud800"], (), ""]) == [
        Words(("turn", "on")),
        Words(("New York", "x\ufffd")),
        Words(()),
        Words(()),
    ]
    for item, words in ((5, "Item 1 is '5'"), (["a", 5], "Item 1 is"), (["a", " "], "Word 1 of item 1 is blank")):
        with pytest.raises(InputError, match=words):
            JOINT.prepare(["fine", item])


@pytest.mark.parametrize(
    ("line", "item"),
    [
        ('["New York", "now"]', ["New York", "now"]),
        ("turn on", "turn on"),
        ("[1, 2]", "[1, 2]"),
        ("[]", "[]"),
        ('["a"', '["a"'),
        ('"a"', '"a"'),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_line_is_a_list_of_words_or_a_text(line, item):
    assert JOINT.item_from_line(line) == item


def test_logs_give_one_sentence_a_record():
    assert JOINT.inputs_from_log("打开 lamp", "") == [Words(("打", "开", "lamp"))]
    assert JOINT.inputs_from_log({"text": "turn on"}, "") == [Words(("turn", "on"))]
    assert JOINT.inputs_from_log({"tokens": ["New York", " ", "x"], "text": "y"}, "") == [Words(("New York", "x"))]
    for empty in ("", " \n", {"text": ""}, {"tokens": []}, {"tokens": [""]}):
        assert JOINT.inputs_from_log(empty, "") == []
    for record in ({}, {"query": "a"}, {"tokens": "a b"}, {"tokens": [1]}, {"text": 5}, {"tokens": 5, "text": "a"}):
        with pytest.raises(InputError, match=r'^log:3: .*"tokens".*"text"'):
            JOINT.inputs_from_log(record, "log:3")


def test_decoding_names_entities_and_the_intent():
    items = ["turn on the desk lamp", ["厨", "房", "lamp"], ""]
    outputs = _outputs(
        JOINT, [("O O O B-device I-device", "turn_on"), ("B-room I-room -", "ask"), ("", "ask")], scale=4
    )
    first, second, third = JOINT.decode(outputs, items)
    assert first.words == ("turn", "on", "the", "desk", "lamp")
    assert first.tags == ("O", "O", "O", "B-device", "I-device")
    assert first.entities == (Entity("device", 3, 5, "desk lamp"),)
    assert first.intent == "turn_on"
    assert first.confidence == pytest.approx(np.exp(4) / (np.exp(4) + 4), rel=1e-5)
    assert first.line() == "device=desk lamp  (intent: turn_on)  93.2%"
    assert second.tags == ("B-room", "I-room", "O")
    assert second.entities == (Entity("room", 0, 2, "厨房"),)
    assert third.line() == "–  (intent: ask)  98.2%"
    assert third.words == third.tags == third.entities == ()
    (plain,) = WEIGHTS.decode(_outputs(WEIGHTS, [("2 0",)]), ["red shoes"])
    assert plain.line() == "red/2 shoes/0  100.0%"
    assert plain.entities == ()
    (two,) = SLOTS.decode(_outputs(SLOTS, [("B-room B-device I-room",)]), [["kitchen", "lamp", "x"]])
    assert two.line().startswith("room=kitchen device=lamp  ")
    assert JOINT.decode(Outputs(np.zeros((0, 7), np.float32), np.array([0])), []) == []


def test_of_equal_tags_the_first_wins():
    (answer,) = SLOTS.decode(Outputs(np.zeros((2, 5), np.float32), np.array([0, 2])), [["lamp"]])
    assert answer.tags == ("O",)
    # Logits that differ, but whose probabilities round to the same.
    values = np.array([[0] * 5, [1e-10, 2e-10, 0, 0, 0]], np.float32)
    (answer,) = SLOTS.decode(Outputs(values, np.array([0, 2])), [["lamp"]])
    assert answer.tags == ("B-device",)
