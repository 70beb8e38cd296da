import gzip
import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.errors import InputError, OctavoError
from octavo.search import documents
from octavo.search.documents import Document, FieldNames, corpus_bytes, read_documents, read_ids


def write(folder, content, name="corpus.jsonl"):
    path = folder / name
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def read(path, **names):
    return list(read_documents(path, FieldNames(**names)))


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_beir_documents(tmp_path, name):
    path = write(
        tmp_path, '{"_id": "a", "title": " T ", "text": "x"}\n\n{"_id": 7, "text": null, "title": "U"}\n', name
    )
    assert read(path) == [Document("a", "T", "x"), Document("7", "U", "")]
    assert read(path)[0].content == "T x"
    assert read(path)[1].content == "U"


def test_tsv_documents(tmp_path):
    path = write(tmp_path, '_id\ttitle\ttext\r\na\tT\t"one\ttwo"\r\nb\t\tthree, four\r\n', "corpus.tsv")
    assert [(one.id, one.title, one.text) for one in read(path)] == [("a", "T", "one\ttwo"), ("b", "", "three, four")]


def test_csv_documents_with_line_ends_in_cells(tmp_path):
    path = write(tmp_path, '\ufeffid,title,body,kind\r\na,T,"one, ""two""\r\n\r\nthree",k\r\nb,,x,\r\n', "corpus.csv")
    assert read(path, kept=("kind",)) == [
        Document("a", "T", 'one, "two"\r\n\r\nthree', {"kind": "k"}),
        Document("b", "", "x", {"kind": ""}),
    ]


def test_fields_by_other_names_and_kept_ones(tmp_path):
    row = {"sku": "a", "name": "T", "about": "x", "price": 3, "new": True, "none": None}
    path = write(tmp_path, json.dumps(row))
    found = read(path, id=("sku",), title=("name",), text=("about",), kept=("price", "new", "none", "absent"))
    assert found == [Document("a", "T", "x", {"price": "3", "new": "true"})]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (
            '{"_id": "a", "text": "x"}\n{"text": "x"}',
            "c.jsonl",
            r'c.jsonl:2: there is no "_id" \(keys found: \'text\'\)',
        ),
        ('{"_id": "a"}', "c.jsonl", 'c.jsonl:1: there is neither "text" nor "title"'),
        ('{"_id": "a", "text": 3}', "c.jsonl", 'c.jsonl:1: "text" is .3. and should be a string'),
        ('{"_id": "", "text": "x"}', "c.jsonl", 'c.jsonl:1: "_id" is'),
        ('{"_id": "a\\u0000", "text": "x"}', "c.jsonl", "holds a NUL"),
        (json.dumps({"_id": "a" * 513, "text": "x"}), "c.jsonl", "over 512 characters"),
        ('{"_id": "a", "text": ""}\n{"_id": " a ", "text": "y"}', "c.jsonl", "c.jsonl:2: the id 'a' occurs twice"),
        ('{"_id": "a", "text": "x"', "c.jsonl", "c.jsonl:1: not valid JSON"),
        (b'{"_id": "a", "text": "\xff"}', "c.jsonl", "c.jsonl:1: byte 0xff"),
        ("id;text\na;b\n", "c.csv", "columns have semicolons between; save it with commas"),
        ("id,text\na,b,c\n", "c.csv", "c.csv:2: the row has more cells than the header"),
        ('id,text\na,"b\n', "c.csv", "not valid CSV"),
        (b"id,text\na,\xff\n", "c.csv", "c.csv:2: this line is not UTF-8"),
        ("id,text\na,b\na,c\n", "c.csv", "c.csv:3: the id 'a' occurs twice"),
        ("a\tb\n", "c.txt", "a corpus is .jsonl"),
    ],
)
def test_bad_input_is_named_by_file_and_line(tmp_path, content, name, message):
    with pytest.raises(InputError, match=message):
        read(write(tmp_path, content, name))


def test_a_missing_file_or_a_folder_is_refused_at_once(tmp_path):
    for path, message in ((tmp_path / "absent.csv", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=message):
            corpus_bytes(path)
        with pytest.raises(InputError, match=message):
            read_documents(path, FieldNames())


def test_a_cell_without_end_is_refused_and_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "_LINE_BYTES", 1024)
    with pytest.raises(InputError, match=r"c.csv:2: the line has over 1 KiB"):
        read(write(tmp_path, 'id,text\na,"' + "b" * 5000, "c.csv"))


@pytest.mark.parametrize("name", ["c.jsonl", "c.csv"])
def test_what_is_told_of_the_bytes_adds_up(tmp_path, name):
    rows = "".join(f'{{"_id": {i}, "text": "x"}}\n' if name == "c.jsonl" else f"{i},x\n" for i in range(3000))
    path = write(tmp_path, ("" if name == "c.jsonl" else "id,text\n") + rows, name)
    told = []
    assert len(list(read_documents(path, FieldNames(), told.append))) == 3000
    assert sum(told) == corpus_bytes(path)
    assert len(told) > 1


def test_ids_are_read_once_each(tmp_path):
    assert read_ids(write(tmp_path, "b\n\n a \nb\n", "ids.txt")) == ["b", "a"]
    with pytest.raises(InputError, match="there is no id"):
        read_ids(write(tmp_path, "\n", "ids.txt"))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(["c.jsonl", "c.csv"]))
def test_arbitrary_bytes_raise_nothing_but_our_errors(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(b"id,text\n" + content if name == "c.csv" else content)
    with suppress(OctavoError):
        read(path)
