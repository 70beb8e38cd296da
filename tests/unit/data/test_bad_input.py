"""What files really hold: every reader against every fault. Each ends in our error or in a result that is said here."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.data.candidates import read_candidates
from octavo.data.logs import read_records
from octavo.data.retrieval import read_retrieval
from octavo.data.rows import read_rows, texts_of
from octavo.data.tagged import read_tagged
from octavo.errors import InputError

CORPUS = [{"_id": "d1", "title": "t", "text": "a"}, {"_id": "d2", "text": "b"}]
QUERIES = [{"_id": "q1", "text": "a"}, {"_id": "q2", "text": "b"}]
QRELS = b"q1\td1\t1\nq2\td2\t1\n"


@dataclass(frozen=True)
class Reader:
    """One reader, and a file that it likes.

    Attributes:
        file: its path in the folder.
        good: a line of it.
        texts: reads the file and returns every text that was read.
        accepts: odd values that are fine, by key; a key that is not here takes none of them.
        in_json: lines are objects.
        beside: other files that it needs, with their lines.
    """

    file: str
    good: Any
    texts: Callable[[Path], list[str]]
    accepts: dict[str, list[Any]]
    in_json: bool = True
    beside: dict[str, bytes] | None = None

    def write(self, folder: Path, content: bytes) -> Path:
        for name, other in {**(self.beside or {}), self.file: content}.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(other)
        return folder / self.file

    def line(self, **changes: Any) -> bytes:
        return json.dumps({**self.good, **changes}).encode() + b"\n" if self.in_json else self.good

    def below(self, key: str, value: Any) -> Any:
        """Return what stands under a key whose text is `value`: the text, or as many as there were."""
        return [value, *self.good[key][1:]] if isinstance(self.good[key], list) else value


def _rows(path: Path) -> list[str]:
    return [text for row in read_rows(path).rows for text in (*texts_of(row), row.label or "")]


def _tagged(path: Path) -> list[str]:
    return [text for row in read_tagged(path).rows for text in (*row.tokens, *row.tags, row.intent or "")]


def _candidates(path: Path) -> list[str]:
    lists = read_candidates(path)
    return [*lists.queries, *(document for documents in lists.documents for document in documents)]


def _retrieval(path: Path) -> list[str]:
    data = read_retrieval(path if path.suffix == ".tsv" or path.name == "train.jsonl" else path.parent / "test.tsv")
    return [*data.query_ids, *data.queries, *data.document_ids, *data.documents]


def _log(path: Path) -> list[str]:
    records = [record for record, _ in read_records([path])]
    return [text for one in records for text in ([one] if isinstance(one, str) else map(str, one.values()))]


def _jsonl(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


ANY = [None, True, 5, 0.5, [], {}, ["a"], [["a"]], {"a": "b"}, "", " "]
NUMBERS = [0, 5, -3]
GRADES = [0.5, *NUMBERS[:2]]

READERS = {
    "rows": Reader(
        "train.jsonl",
        {"text": "a", "text_pair": "b", "label": "x"},
        _rows,
        {"text_pair": [None], "label": NUMBERS},
    ),
    "tagged": Reader(
        "train.jsonl",
        {"tokens": ["a", "b"], "tags": ["O", "B-x"], "intent": "y"},
        _tagged,
        {},
    ),
    "candidates in lists": Reader(
        "train.jsonl",
        {"query": "a", "documents": ["b", "c"], "relevance": [1, 0]},
        _candidates,
        {"documents": ["", " "], "relevance": GRADES},
    ),
    "candidates in pairs": Reader(
        "train.jsonl",
        {"query": "a", "document": "b", "relevance": 1},
        _candidates,
        {"document": ["", " "], "relevance": GRADES},
    ),
    "pairs": Reader(
        "train.jsonl",
        {"query": "a", "document": "b", "negatives": ["c", "d"], "relevance": 1},
        _retrieval,
        {"document": ["", " "], "negatives": ["", " "], "relevance": GRADES},
    ),
    "corpus": Reader(
        "corpus.jsonl",
        {"_id": "d3", "title": "t", "text": "a"},
        _retrieval,
        {"_id": NUMBERS, "title": [None, "", " "], "text": [None, "", " "]},
        beside={"queries.jsonl": _jsonl(QUERIES), "test.tsv": QRELS},
    ),
    "queries": Reader(
        "queries.jsonl",
        {"_id": "q3", "text": "a"},
        _retrieval,
        {"_id": NUMBERS},
        beside={"corpus.jsonl": _jsonl(CORPUS), "test.tsv": QRELS},
    ),
    "qrels": Reader(
        "test.tsv",
        b"q1\td1\t1\n",
        _retrieval,
        {},
        in_json=False,
        beside={"corpus.jsonl": _jsonl(CORPUS), "queries.jsonl": _jsonl(QUERIES)},
    ),
    "log of objects": Reader("log.jsonl", {"text": "a"}, _log, {"text": ANY}),
    "log of lines": Reader("log.txt", b"a\n", _log, {}, in_json=False),
    "log of columns": Reader("log.tsv", b"a\tb\n", _log, {}, in_json=False),
}
# What stands before the faulty line, so that it is line 3: the corpus and the queries need what the qrels name.
_BEFORE = {"corpus": _jsonl(CORPUS), "queries": _jsonl(QUERIES)}

ODD_TEXTS = {
    "long": "x" * 100_000,
    "right to left": "\u202eשלום עולם مرحبا",
    "emoji": "👩‍👩‍👧 🙂",
    "NUL": "a\0b",
    "no width": "\u200b",
    "replacement": "\ufffd",
    "escape": "\x1b[31m",
    "markup": "<script>",
    "line separator": "a\u2028b\x85c",
    "combining": "e\u0301",
}

readers = pytest.mark.parametrize("name", READERS)
in_json = pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.in_json])
is_log = [name for name in READERS if name.startswith("log")]
# Of the queries only those are kept that the qrels name; there is a test for these.
kept = pytest.mark.parametrize(
    "name", [name for name in READERS if READERS[name].in_json and name not in (*is_log, "queries")]
)


def _before(name: str) -> bytes:
    return _BEFORE.get(name, 2 * READERS[name].line())


def _refused(name: str, folder: Path, line: bytes) -> str:
    """Write a faulty third line; return the error after its place."""
    reader = READERS[name]
    path = reader.write(folder, _before(name) + line)
    with pytest.raises(InputError) as raised:
        reader.texts(path)
    message = str(raised.value)
    assert f"{path}:3: " in message
    assert "\n" not in message
    assert len(message) < 600
    return message


@readers
def test_the_file_that_all_others_differ_from_is_fine(tmp_path, name):
    reader = READERS[name]
    assert reader.texts(reader.write(tmp_path, _before(name) + reader.line()))


@readers
@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", b" \r\n\t\n"])
def test_a_file_without_rows_is_refused_and_an_empty_log_is_none(tmp_path, name, content):
    path = READERS[name].write(tmp_path, content)
    if name in is_log:
        assert READERS[name].texts(path) == []
        return
    with pytest.raises(InputError, match=r"no rows|no document is relevant") as raised:
        READERS[name].texts(path)
    assert str(path) in str(raised.value)


@readers
def test_what_is_no_file_is_refused(tmp_path, name):
    reader = READERS[name]
    path = reader.write(tmp_path, _before(name) + reader.line())
    path.unlink()
    with pytest.raises(InputError, match=r"there is no (such file|\w+\.jsonl)"):
        reader.texts(path)
    path.mkdir()
    with pytest.raises(InputError, match=r"this is a folder|there is no \w+\.jsonl"):
        reader.texts(path)


@readers
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_refused(tmp_path, name):
    reader = READERS[name]
    folder = tmp_path / "locked"
    folder.mkdir()
    path = reader.write(folder, _before(name) + reader.line())
    path.chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        reader.texts(path)
    path.chmod(0o600)
    folder.chmod(0)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            reader.texts(path)
    finally:
        folder.chmod(0o700)


@readers
@pytest.mark.parametrize("line", [b"caf\xe9", b"\xff", b"\xed\xa0\xbd", b"\xc3"])
def test_a_line_that_is_not_utf_8_is_named(tmp_path, name, line):
    assert "Save the file as UTF-8" in _refused(name, tmp_path, line + b"\n")


@readers
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_file_in_utf_16_is_named(tmp_path, name, encoding):
    reader = READERS[name]
    content = ("" if encoding == "utf-16" else "\ufeff") + (_before(name) + reader.line()).decode()
    path = reader.write(tmp_path, content.encode(encoding))
    with pytest.raises(InputError, match="UTF-16") as raised:
        reader.texts(path)
    assert str(raised.value).startswith(f"{path}:1: ")


@in_json
@pytest.mark.parametrize(
    "line",
    [
        b"plain text",
        b"{",
        b'{"text": "a"',
        b"{'text': 'a'}",
        b'{"text": "a\0"}',
        b'{"text": undefined}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"text": ' + b"9" * 9_000 + b"}",
        b"[]",
        b'"a"',
        b"null",
        b"1e999",
    ],
)
def test_a_line_that_is_no_object_is_named(tmp_path, name, line):
    assert "Write " in _refused(name, tmp_path, line + b"\n")


@in_json
@pytest.mark.parametrize("depth", [40, 900, 970, 990])
def test_a_value_that_nests_without_end_is_named(tmp_path, name, depth):
    reader = READERS[name]
    for key in reader.good:
        bomb = reader.line().rstrip(b"\n}") + b', "%s": %s}\n' % (key.encode(), b"[" * depth + b"]" * depth)
        assert "too deep" in _refused(name, tmp_path, bomb)


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name, reader in READERS.items() if reader.in_json for key in reader.good]
)
@pytest.mark.parametrize("value", ANY, ids=repr)
def test_a_value_of_another_kind_is_named_or_has_a_meaning(tmp_path, name, key, value):
    reader = READERS[name]
    line = reader.line(**{key: reader.below(key, value)})
    if any(
        value is accepted or (value == accepted and type(value) is type(accepted))
        for accepted in reader.accepts.get(key, [])
    ):
        assert reader.texts(reader.write(tmp_path, _before(name) + line))
        return
    if (name, key, value) == ("tagged", "intent", None):
        # A row without an intent among others with one is named from its own place, with theirs.
        assert 'no "intent"' in _refused(name, tmp_path, line)
        return
    assert key.rstrip("s") in _refused(name, tmp_path, line)  # "tokens" as a whole, or a token


@in_json
@pytest.mark.parametrize("value", [None, True, 5, "ab", {}, []], ids=repr)
def test_a_value_in_place_of_a_list_is_named_or_has_a_meaning(tmp_path, name, value):
    reader = READERS[name]
    for key in (key for key in reader.good if isinstance(reader.good[key], list)):
        line = reader.line(**{key: value})
        if key == "negatives" and value in (None, "ab", []):
            assert reader.texts(reader.write(tmp_path, _before(name) + line))
        else:
            assert f'"{key}"' in _refused(name, tmp_path, line)


@in_json
def test_a_key_that_is_missing_is_named_or_may_be(tmp_path, name):
    reader = READERS[name]
    optional = {"text_pair", "negatives", "title", "intent"} | ({"relevance"} if name == "pairs" else set())
    optional |= {"text"} if name == "corpus" else set()
    for key in () if name in is_log else reader.good:
        line = json.dumps({other: value for other, value in reader.good.items() if other != key}).encode() + b"\n"
        if key in optional and (name, key) != ("tagged", "intent"):
            assert reader.texts(reader.write(tmp_path, _before(name) + line))
        elif name == "candidates in lists" and key == "documents":
            assert "mixed" in _refused(name, tmp_path, line)
        else:
            assert f'no "{key}"' in _refused(name, tmp_path, line)


@kept
@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_odd_texts_are_kept_as_they_are(tmp_path, name, text):
    reader = READERS[name]
    for key in reader.good:
        if key not in ("tags", "relevance"):
            line = reader.line(**{key: reader.below(key, text)})
            assert any(text in read for read in reader.texts(reader.write(tmp_path, _before(name) + line)))


@pytest.mark.parametrize("name", ["log of lines", "log of columns"])
@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_odd_lines_of_logs_are_kept_as_they_are(tmp_path, name, text):
    path = READERS[name].write(tmp_path, b"a\n" + text.encode() + b"\n")
    assert READERS[name].texts(path) == ["a", text.strip() if name == "log of lines" else text]


@kept
def test_half_a_surrogate_becomes_a_replacement_character(tmp_path, name):
    reader = READERS[name]
    for key in reader.good:
        if key not in ("tags", "relevance"):
            line = reader.line(**{key: reader.below(key, "a\ud83d")})
            assert b"\\ud83d" in line
            texts = reader.texts(reader.write(tmp_path, _before(name) + line))
            assert any("a\ufffd" in text for text in texts)
            "".join(texts).encode()


@pytest.mark.parametrize("text", [*ODD_TEXTS.values(), "\ud83d"], ids=[*ODD_TEXTS, "half a surrogate"])
def test_odd_texts_of_queries_are_kept(tmp_path, text):
    path = READERS["qrels"].write(tmp_path, b"q1\td1\t1\n")
    (tmp_path / "queries.jsonl").write_bytes(_jsonl([{"_id": "q1", "text": text}]))
    assert read_retrieval(path).queries == [text.replace("\ud83d", "\ufffd")]


# What only one reader can be told.


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "2 tokens and 1 tags"),
        ({"tokens": ["a"], "tags": ["O", "O"]}, "1 tokens and 2 tags"),
        ({"tokens": ["a", "b"], "tags": ["O", "I-x"]}, "Write 'B-x'"),
        ({"tokens": ["a", "b"], "tags": ["B-y", "I-x"]}, "Write 'B-x'"),
        ({"tokens": ["a"], "tags": ["S-x"]}, "IOBES"),
        ({"tokens": ["a"], "tags": ["b-x"]}, "'B-x' in IOB2"),
        ({"tokens": ["a"], "tags": [3]}, "not numbers"),
        ({"tokens": ["a"], "tags": ["\u202e"]}, "does not go with"),
    ],
)
def test_tags_that_make_no_sense_are_named(tmp_path, line, words):
    assert words in _refused("tagged", tmp_path, json.dumps({**line, "intent": "y"}).encode() + b"\n")


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("corpus", b'{"_id": "d1", "text": "x"}', "the id 'd1' occurs twice"),
        ("corpus", b'{"_id": " d1\\t", "text": "x"}', "the id 'd1' occurs twice"),
        ("queries", b'{"_id": "q2", "text": "x"}', "the id 'q2' occurs twice"),
        ("queries", b'{"_id": "q3", "text": ""}', '"text" is empty'),
        ("queries", b'{"_id": "", "text": "x"}', "non-empty"),
        ("qrels", b"q1\td9\t1", "the document 'd9' is not in"),
        ("qrels", b"q9\td1\t1", "the query 'q9' is not in"),
        ("qrels", b"q1\td1", "2 columns"),
        ("qrels", b"q1\td1\t1\t1\t1", "5 columns"),
        ("qrels", b"q1\td1\t", "should be a number"),
        ("qrels", b"q1\td1\t-1", "at least 0"),
        ("qrels", b"q1\td1\tnan", "at least 0"),
        ("qrels", b"q1\td1\t1e400", "at least 0"),
        ("qrels", b"q1\td1\t1e-320", "too small"),
        ("qrels", b"q1\td1\t0x1", "should be a number"),
        ("qrels", b"q\0\td1\t1", r"the query 'q\x00'"),
        ("qrels", b"query-id\tcorpus-id\tscore", "the query 'query-id'"),  # a heading, but not the first line
        ("candidates in lists", b'{"query": "a", "document": "b", "relevance": 1}', "mixed"),
        ("candidates in pairs", b'{"query": "a", "documents": ["b"], "relevance": [1]}', "mixed"),
        ("candidates in lists", b'{"query": "a", "documents": ["b"], "relevance": [1, 0]}', "2 entries"),
        ("candidates in lists", b'{"query": "", "documents": ["b"], "relevance": [1]}', '"query" is empty'),
        ("candidates in pairs", b'{"query": "a", "document": "b", "relevance": NaN}', "nan"),
        ("pairs", b'{"query": "a", "document": "b", "relevance": 1e-320}', "too small"),
        ("pairs", b'{"query": " ", "document": "b"}', '"query" is empty'),
    ],
)
def test_what_does_not_belong_together_is_named(tmp_path, name, line, words):
    assert words in _refused(name, tmp_path, line + b"\n")


def test_of_a_key_that_occurs_twice_the_last_one_counts(tmp_path):
    path = READERS["rows"].write(tmp_path, b'{"text": 5, "text": "a", "label": "x", "label": 7}\n')
    assert _rows(path) == ["a", "7"]


def test_rows_may_repeat(tmp_path):
    for name in ("rows", "tagged", "candidates in lists", "candidates in pairs", "pairs"):
        assert READERS[name].texts(READERS[name].write(tmp_path, 3 * READERS[name].line()))


# Whatever else there is.

_keys = st.sampled_from(sorted({key for reader in READERS.values() if reader.in_json for key in reader.good}))
_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=5)
    | st.sampled_from(["O", "B-x", "I-x", "d1", "q1"])
)
_values = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=2))
_cells = st.lists(
    st.sampled_from(["q1", "d1", "d2", "1", "0", "", " ", "x", "\0", "-1", "1e400"]) | st.text(max_size=3)
)


@st.composite
def _contents(draw, name):
    reader = READERS[name]
    if draw(st.booleans()):
        return draw(st.binary(max_size=100))
    if not reader.in_json:
        lines = draw(st.lists(_cells.map(lambda cells: "\t".join(cells).encode("utf-8", "surrogatepass")), max_size=3))
        return _before(name) + b"\n".join(lines)
    rows = st.dictionaries(st.sampled_from(sorted(reader.good)), _values, max_size=5)
    lists = st.fixed_dictionaries({key: st.just(value) | _values for key, value in reader.good.items()})
    return draw(st.sampled_from([b"", _before(name)])) + _jsonl(draw(st.lists(rows | lists, max_size=3)))


@readers
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_file_holds_nothing_but_our_error_escapes(tmp_path, name, data):
    reader = READERS[name]
    path = reader.write(tmp_path, data.draw(_contents(name)))
    with suppress(InputError):
        texts = reader.texts(path)
        if name not in is_log:  # a log's objects are the tasks' to check
            "".join(texts).encode()
