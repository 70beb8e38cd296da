import hashlib
import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.data.tagged import Scheme, TaggedRow, fits, read_tagged, scheme_of
from octavo.errors import InputError, OctavoError

GOOD = '{"tokens": ["at", "six", "am"], "tags": ["O", "B-time", "I-time"]}'


def _write(folder, content):
    path = folder / "train.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _row(**content):
    return json.dumps(content)


def test_rows_carry_tokens_tags_intent_place_and_the_hash_of_the_file(tmp_path):
    content = (
        '{"tokens": ["打", "开", "灯"], "tags": ["O", "O", "B-设备"], "intent": "开", "id": 7}\n\n'
        '{"tokens": ["stop"], "tags": ["O"], "intent": "stop"}\n'
    )
    path = _write(tmp_path, content)
    rows = read_tagged(path)
    assert (rows.name, len(rows)) == ("train", 2)
    assert rows.rows[0] == TaggedRow(("打", "开", "灯"), ("O", "O", "B-设备"), "开", f"{path}:1")
    assert rows.rows[1] == TaggedRow(("stop",), ("O",), "stop", f"{path}:3")
    assert rows.sha256 == hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.encode() + b"\r\n\r\n",
        b"\n \n" + GOOD.encode(),
        GOOD.replace("}", ', "intent": null}').encode(),
    ],
    ids=["byte-order mark", "CRLF", "blank lines", "null intent"],
)
def test_harmless_oddities_are_accepted(tmp_path, content):
    (row,) = read_tagged(_write(tmp_path, content)).rows
    assert row.tokens == ("at", "six", "am")
    assert row.intent is None


def test_lone_surrogates_become_replacement_characters(tmp_path):
    content = r'{"tokens": ["a\ud83d", "\ud83d\ude00"], "tags": ["O", "B-\udc00"], "intent": "\ud800x"}'
    (row,) = read_tagged(_write(tmp_path, content)).rows
    assert row.tokens == ("a\ufffd", "😀")
    assert row.tags == ("O", "B-\ufffd")
    assert row.intent == "\ufffdx"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("at six am", ["not valid JSON", "at six am", '"tokens"']),
        ('["at"]', ["expected a JSON object", '"tags"']),
        (_row(text="at six", tags=["O"]), ['no "tokens"', "'text'"]),
        (_row(tokens=["at"], labels=["O"]), ['no "tags"', "'labels'"]),
        (_row(tokens="at six", tags=["O"]), ["'at six'", "list of words"]),
        (_row(tokens=["at"], tags={"at": "O"}), ["list of names"]),
        (_row(tokens=[], tags=[]), ['"tokens" is empty', "Remove the line"]),
        (_row(tokens=["at", "six"], tags=["O"]), ["2 tokens and 1 tags", "'at six'"]),
        (_row(tokens=["at"], tags=["O", "O"]), ["1 tokens and 2 tags"]),
        (_row(tokens=["at", 6], tags=["O", "O"]), ["item 2 of \"tokens\" is '6'", "words"]),
        (_row(tokens=["at", "six"], tags=["O", 6]), ["item 2 of \"tags\" is '6'", "not numbers"]),
        (_row(tokens=["at"], tags=[None]), ["'None'"]),
        (_row(tokens=["at", ""], tags=["O", "O"]), ["token 2 is blank", "Remove it and its tag"]),
        (_row(tokens=["\u3000\t"], tags=["O"]), ["token 1 is blank", r"\u3000\t"]),
        (_row(tokens=["at"], tags=[" "]), ["tag 1", "blank"]),
        (_row(tokens=["at"], tags=["B-"]), ["'B-'", "such as B-time"]),
        (_row(tokens=["at"], tags=["I- "]), ["'I- '", "such as B-time"]),
        (_row(tokens=["at"], tags=["B--x"]), ["'B--x'", "such as B-time"]),
        (_row(tokens=["at"], tags=["B-x-"]), ["'B-x-'"]),
        (_row(tokens=["at"], tags=["b-time"]), ["'b-time'", "'B-time' in IOB2"]),
        (_row(tokens=["at", "six"], tags=["O", "I-time"]), ["token 2 ('six')", "'I-time'", "Write 'B-time'"]),
        (_row(tokens=["at", "six"], tags=["B-date", "I-time"]), ["token 2", "Write 'B-time'"]),
        (_row(tokens=["six"], tags=["I-time"]), ["token 1", "Write 'B-time'"]),
        (_row(tokens=["six"], tags=["S-time"]), ["'S-time' does not go with 'B-time'", ":1)", "IOBES"]),
        (_row(tokens=["six"], tags=["NUM"]), ["'NUM' does not go with 'B-time'"]),
        (_row(tokens=["six"], tags=["B-time"], intent="ask"), [':1: this row has no "intent"', ":2 has one"]),
        (_row(tokens=["six"], tags=["B-time"], intent=""), ["\"intent\" is '''' and", "non-empty"]),
        (_row(tokens=["six"], tags=["B-time"], intent=3), ["'3'", "non-empty string"]),
        (b'{"tokens": ["caf\xe9"], "tags": ["O"]}', ["0xe9", "UTF-8"]),
        (b'{"tokens": ["a\0"], "tags": ["O"]}', ["not valid JSON", "control character"]),
        (GOOD.encode("utf-16"), ["UTF-16"]),
        (b"[" * 100_000, ["not valid JSON"]),
    ],
)
def test_an_error_names_file_line_content_and_fix(tmp_path, line, words):
    line = line if isinstance(line, bytes) else line.encode()
    path = _write(tmp_path, GOOD.encode() + b"\n" + line + b"\n")
    with pytest.raises(InputError) as raised:
        read_tagged(path)
    message = str(raised.value)
    assert message.startswith(f"{path}:")
    assert f"{path}:2" in message
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert len(message) < 500


def test_an_intent_that_goes_missing_is_found_where_it_is_missing(tmp_path):
    path = _write(tmp_path, GOOD.replace("}", ', "intent": "ask"}') + "\n" + GOOD)
    with pytest.raises(InputError, match=r'jsonl:2: this row has no "intent", and .*jsonl:1 has one'):
        read_tagged(path)


def test_plain_tags_are_a_scheme_of_their_own(tmp_path):
    path = _write(tmp_path, '{"tokens": ["red", "shoes", "B-"], "tags": ["1", "NOUN", "B"]}\n')
    (row,) = read_tagged(path).rows
    assert row.tags == ("1", "NOUN", "B")
    assert scheme_of(row.tags) is Scheme.PLAIN
    assert scheme_of(["O", "B-x"]) is Scheme.IOB2
    assert scheme_of(["O"]) is Scheme.PLAIN
    assert all(fits("O", scheme) for scheme in Scheme)
    assert fits("I-x", Scheme.IOB2)
    assert not fits("I-x", Scheme.PLAIN)
    assert not fits("NOUN", Scheme.IOB2)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["O", "B-x", "I-x", "I-y"]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.binary(max_size=100)
    | st.lists(
        st.fixed_dictionaries({"tokens": _values, "tags": _values}, optional={"intent": _values}), max_size=3
    ).map(lambda rows: "\n".join(map(json.dumps, rows)).encode())
)
def test_arbitrary_content_raises_nothing_but_our_errors(tmp_path, content):
    with suppress(OctavoError):
        rows = read_tagged(_write(tmp_path, content)).rows
        assert all(len(row.tokens) == len(row.tags) > 0 for row in rows)
