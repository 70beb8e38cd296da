"""Files and lines of every task that cannot be used: a sentence that names the place, exit code 2, nothing written."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from octavo.tasks.classify import Classify
from octavo.tasks.embed import Embed
from octavo.tasks.rank import Rank
from octavo.tasks.tag import Tag
from octavo.types import Outputs

TASKS = {
    "classify": Classify(("x", "y")),
    "tag": Tag(("O", "B-x", "I-x"), ("ask", "tell")),
    "embed": Embed(dimensions=32),
    "rank": Rank(),
}
ROWS = {
    "classify": [{"text": "a", "label": "x"}, {"text": "a", "text_pair": "b", "label": "y"}],
    "tag": [
        {"tokens": ["a", "b", "c"], "tags": ["B-x", "I-x", "O"], "intent": "ask"},
        {"tokens": ["a"], "tags": ["O"], "intent": "tell"},
    ],
    "embed": [{"query": "a", "document": "b"}, {"query": "c", "document": "d"}],
    "rank": [{"query": query, "documents": ["b", "c"], "relevance": [1, 0]} for query in "ad"],
}
# A third line for each task, and what is said of it.
FAULTS = [
    ("classify", {"text": "a", "text_pair": 5, "label": "x"}, "\"text_pair\" is '5' and should be a string"),
    ("classify", {"text": "a", "label": ["x"]}, "should be a non-empty string"),
    ("tag", {"tokens": ["a", "b"], "tags": ["O"], "intent": "ask"}, "2 tokens and 1 tags"),
    ("tag", {"tokens": ["a", "b"], "tags": ["O", "I-x"], "intent": "ask"}, "Write 'B-x'"),
    ("embed", {"query": " ", "document": "a"}, '"query" is empty'),
    ("embed", {"query": "a", "document": None}, "should be a string"),
    ("rank", {"query": "a", "documents": ["b"], "relevance": [-1]}, "at least 0"),
    ("rank", {"query": "", "documents": ["b"], "relevance": [1]}, '"query" is empty'),
    *[(task, "[" * 5000, "not valid JSON") for task in TASKS],
    *[(task, "\ud83d", "not UTF-8") for task in TASKS],
]
faults = pytest.mark.parametrize(("task", "row", "words"), FAULTS)


def _content(rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass")


@pytest.fixture
def files(tmp_path):
    """Return a writer of good files for a task, one of which is replaced."""

    def write(task, **replaced):
        paths = {}
        for name in ("train", "dev", "test"):
            paths[name] = tmp_path / f"{name}.jsonl"
            paths[name].write_bytes(replaced.get(name, _content(ROWS[task])))
        return paths

    return write


@pytest.fixture(scope="module")
def teachers(make_folder, tmp_path_factory):
    """Return a teacher's folder by task; their heads are random."""
    from octavo.encoder.folder import model_from_encoder, read_folder, save_model

    encoder = read_folder(make_folder("bert"))
    folders = {name: tmp_path_factory.mktemp("teachers") / name for name in TASKS}
    for name, task in TASKS.items():
        save_model(model_from_encoder(encoder, task.head, 0), task, encoder, folders[name])
    return folders


def _compress(octavo, teacher, paths, store, *more):
    options = [f"--{name}={path}" for name, path in paths.items()]
    ran = octavo("compress", teacher, *options, f"--store={store}", *more)
    assert ran.code == 2
    assert not list(store.rglob("manifest.json"))
    return ran.err


def _finetune(octavo, encoder, task, paths, out):
    ran = octavo(
        "finetune", encoder, "--task", task, f"--train={paths['train']}", f"--dev={paths['dev']}", "--out", out
    )
    assert ran.code == 2
    assert not out.exists()
    return ran.err


@faults
def test_compress_names_the_row(octavo, teachers, files, tmp_path, task, row, words):
    paths = files(task, test=_content([*ROWS[task], row]))
    message = _compress(octavo, teachers[task], paths, tmp_path / "store")
    assert f"{paths['test']}:3: " in message
    assert words in message


@faults
def test_finetune_names_the_row(octavo, teachers, files, tmp_path, task, row, words):
    paths = files(task, train=_content([*ROWS[task], row]))
    message = _finetune(octavo, teachers["classify"], task, paths, tmp_path / "out")
    assert f"{paths['train']}:3: " in message
    assert words in message


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        ("classify", {"text": "a", "label": "z"}, "the label 'z' is not one of the 2 labels"),
        ("tag", {"tokens": ["a"], "tags": ["B-y"], "intent": "ask"}, "the tag 'B-y' is not one of the 3 tags"),
        ("tag", {"tokens": ["a"], "tags": ["O"], "intent": "sing"}, "the intent 'sing' is not one of the 2 intents"),
    ],
)
def test_what_only_some_rows_have_is_named(octavo, teachers, files, tmp_path, task, row, words):
    for name in ("train", "dev", "test"):
        paths = files(task, **{name: _content([*ROWS[task], row])})
        message = _compress(octavo, teachers[task], paths, tmp_path / "store")
        assert f"{paths[name]}:3: " in message
        assert words in message
    paths = files(task, dev=_content([*ROWS[task], row]))
    assert f"{paths['dev']}:3: " in _finetune(octavo, teachers["classify"], task, paths, tmp_path / "out")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("content", "words"), [(b"", "no rows"), (_content(["{}"]).decode().encode("utf-16"), "UTF-16")]
)
def test_a_file_that_holds_no_rows_is_named(octavo, teachers, files, tmp_path, task, content, words):
    paths = files(task, dev=content)
    message = _compress(octavo, teachers[task], paths, tmp_path / "store")
    assert str(paths["dev"]) in message
    assert words in message
    assert words in _finetune(octavo, teachers["classify"], task, paths, tmp_path / "out")


@pytest.mark.parametrize("task", TASKS)
def test_a_folder_in_place_of_a_file_is_named(octavo, teachers, files, tmp_path, task):
    paths = {**files(task), "dev": tmp_path}
    assert f"{tmp_path}: this is a folder" in _compress(octavo, teachers[task], paths, tmp_path / "store")
    assert f"{tmp_path}: this is a folder" in _finetune(octavo, teachers["classify"], task, paths, tmp_path / "out")


def test_judgements_of_a_document_that_is_missing_are_named(octavo, teachers, files, tmp_path):
    (tmp_path / "corpus.jsonl").write_bytes(_content([{"_id": "d1", "text": "a"}]))
    (tmp_path / "queries.jsonl").write_bytes(_content([{"_id": "q1", "text": "a"}]))
    paths = {**files("embed"), "dev": tmp_path / "dev.tsv"}
    paths["dev"].write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t1\n", "utf-8")
    for message in (
        _compress(octavo, teachers["embed"], paths, tmp_path / "store"),
        _finetune(octavo, teachers["embed"], "embed", paths, tmp_path / "out"),
    ):
        assert f"{paths['dev']}:3: the document 'd2' is not in {tmp_path / 'corpus.jsonl'}" in message


def test_a_query_that_leaves_no_room_for_its_documents_is_refused(octavo, teachers, files, tmp_path):
    row = {"query": "a " * 1000, "documents": ["b", "c"], "relevance": [1, 0]}
    paths = files("rank", train=_content([*ROWS["rank"], row]))
    message = _finetune(octavo, teachers["rank"], "rank", paths, tmp_path / "out")
    assert "the first text, 'a a a" in message  # so that it can be found in the file
    assert "leaves no room for the second text" in message


@pytest.mark.parametrize(
    ("task", "record", "words"),
    [
        ("classify", {"query": "a"}, 'there is no "text"'),
        ("classify", {"text": "a", "text_pair": 5}, "\"text_pair\" is '5'"),
        ("tag", {"tokens": "a b"}, "a list of words"),
        ("embed", {"text": 5}, "should be a string"),
        ("rank", {"query": "a"}, "a query and its documents"),
        *[(task, "\ud83d", "not UTF-8") for task in TASKS],
        *[(task, "[]", "expected a JSON object") for task in TASKS],
    ],
)
def test_a_query_log_that_cannot_be_used_is_named(octavo, teachers, files, tmp_path, task, record, words):
    log = tmp_path / "log.jsonl"
    log.write_bytes(_content([record]))
    message = _compress(octavo, teachers[task], files(task), tmp_path / "store", f"--unlabelled={log}")
    assert f"{log}:1: " in message
    assert words in message


# What is typed.


@pytest.fixture
def predict(octavo, monkeypatch):
    """Run `octavo predict` with a release whose head puts out zeros; lines go to stdin."""

    class Loaded:
        def __init__(self, task):
            self.task = task
            self.release = SimpleNamespace(model="m", version="1")
            self.engine = SimpleNamespace(engine_id="none")

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def predict(self, items):
            counts = [1 + len(getattr(one, "words", ())) for one in self.task.prepare(items)]
            width = self.task.head.outputs or 4
            return self.task.decode(Outputs(np.zeros((sum(counts), width), np.float32), np.cumsum([0, *counts])), items)

    def run(task, *texts, lines=b""):
        monkeypatch.setattr("octavo.store.model.load", lambda *_args, **_options: Loaded(TASKS[task]))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
        return octavo("predict", "release", *texts)

    return run


@pytest.mark.parametrize(
    ("task", "text", "words"),
    [
        ("classify", '{"text": 5}', "the line: \"text\" is '5' and should be a string"),
        ("classify", '{"text": "a", "text_pair": ["b"]}', 'the line: "text_pair" is'),
        ("embed", '{"text": "a", "document": "b"}', 'Give either "query" or "document"'),
        ("embed", "{broken", "the line: not valid JSON"),
        ("embed", '{"query": ' + "[" * 5000, "the line: not valid JSON"),
        ("tag", '["a", " "]', "Word 1 of item 0 is blank"),
        ("rank", "no document", "the line: 'no document' has no document"),
        ("rank", '{"query": "a", "documents": [5]}', "the line: a document is '5'"),
    ],
)
def test_predict_says_what_cannot_be_answered(predict, task, text, words):
    assert words in predict(task, text).err
    ran = predict(task, lines=text.encode() + b"\n")
    assert ran.code == 2
    assert words.replace("the line", "stdin:1") in ran.err


@pytest.mark.parametrize("task", TASKS)
def test_predict_names_a_line_that_is_not_utf_8(predict, task):
    ran = predict(task, lines=b"a\tb\n\xff\xfea\0\n")
    assert ran.code == 2
    assert "stdin:2: this line is not UTF-8" in ran.err
    assert "a" in ran.out  # the line before was answered


@pytest.mark.parametrize("task", TASKS)
def test_predict_answers_odd_texts(predict, task):
    texts = ["👩‍👩‍👧\t🙂", "\u202eשלום\tעולם", "a\0\tb", "\u200b\t\ufffd", "x" * 100_000 + "\ty"]
    ran = predict(task, lines="".join(text + "\n" for text in texts).encode())
    assert ran.code == 0, ran.err
    assert ran.out.count(" ms  ") == len(texts)
    assert "\0" not in ran.out
    assert "x" * 100_000 + "  y" in ran.out, "a tab is shown as space"
    assert "\u202e" not in ran.out


def test_predict_answers_pairs_of_texts(predict):
    ran = predict("classify", '{"text": "a", "text_pair": "b"}', "a")
    assert ran.code == 0
    assert ran.out.count("x  50.0%") == 2
