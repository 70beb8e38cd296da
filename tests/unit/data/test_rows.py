import hashlib
import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.data.rows import jsonl_from_rows, read_rows, rows_in_memory, texts_of
from octavo.errors import InputError, OctavoError
from octavo.types import Row

_texts = st.text(min_size=1).filter(str.strip)


def _write(folder, content, name="train.jsonl"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_rows_carry_text_label_place_and_the_hash_of_the_file(tmp_path):
    content = '{"text": "refund please", "label": "refund", "id": 7}\n\n{"text": "你好", "label": 3}\n'
    path = _write(tmp_path, content)
    rows = read_rows(path)
    assert rows.name == "train"
    assert rows.texts == ["refund please", "你好"]
    assert [row.label for row in rows.rows] == ["refund", "3"]
    assert [row.source for row in rows.rows] == [f"{path}:1", f"{path}:3"]
    assert rows.sha256 == hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf{"text": "a", "label": "x"}\n',
        b'{"text": "a", "label": "x"}\r\n\r\n',
        b'\n \n{"text": "a", "label": "x"}',
        '{"text": "a", "label": "x", "more": "\u2028"}'.encode(),
    ],
    ids=["byte-order mark", "CRLF", "blank lines, none at the end", "line separator inside"],
)
def test_harmless_oddities_are_accepted(tmp_path, content):
    assert read_rows(_write(tmp_path, content)).texts == ["a"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"refund please", ["not valid JSON", "refund please"]),
        (b'["a", "b"]', ["expected a JSON object", '["a", "b"]']),
        (b'{"query": "a", "label": "x"}', ['no "text"', "query"]),
        (b'{"text": "", "label": "x"}', ["empty"]),
        (b'{"text": " \\n", "label": "x"}', ["empty"]),
        (b'{"text": 5, "label": "x"}', ["5", "string"]),
        (b'{"text": "a", "text_pair": "", "label": "x"}', ['"text_pair" is empty']),
        (b'{"text": "a", "text_pair": " \\n", "label": "x"}', ['"text_pair" is empty']),
        (b'{"text": "a", "text_pair": 5, "label": "x"}', ["text_pair", "5", "string"]),
        (b'{"text": "a", "text_pair": ["b"], "label": "x"}', ["text_pair", "['b']", "string"]),
        (b'{"text_pair": "b", "label": "x"}', ['no "text"', "text_pair"]),
        (b'{"text": "where is it"}', ['no "label"', "where is it"]),
        (b'{"text": "a", "label": null}', ['no "label"']),
        (b'{"text": "a", "label": ["x"]}', ["['x']"]),
        (b'{"text": "a", "label": true}', ["True"]),
        (b'{"text": "a", "label": " "}', ["non-empty"]),
        (b'{"text": "caf\xe9", "label": "x"}', ["0xe9", "offset 13", "UTF-8"]),
        ('{"text": "a"}'.encode("utf-16"), ["UTF-16"]),
        (b"[" * 100_000, ["not valid JSON"]),
        (b'{"text": "a", "label": ' + b"1" * 9_000 + b"}", ["not valid JSON"]),
    ],
)
def test_an_error_names_file_line_content_and_fix(tmp_path, line, words):
    path = _write(tmp_path, b'{"text": "a", "label": "x"}\n' + line + b"\n")
    with pytest.raises(InputError) as raised:
        read_rows(path)
    message = str(raised.value)
    assert message.startswith(f"{path}:2: ")
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert len(message) < 500


def test_labels_are_optional_where_none_are_needed(tmp_path):
    path = _write(tmp_path, '{"text": "a"}\n{"text": "b", "label": "x"}')
    assert [row.label for row in read_rows(path, labelled=False).rows] == [None, "x"]


def test_lone_surrogates_become_replacement_characters(tmp_path):
    path = _write(tmp_path, r'{"text": "a\ud83d b\ud83d\ude00", "label": "\udc00x"}')
    (row,) = read_rows(path).rows
    assert row.text == "a\ufffd b😀"
    assert row.label == "\ufffdx"
    path = _write(tmp_path, r'{"text": "a", "text_pair": "b\ud83d", "label": "x"}')
    assert read_rows(path).rows[0].second == "b\ufffd"


def test_a_row_may_be_a_pair_of_texts(tmp_path):
    content = '{"text": "a", "text_pair": "b", "label": "x"}\n{"text": "a", "text_pair": null, "label": "x"}\n'
    rows = read_rows(_write(tmp_path, content)).rows
    assert [row.second for row in rows] == ["b", None]
    assert [texts_of(row) for row in rows] == [("a", "b"), ("a",)]
    assert jsonl_from_rows(rows).decode() == content.replace(', "text_pair": null', "")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=60).map(lambda t: json.dumps({"text": t, "label": t}).encode()))
def test_arbitrary_bytes_raise_nothing_but_our_errors(tmp_path, content):
    path = _write(tmp_path, content)
    for labelled in (True, False):
        with suppress(OctavoError):
            read_rows(path, labelled=labelled)


@given(st.lists(st.tuples(_texts, _texts, st.none() | _texts), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_rows_survive_being_written_and_read(tmp_path, triples):
    rows = [Row(text, label, second=second) for text, label, second in triples]
    read = read_rows(_write(tmp_path, jsonl_from_rows(rows)))
    assert [replace(row, source="") for row in read.rows] == rows
    assert read.sha256 == rows_in_memory("train", rows).sha256
