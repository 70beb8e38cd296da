"""Every task against what files, logs and people really hold: our error, or answers without a gap or a NaN."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.data.logs import read_records
from octavo.errors import InputError, OctavoError
from octavo.tasks.base import Purpose, Split, Task
from octavo.tasks.classify import Classify
from octavo.tasks.embed import Document, Embed
from octavo.tasks.rank import Rank
from octavo.tasks.registry import TASKS
from octavo.tasks.tag import Tag
from octavo.types import Outputs, Pair, Words

ODD_TEXTS = {
    "long": "lamp " * 20_000,
    "one long word": "a" * 100_000,
    "right to left": "\u202eשלום עולם مرحبا",
    "emoji": "👩‍👩‍👧 🙂",
    "NUL": "a\0b",
    "only NUL": "\0",
    "half a surrogate": "a\ud83d",
    "no width": "\u200b",
    "replacement": "\ufffd",
    "mark": "\ufeff",
    "combining": "\u0301",
    "escape": "\x1b[31m",
    "special token": "[SEP] </s>",
    "Chinese": "打开客厅的灯",
}

Bad = tuple[Any, str]


@dataclass(frozen=True)
class Case:
    """A task, rows of it, and what it refuses.

    Attributes:
        task: a small one.
        row: a row that it takes.
        with_text: returns rows that have a text wherever one may stand, unless that is too long for a query.
        refused: rows that the reader lets pass and the task does not, or that only this task has, and words of why.
    """

    task: Task
    row: dict[str, Any]
    with_text: Callable[[str], list[dict[str, Any]]]
    refused: list[Bad]


def _query(text: str) -> str:
    """A query that is too long for its document is refused, and tested on its own."""
    return text[:3]


CASES = {
    "classify": Case(
        Classify(("x", "y", "z")),
        {"text": "lamp", "label": "x"},
        lambda text: [
            {"text": text, "label": "y"},
            {"text": "lamp", "text_pair": text, "label": "x"},
            {"text": _query(text), "text_pair": text, "label": "z"},
        ],
        [
            ({"text": "lamp", "label": "w"}, "the label 'w' is not one of the 3 labels"),
            ({"text": "lamp", "label": 3}, "the label '3' is not one of"),
            ({"text": "lamp", "label": "\ud83d"}, "the label '\ufffd' is not one of"),
            ({"text": "lamp"}, 'no "label"'),
            ({"text": "lamp", "label": "X"}, "Did you mean 'x'"),
        ],
    ),
    "tag": Case(
        Tag(("O", "B-x", "I-x"), ("ask", "tell")),
        {"tokens": ["lamp", "a"], "tags": ["O", "B-x"], "intent": "ask"},
        lambda text: [
            {"tokens": [text, "lamp"], "tags": ["O", "B-x"], "intent": "ask"},
            {"tokens": ["lamp", text, text, "a"], "tags": ["B-x", "I-x", "O", "B-x"], "intent": "tell"},
            {"tokens": [text], "tags": ["O"], "intent": "tell"},
            {"tokens": [text[:9]] * 50, "tags": ["B-x"] + ["I-x"] * 49, "intent": "tell"},
        ],
        [
            ({"tokens": ["a"], "tags": ["B-y"], "intent": "ask"}, "the tag 'B-y' is not one of the 3 tags"),
            ({"tokens": ["a"], "tags": ["I-x"], "intent": "ask"}, "Write 'B-x'"),
            ({"tokens": ["a", "b"], "tags": ["O"], "intent": "ask"}, "2 tokens and 1 tags"),
            ({"tokens": ["a"], "tags": ["O"], "intent": "sing"}, "the intent 'sing' is not one of"),
            ({"tokens": ["a"], "tags": ["O"]}, 'no "intent"'),
            ({"tokens": ["a"], "tags": [0], "intent": "ask"}, "not numbers"),
        ],
    ),
    "embed": Case(
        Embed(dimensions=8, prompts=(("query", "q: "),)),
        {"query": "lamp", "document": "a lamp", "negatives": ["a"]},
        lambda text: [
            {"query": text, "document": "b"},
            {"query": "a", "document": text, "negatives": ["c", text + "d"]},
            {"query": "b", "document": ""},
        ],
        [
            ({"query": "", "document": "a"}, '"query" is empty'),
            ({"query": "a", "document": "b", "relevance": -1}, "at least 0"),
            ({"query": "a", "document": "b", "relevance": 1e-320}, "too small"),
            ({"query": ["a"], "document": "b"}, "should be a string"),
        ],
    ),
    "rank": Case(
        Rank(),
        {"query": "lamp", "documents": ["a lamp", "b"], "relevance": [1, 0]},
        lambda text: [
            {"query": _query(text), "documents": [text, "b", ""], "relevance": [0, 2, 0.5]},
            {"query": "a", "documents": [text, text], "relevance": [0, 1]},
            {"query": "b", "documents": ["a"], "relevance": [1e-9]},
            {"query": "c", "documents": [text] * 40, "relevance": [1e9] + [0] * 39},
        ],
        [
            ({"query": "", "documents": ["a"], "relevance": [1]}, '"query" is empty'),
            ({"query": "a", "documents": ["a"], "relevance": []}, "Give each its grade"),
            ({"query": "a", "documents": [], "relevance": []}, "at least one text"),
            ({"query": "a", "documents": ["a"], "relevance": ["1"]}, "number"),
            ({"query": "a", "document": "a", "relevance": 1}, "mixed"),
        ],
    ),
}

tasks = pytest.mark.parametrize("name", CASES)


def _write(folder, rows, name="test.jsonl"):
    path = folder / name
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return path


def _check_answers(task: Task, split: Split, tokenizer, make_outputs) -> None:
    """Go the whole way with a split: tokens, outputs of a head, answers."""
    batch = tokenizer.encode(split.inputs)
    assert len(batch) == len(split.inputs)
    ours, theirs = make_outputs(task, batch, 1), make_outputs(task, batch, 2)
    answers = split.answers(ours, theirs)
    count = len(split.units.texts)
    assert len(split.units.truth) == len(split.units.inputs) == len(answers.names) == count
    assert answers.agreement.shape == (count,)
    for values in (answers.agreement, answers.shown, answers.confidence):
        assert values is None or np.isfinite(values).all()
    assert answers.confidence is None or answers.confidence.shape == (count,)
    for measure in answers.measures:
        assert measure.gains.shape == measure.weights.shape == (count,)
        assert np.isfinite(measure.weights).all()
        assert (measure.gains >= 0).all()
        assert (measure.gains <= measure.weights + 1e-6).all()
        assert 0 <= measure.value <= 1
    assert split.distance(ours, theirs) > 0
    assert split.distance(ours, ours) == 0
    for text in (*split.units.texts, *split.units.truth, *answers.names):
        text.encode()
    members = split.groups.inputs
    assert split.groups.offsets[-1] == len(members)
    assert len(members) == 0 or 0 <= members.min() <= members.max() < len(split.inputs)


def test_there_is_a_case_for_every_task():
    assert {task.name for task in TASKS} == set(CASES)
    assert all(type(case.task).name == name for name, case in CASES.items())


# Rows.


@tasks
@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_odd_texts_are_answered(tmp_path, tokenizer, make_outputs, name, text):
    case = CASES[name]
    path = _write(tmp_path, [case.row, *case.with_text(text)])
    for purpose in (Purpose.TRAIN, Purpose.TEST):
        split = case.task.read(path, purpose)
        _check_answers(case.task, split, tokenizer, make_outputs)
        assert case.task.warnings(split, split, split) != []  # they share everything
    assert type(case.task).from_rows(path)


@tasks
def test_one_row_is_answered(tmp_path, tokenizer, make_outputs, name):
    case = CASES[name]
    for purpose in Purpose:
        _check_answers(case.task, case.task.read(_write(tmp_path, [case.row]), purpose), tokenizer, make_outputs)


@pytest.mark.parametrize(("name", "bad"), [(name, bad) for name, case in CASES.items() for bad in case.refused])
def test_a_row_that_a_task_cannot_use_is_named(tmp_path, name, bad):
    row, words = bad
    path = _write(tmp_path, [CASES[name].row, row])
    for purpose in Purpose:
        with pytest.raises(InputError) as raised:
            CASES[name].task.read(path, purpose)
        assert f"{path}:2: " in str(raised.value)
        assert words in str(raised.value)
        assert "\n" not in str(raised.value)


@tasks
def test_the_first_text_of_a_pair_is_refused_where_it_leaves_no_room(tmp_path, tokenizer, name):
    long = "lamp " * 500
    rows = {
        "classify": {"text": long, "text_pair": "a", "label": "x"},
        "rank": {"query": long, "documents": ["a", "b"], "relevance": [1, 0]},
    }
    if name in rows:
        split = CASES[name].task.read(_write(tmp_path, [CASES[name].row, rows[name]]), Purpose.TEST)
        with pytest.raises(InputError, match=r"Shorten the first text, or give a max_length"):
            tokenizer.encode(split.inputs)


def test_a_beir_folder_of_odd_texts_is_answered(tmp_path, tokenizer, make_outputs):
    texts = list(ODD_TEXTS.values())
    ids = [f"{i}🙂\u202e" for i in range(len(texts))]
    _write(tmp_path, [{"_id": i, "title": t, "text": t} for i, t in zip(ids, texts, strict=True)], "corpus.jsonl")
    _write(tmp_path, [{"_id": i, "text": t} for i, t in zip(ids, texts, strict=True)], "queries.jsonl")
    path = tmp_path / "test.tsv"
    path.write_text("".join(f"{i}\t{j}\t{(i == j) + 0}\n" for i in ids for j in [*ids[:3], i]), "utf-8")
    task = CASES["embed"].task
    for purpose in Purpose:
        _check_answers(task, task.read(path, purpose), tokenizer, make_outputs)
    path.write_text(f"{ids[0]}\tabsent\t1\n", "utf-8")
    with pytest.raises(InputError, match=r"test\.tsv:1: the document 'absent' is not in .*corpus\.jsonl"):
        task.read(path, Purpose.TEST)


@pytest.mark.parametrize("word", ["\u200b", "\ufffd", "\ufeff", "\0", "\u0301", "\u00ad", "\u202e"])
def test_a_word_that_no_tokenizer_sees_does_not_shift_the_tags_after_it(tmp_path, tokenizer, word):
    task = Tag(("O", "B-x", "I-x"))
    sentences = [["lamp", word, "a", "b"], [word, "lamp", word, "a"], ["lamp", "a", "b", word], [word] * 4]
    tags = [["B-x", "O", "O", "B-x"], ["O", "B-x", "I-x", "O"], ["B-x", "I-x", "O", "B-x"], ["B-x", "I-x", "B-x", "O"]]
    rows = [{"tokens": words, "tags": own} for words, own in zip(sentences, tags, strict=True)]
    split = task.read(_write(tmp_path, rows), Purpose.TEST)
    batch = tokenizer.encode(split.inputs)
    assert np.diff(batch.read_offsets).tolist() == [5] * 4  # the sequence's first token, and one for each word
    # A model that is right about every word, told by the place of the word in its sentence.
    values = np.zeros((20, 3), np.float32)
    for sentence, own in enumerate(tags):
        for place, tag in enumerate(own, 1):
            values[5 * sentence + place, task.tags.index(tag)] = 9
    outputs = Outputs(values, batch.read_offsets)
    answers = split.answers(outputs, outputs)
    assert answers.measures[0].value == 1
    assert answers.names == split.units.truth
    assert [list(one.tags) for one in task.decode(outputs, sentences)] == tags


# Query logs, and what users type.

ODD_VALUES = [None, True, 5, 0.5, [], {}, ["a"], [None], {"a": "b"}, [["a"]]]
LOG_KEYS = ("text", "text_pair", "query", "document", "documents", "tokens")


@tasks
@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_odd_texts_in_logs_are_inputs(tmp_path, tokenizer, name, text):
    """Lines, columns and objects, read as a job reads them, up to the tokens and to the key that tells them apart."""
    task = CASES[name].task
    records: list[Any] = [
        {"text": text, "query": _query(text), "document": text},
        {"tokens": [text, "a"], "text": "a", "text_pair": text, "query": "a", "documents": [text, "b"]},
    ]
    read = list(read_records([_write(tmp_path, records, "log.jsonl")]))
    assert len(read) == 2
    for record, source in [*read, (f"{_query(text)}\t{text}", "log.tsv:1")]:
        inputs = task.inputs_from_log(record, source)
        "".join(text for one in inputs for text in _texts(one)).encode()
        if inputs:
            assert len(tokenizer.encode(inputs)) == len(inputs)


@tasks
@pytest.mark.parametrize("key", LOG_KEYS)
@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
def test_an_odd_value_in_a_log_is_named_or_left_out(name, key, value):
    task = CASES[name].task
    whole = {"text": "a", "text_pair": "b", "query": "a", "document": "b", "tokens": ["a"]}
    for record in ({key: value}, {**whole, key: value}):
        inputs, error = _result_or_error(task.inputs_from_log, record, "log.jsonl:7")
        assert not error or error.startswith("log.jsonl:7: ")
        assert all(isinstance(text, str) for one in inputs or () for text in _texts(one))


@tasks
@pytest.mark.parametrize("text", ["", " ", "\n", "\t\t"])
def test_an_empty_line_of_a_log_is_no_input(name, text):
    assert CASES[name].task.inputs_from_log(text, "log.txt:3") == []


@tasks
@pytest.mark.parametrize("item", [None, True, 5, 0.5, b"a", {"a": 1}, [1], (1, 2), ["a", None], object], ids=repr)
def test_an_item_of_another_kind_is_refused(name, item):
    with pytest.raises(InputError):
        CASES[name].task.prepare([item])


@tasks
@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_odd_texts_that_are_typed_are_answered(tokenizer, make_outputs, name, text):
    lines = {"embed": [text], "classify": [text], "tag": [text], "rank": [f"a\t{text}\tb", f"{_query(text)}\ta"]}[name]
    lines.append(
        json.dumps({"text": "a", "query": "a", "documents": [text]} if name != "embed" else {"document": text})
    )
    if name == "tag":
        lines.append(json.dumps(["a", text]))
    for line in lines:
        _check_typed(CASES[name].task, line, tokenizer, make_outputs)


@tasks
def test_items_may_be_made_by_a_program(tokenizer, make_outputs, name):
    for text in ODD_TEXTS.values():
        items = {
            "classify": [text, Pair("a", text), ("a", text)],
            "tag": [text, [text], [], ""],
            "embed": [text, Document(text), "", Document("")],
            "rank": [("a", [text, text])],
        }[name]
        _check_items(CASES[name].task, items, tokenizer, make_outputs)


def _check_typed(task, line, tokenizer, make_outputs) -> None:
    _check_items(task, [task.item_from_line(line)], tokenizer, make_outputs)


def _check_items(task, items, tokenizer, make_outputs) -> None:
    inputs = task.prepare(items)
    batch = tokenizer.encode(inputs)
    answers = task.decode(make_outputs(task, batch), items)
    assert len(answers) == len(items)
    assert all(isinstance(answer.line(), str) for answer in answers)


def _texts(one) -> tuple[str, ...]:
    if isinstance(one, Pair):
        return one.first, one.second
    return one.words if isinstance(one, Words) else (one,)


def _result_or_error(call, *arguments) -> tuple[Any, str]:
    try:
        return call(*arguments), ""
    except InputError as error:
        return None, str(error)


# Whatever else there is.

_texts_of_any_kind = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    [
        "lamp",
        "a b",
        "",
        " ",
        "\0",
        "\u200b",
        "\ud83d",
        "{",
        "[",
        '["a"]',
        '{"text": "a"}',
        "a\tb",
        "O",
        "B-x",
        "I-x",
        "x",
    ]
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _texts_of_any_kind,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(LOG_KEYS), inner, max_size=2),
    max_leaves=8,
)
fuzzed = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def _rows(draw, name):
    row = CASES[name].row
    kinds: dict[str, Any] = {
        "tokens": st.lists(_texts_of_any_kind, min_size=1, max_size=4),
        "tags": st.lists(st.sampled_from(["O", "B-x", "I-x"]), min_size=1, max_size=4),
        "intent": st.sampled_from(["ask", "tell"]),
        "label": st.sampled_from(["x", "y", "z"]),
        "documents": st.lists(_texts_of_any_kind, min_size=1, max_size=3),
        "negatives": st.lists(_texts_of_any_kind, max_size=3),
        "relevance": st.lists(st.sampled_from([0, 1, 0.5, 1e-9, 1e9]), min_size=1, max_size=3),
    }
    likely = st.fixed_dictionaries({key: kinds.get(key, _texts_of_any_kind) for key in row})
    odd = st.fixed_dictionaries({key: st.just(value) | _values for key, value in row.items()})
    return draw(st.lists(likely | st.just(row) if draw(st.integers(0, 3)) else odd, max_size=4))


@tasks
@fuzzed
@given(data=st.data())
def test_whatever_rows_hold_is_refused_or_answered(tmp_path, tokenizer, make_outputs, name, data):
    path = _write(tmp_path, data.draw(_rows(name)))
    task = CASES[name].task
    for purpose in Purpose:
        with suppress(InputError):
            _check_answers(task, task.read(path, purpose), tokenizer, make_outputs)
    with suppress(InputError):
        type(task).from_rows(path)


@tasks
@fuzzed
@given(record=_texts_of_any_kind | st.dictionaries(st.sampled_from(LOG_KEYS) | st.text(max_size=3), _values))
def test_whatever_a_log_holds_is_refused_or_input(tokenizer, name, record):
    with suppress(InputError):
        inputs = CASES[name].task.inputs_from_log(record, "log:1")
        if inputs:
            assert len(tokenizer.encode(inputs)) == len(inputs)


@tasks
@fuzzed
@given(line=_texts_of_any_kind | _values.map(json.dumps))
def test_whatever_is_typed_is_refused_or_answered(tokenizer, make_outputs, name, line):
    with suppress(InputError):
        _check_typed(CASES[name].task, line, tokenizer, make_outputs)


@tasks
@fuzzed
@given(item=_values | st.tuples(_values, _values))
def test_whatever_a_program_gives_is_refused_or_answered(tokenizer, make_outputs, name, item):
    with suppress(OctavoError):
        _check_items(CASES[name].task, [item], tokenizer, make_outputs)
