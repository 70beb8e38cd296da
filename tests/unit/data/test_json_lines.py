import gzip
import hashlib
import json
import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.data.json_lines import (
    check_is_file,
    content_of,
    first_key,
    grade_from,
    jsonl_from_objects,
    lines_of,
    name_from,
    object_from_text,
    objects_of,
    read_objects,
    required_key,
    sha256_of,
    text_from,
    text_under,
)
from octavo.errors import InputError

FORM = '{"text": "..."}'


def test_lines_carry_their_place_and_no_line_end(tmp_path):
    path = tmp_path / "a.jsonl"
    content = b"\xef\xbb\xbfone\r\n\n \t\r\n two \nthree\xe2\x80\xa8more"
    expected = [(f"{path}:1", "one"), (f"{path}:4", " two "), (f"{path}:5", "three\u2028more")]
    assert list(lines_of(content, path)) == expected
    assert list(lines_of(content.split(b"\n"), path)) == expected


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"caf\xe9", ["byte 0xe9 at offset 3", "another encoding", "Save the file as UTF-8"]),
        ('{"text": "a"}'.encode("utf-16"), ["byte 0xff at offset 0", "UTF-16"]),
        ("灯".encode("utf-16"), ["UTF-16"]),
        ("\ufeff灯".encode("utf-16-be"), ["UTF-16"]),
        (gzip.compress(b"{}", mtime=0), ["compressed with gzip", "gunzip"]),
        (b"\xed\xa0\xbd", ["byte 0xed"]),  # half a surrogate, as some languages write it
    ],
)
def test_a_line_that_is_not_utf_8_is_named(tmp_path, line, words):
    lines = lines_of(b"fine\n" + line, tmp_path / "a.txt")
    assert next(lines)[1] == "fine"
    with pytest.raises(InputError, match=r"a\.txt:2: ") as raised:
        next(lines)
    assert [word for word in words if word not in str(raised.value)] == []


def test_objects_are_parsed_as_they_are_asked_for(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n\n[]\n')
    objects, sha256 = read_objects(path, FORM)
    assert next(objects) == (f"{path}:1", {"a": 1})
    with pytest.raises(InputError, match=r"a\.jsonl:3: expected a JSON object but found '\[\]'\. Write .\"text\""):
        next(objects)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_a_file_without_objects_is_refused(tmp_path, content):
    with pytest.raises(InputError, match=r'a\.jsonl: the file has no rows.*Write {"text"'):
        list(objects_of(content, tmp_path / "a.jsonl", FORM))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "a"', ["delimiter at column 13", '{"text": "a"']),
        ("{'text': 'a'}", ["column 2"]),
        ('{"text": "a\tb"}', ["control character"]),
        ('{"text": ' + "1" * 9_000 + "}", ["too deep or long"]),
        ("[" * 100_000, ["too deep or long"]),
        ('{"text": ' + "[" * 50 + "]" * 50 + "}", ["too deep or long"]),
    ],
)
def test_text_that_is_no_json_is_refused(line, words):
    with pytest.raises(InputError, match="a:1: not valid JSON") as raised:
        object_from_text(line, "a:1", FORM)
    assert [word for word in words if word not in str(raised.value)] == []
    assert len(str(raised.value)) < 300


def test_of_a_table_the_way_to_json_lines_is_told(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\r\n"red, blue",1\r\n', "utf-8")
    with pytest.raises(InputError) as raised:
        list(read_objects(tmp_path / "a.csv", FORM)[0])
    program = str(raised.value).partition("python -c '")[2].partition("'")[0]
    with (tmp_path / "a.csv").open("rb") as table:
        made = subprocess.run([sys.executable, "-c", program], stdin=table, capture_output=True, check=True).stdout
    assert list(objects_of(made, tmp_path / "a.jsonl", FORM)) == [
        (f"{tmp_path}/a.jsonl:1", {"text": "red, blue", "label": "1"})
    ]


def test_objects_nest_as_deep_as_any_row_does_and_brackets_in_texts_do_not_count():
    line = json.dumps({"text": "[{" * 500, "ids": [[[number]] for number in range(50)]})
    assert object_from_text(line, "", FORM)["text"] == "[{" * 500


def test_a_nested_bomb_is_refused_at_any_depth_and_never_overflows():
    for depth in [*range(25, 40), *range(sys.getrecursionlimit() - 200, sys.getrecursionlimit() + 50, 10)]:
        line = '{"text": ' + "[" * depth + "]" * depth + "}"
        with pytest.raises(InputError):
            text_under(object_from_text(line, "a:1", FORM), "text", "a:1")


def test_a_path_that_is_no_file_is_refused(tmp_path):
    for read in (check_is_file, content_of):
        with pytest.raises(InputError, match=r"this is a folder.*other\.tsv"):
            read(tmp_path, "other.tsv")
        for name in ("absent", "a\0b", "x" * 5000, "file/below"):
            (tmp_path / "file").touch()
            with pytest.raises(InputError, match="there is no such file"):
                read(tmp_path / name)


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.jsonl"
    path.touch()
    monkeypatch.setattr(type(path), "read_bytes", refused)
    with pytest.raises(InputError, match=r"a\.jsonl: cannot be read \(Permission denied\)"):
        content_of(path)
    monkeypatch.setattr(type(path), "stat", refused)
    with pytest.raises(InputError, match=r"a\.jsonl: cannot be read \(Permission denied\)"):
        check_is_file(path)


def test_the_hash_of_several_files_depends_on_each_and_on_their_order():
    assert sha256_of([b"a"]) == hashlib.sha256(b"a").hexdigest()
    assert len({sha256_of(some) for some in ([b"a"], [b"a", b"b"], [b"b", b"a"], [b"ab"], [b"a", b""])}) == 5


def test_one_of_several_keys_is_required():
    assert first_key({"doc": 1, "document": 2}, ("document", "doc")) == "document"
    assert first_key({}, ("a",)) is None
    assert required_key({"doc": 1}, ("document", "doc"), "a:1", FORM) == "doc"
    with pytest.raises(InputError, match=r'a:1: there is no "a" \(keys found: \'b\', \'\ufffd\'\)\. Write {"text"'):
        required_key({"b": 1, "\ud800": 2}, ("a",), "a:1", FORM)
    with pytest.raises(InputError, match="keys found: none"):
        required_key({}, ("a",), "a:1", FORM)


@pytest.mark.parametrize("value", [None, True, 3, 0.5, ["a"], {"a": 1}])
def test_values_of_another_kind_are_refused(value):
    with pytest.raises(InputError, match=r'a:1: "x" is .* and should be a string'):
        text_from(value, '"x"', "a:1")
    with pytest.raises(InputError, match=r'a:1: "x" is .* and should be a non-empty string'):
        name_from(value, '"x"', "a:1")


def test_texts_and_names_are_well_formed_and_not_empty():
    assert text_from(" a\ud83d", "", "") == " a\ufffd"
    assert text_from("", "", "", may_be_empty=True) == ""
    assert name_from("a\ud83d", "", "") == "a\ufffd"
    assert name_from(-7, "", "", may_be_number=True) == "-7"
    for empty in ("", " \n\u3000"):
        with pytest.raises(InputError, match=r'"x" is empty\. Remove the line'):
            text_from(empty, '"x"', "a:1")
        with pytest.raises(InputError, match="non-empty string"):
            name_from(empty, '"x"', "a:1")
    for value in (True, 1.0):
        with pytest.raises(InputError, match="non-empty string"):
            name_from(value, '"x"', "a:1", may_be_number=True)


def test_grades_are_numbers_that_can_be_counted_with():
    assert [grade_from(value, "", "") for value in (0, -0.0, 1, 2.5, 1e9)] == [0, 0, 1, 2.5, 1e9]
    for value in (-1, 1.1e9, 10**400, float("nan"), float("inf"), True, "1", None, [1]):
        with pytest.raises(InputError, match=r"a:1: the score is .* a number of at least 0"):
            grade_from(value, "the score", "a:1")
    with pytest.raises(InputError, match=r"5e-324, which is too small"):
        grade_from(5e-324, "the score", "a:1")


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(max_size=5), _values, max_size=4), min_size=1, max_size=4))
def test_objects_survive_being_written_and_read(tmp_path_factory, objects):
    path = tmp_path_factory.getbasetemp() / "a.jsonl"
    assert [one for _, one in objects_of(jsonl_from_objects(objects), path, FORM)] == objects


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100) | st.text(max_size=50).map(str.encode))
def test_arbitrary_bytes_raise_nothing_but_our_error(tmp_path, content):
    with suppress(InputError):
        assert all(isinstance(one, dict) for _, one in objects_of(content, tmp_path / "a.jsonl", FORM))
