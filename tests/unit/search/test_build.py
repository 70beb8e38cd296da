"""Building, going on and changing an index, with vectors that no model made."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.errors import InputError, Interrupted, ReleaseError
from octavo.search import build as module
from octavo.search import vectors
from octavo.search.build import Change, build_index
from octavo.search.index import open_index

PATH = os.pathsep.join([str(Path(module.__file__).parents[2]), str(Path(__file__).parents[3])])
CORPUS = {f"d{i}": f"number {i} of the documents about topic{i % 7}" for i in range(60)}


def contents(index):
    """Return the texts by id of all documents that words and vectors find, which are the same."""
    found = index.documents(range(index.manifest.next_number))
    (near,) = index.nearest(np.ones((1, index.vectors.width), np.float32), max(1, len(index)))
    assert sorted(found) == sorted(near.numbers.tolist())
    return {document.id: document.text for document in found.values()}


def folders(path):
    return sorted(child.name for child in path.iterdir())


def test_an_index_holds_the_corpus(build, embedder, tmp_path):
    built = build(CORPUS)
    index = open_index(tmp_path / "index")
    assert contents(index) == CORPUS
    assert (built.added, built.replaced, built.deleted, built.unknown) == (60, 0, 0, 0)
    assert index.manifest == built.manifest
    assert index.documents(index.words("topic3", 1).numbers.tolist()).popitem()[1].text.endswith("topic3")
    (hits,) = index.nearest(embedder.vectors([CORPUS["d17"]]), 1)
    assert index.documents(hits.numbers.tolist())[int(hits.numbers[0])].id == "d17"
    assert folders(tmp_path / "index") == ["1", "current"], "nothing else is left"


def test_cosine_does_not_ask_how_long_vectors_are(build, embedder, tmp_path):
    build(CORPUS)
    (hits,) = open_index(tmp_path / "index").nearest(5 * embedder.vectors([CORPUS["d3"]]), 3)
    assert hits.scores[0] == pytest.approx(1, abs=1e-5)


def test_a_new_corpus_takes_the_place_of_the_old_one(build, tmp_path):
    build(CORPUS)
    before = open_index(tmp_path / "index")
    build({"a": "alone"})
    assert contents(open_index(tmp_path / "index")) == {"a": "alone"}
    assert contents(before) == CORPUS, "who had it open still has it"
    build({"b": "last"})
    assert folders(tmp_path / "index") == ["2", "3", "current"], "the one before is kept, for those who open it"


def test_an_update_adds_replaces_and_deletes(build, embedder, tmp_path):
    build(CORPUS)
    gone = tmp_path / "gone.txt"
    gone.write_text("d0\nnothing\nd1\n", "utf-8")
    built = build(
        {"d2": "changed", "new": "brand new", "d1": "back again"}, embedder=embedder, update=True, delete=gone
    )
    assert (built.added, built.replaced, built.deleted, built.unknown) == (2, 1, 2, 1)
    expected = {**CORPUS, "d2": "changed", "new": "brand new", "d1": "back again"}
    del expected["d0"]
    assert contents(open_index(tmp_path / "index")) == expected
    assert embedder.asked == ["changed", "brand new", "back again"], "other vectors stay"


def test_deleting_needs_no_corpus_and_may_leave_nothing(build, tmp_path):
    build({"a": "one", "b": "two"})
    gone = tmp_path / "gone.txt"
    gone.write_text("a\nb\n", "utf-8")
    assert build(None, update=True, delete=gone).manifest.documents == 0
    index = open_index(tmp_path / "index")
    assert index.words("one", 5).numbers.tolist() == []
    assert build({"c": "three"}, update=True).manifest.documents == 1


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["red", "blue hat", ""]), max_size=5),
                  st.sets(st.sampled_from("abcdefgh"), max_size=4)),
        min_size=1, max_size=4,
    )
)  # fmt: skip
def test_updates_come_to_what_a_dictionary_does(build, tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("property")
    build({"a": "first", "b": "red"}, folder=folder / "index")
    expected = {"a": "first", "b": "red"}
    for documents, gone in changes:
        ids = folder / "gone.txt"
        ids.write_text("".join(f"{name}\n" for name in gone) or "x\n", "utf-8")
        build(documents or {"h": "filled"}, folder=folder / "index", update=True, delete=ids)
        expected = {name: text for name, text in expected.items() if name not in gone} | (documents or {"h": "filled"})
        index = open_index(folder / "index")
        assert contents(index) == expected
        red = {document.id for document in index.documents(index.words("red", 99).numbers.tolist()).values()}
        assert red == {name for name, text in expected.items() if text == "red"}


class Interrupting:
    """An embedder that Ctrl-C meets after some calls."""

    def __init__(self, embedder, calls):
        self.lineage, self._embedder, self._calls = embedder.lineage, embedder, calls

    def vectors(self, texts):
        self._calls -= 1
        if self._calls < 0:
            raise KeyboardInterrupt
        return self._embedder.vectors(texts)


@pytest.mark.parametrize("calls", [0, 1, 4, 5])
@pytest.mark.parametrize("is_update", [False, True])
def test_an_interrupted_build_goes_on_where_it_stopped(build, embedder, tmp_path, monkeypatch, calls, is_update):
    monkeypatch.setattr(module, "_CHUNK", 10)
    monkeypatch.setattr(module, "_RECORD_EVERY_S", -1)
    expected = dict(CORPUS)
    if is_update:
        build({"d5": "old", "d55": "old", "other": "stays"})
        expected["other"] = "stays"
    with pytest.raises(Interrupted, match=rf"{10 * calls} documents are kept"):
        build(CORPUS, embedder=Interrupting(embedder, calls), update=is_update)
    assert is_update is (tmp_path / "index" / "current").exists(), "nothing half-made is published"
    embedder.asked.clear()
    built = build_index(tmp_path / "index", Change(tmp_path / "corpus.jsonl", update=is_update), embedder)
    assert len(embedder.asked) == 60 - 10 * calls
    assert contents(open_index(tmp_path / "index")) == expected
    assert (built.added, built.replaced) == ((58, 2) if is_update else (60, 0))


def test_what_was_not_recorded_is_cut_off(build, embedder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 10)
    monkeypatch.setattr(module.Work, "record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(Interrupted, match="0 documents are kept"):
        build(CORPUS)  # committed to tantivy, and never recorded
    monkeypatch.undo()
    build_index(tmp_path / "index", Change(tmp_path / "corpus.jsonl"), embedder)
    assert contents(open_index(tmp_path / "index")) == CORPUS


def test_a_version_that_was_cut_off_before_it_was_current_is_made_again(build, embedder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "point_current", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(Interrupted):
        build(CORPUS)
    monkeypatch.undo()
    assert build_index(tmp_path / "index", Change(tmp_path / "corpus.jsonl"), embedder).added == 60
    assert contents(open_index(tmp_path / "index")) == CORPUS


def test_a_draft_that_was_tampered_with_is_refused(build, embedder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 10)
    monkeypatch.setattr(module, "_RECORD_EVERY_S", -1)
    with pytest.raises(Interrupted):
        build(CORPUS, embedder=Interrupting(embedder, 3))
    shutil.rmtree(tmp_path / "index" / ".draft" / "lexical")
    with pytest.raises(ReleaseError, match="30 documents instead of 60"):
        build_index(tmp_path / "index", Change(tmp_path / "corpus.jsonl"), embedder)
    assert build_index(tmp_path / "index", Change(tmp_path / "corpus.jsonl"), embedder).added == 60


KILLED = """
import os, signal, sys
from pathlib import Path
from octavo.search import build
from octavo.search.lexical import LexicalWriter
from tests.unit.search.conftest import HashedWords
build._CHUNK, build._RECORD_EVERY_S = 10, -1
commit, left = LexicalWriter.commit, [3]
def dying(self):
    left[0] -= 1
    commit(self)
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)  # between tantivy's commit and our record of it
LexicalWriter.commit = dying
build.build_index(Path(sys.argv[2]), build.Change(Path(sys.argv[1])), HashedWords())
"""


def test_a_killed_build_goes_on(write_corpus, embedder, tmp_path):
    corpus = write_corpus(CORPUS)
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, corpus, tmp_path / "index"], env={**os.environ, "PYTHONPATH": PATH}
    )
    assert ran.returncode == -signal.SIGKILL
    assert folders(tmp_path / "index") == [".draft", ".work"]
    build_index(tmp_path / "index", Change(corpus), embedder)
    assert len(embedder.asked) == 40
    assert contents(open_index(tmp_path / "index")) == CORPUS


def test_an_unfinished_graph_is_gone_on_with(build, embedder, tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "_MOST_FLAT", 5)
    monkeypatch.setattr(vectors, "_BLOCK", 10)
    monkeypatch.setattr(module, "_SAVE_GRAPH_EVERY_S", -1)
    saved, added = [], []
    save, add = module._Build.save, vectors.VectorBuilder.add

    def save_twice(build, builder):
        save(build, builder)
        saved.append(1)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module._Build, "save", save_twice)
    with pytest.raises(Interrupted):
        build(CORPUS)
    monkeypatch.setattr(
        vectors.VectorBuilder, "add", lambda self, new, *rest: added.append(len(new)) or add(self, new, *rest)
    )
    build_index(tmp_path / "index", Change(tmp_path / "corpus.jsonl"), embedder)
    assert sum(added) == 40
    assert contents(open_index(tmp_path / "index")) == CORPUS


def test_a_corpus_that_changed_is_begun_anew(build, embedder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 10)
    with pytest.raises(Interrupted):
        build(CORPUS, embedder=Interrupting(embedder, 3))
    assert build({"a": "alone"}).manifest.documents == 1
    assert contents(open_index(tmp_path / "index")) == {"a": "alone"}


def test_bad_input_leaves_nothing(embedder, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    for content, message in (
        ('{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n', "corpus.jsonl:2"),
        ("", "there is no document"),
    ):
        corpus.write_text(content, "utf-8")
        with pytest.raises(InputError, match=message):
            build_index(tmp_path / "deep" / "index", Change(corpus), embedder)
        assert folders(tmp_path) == ["corpus.jsonl"]


def test_a_failed_update_leaves_the_index_as_it_was(build, tmp_path):
    build(CORPUS)
    (tmp_path / "corpus.jsonl").write_text('{"_id": "new", "text": "x"}\nnonsense\n', "utf-8")
    with pytest.raises(InputError, match=r"corpus.jsonl:2"):
        build_index(tmp_path / "index", Change(tmp_path / "corpus.jsonl", update=True), _hashed())
    assert contents(open_index(tmp_path / "index")) == CORPUS
    assert folders(tmp_path / "index") == ["1", "current"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corpus": None}, "There is nothing to do"),
        ({"corpus": "corpus.jsonl", "delete": "ids.txt"}, "it is an update"),
        ({"corpus": "absent.jsonl"}, "no such file"),
        ({"corpus": None, "update": True, "delete": "absent.txt"}, "no such file"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(write_corpus, tmp_path, embedder, change, message):
    write_corpus(CORPUS)
    (tmp_path / "ids.txt").write_text("d1\n", "utf-8")
    paths = {key: tmp_path / value if isinstance(value, str) else value for key, value in change.items()}
    with pytest.raises(InputError, match=message):
        build_index(tmp_path / "index", Change(**paths), embedder)
    assert not (tmp_path / "index").exists()


def test_updates_take_the_release_that_made_the_other_vectors(build, tmp_path):
    with pytest.raises(ReleaseError, match="there is no such index"):
        build(CORPUS, update=True)
    build(CORPUS)
    with pytest.raises(ReleaseError, match=r"made by embed 1, and embed 2\s+would make the new ones"):
        build({"a": "b"}, embedder=_hashed(release_sha256="b" * 64, version="2"), update=True)


def test_vectors_that_are_none_are_refused(build, embedder, monkeypatch):
    monkeypatch.setattr(type(embedder), "vectors", lambda *_: np.full((60, 16), np.nan, np.float32))
    with pytest.raises(InputError, match="or no numbers"):
        build(CORPUS)
    monkeypatch.setattr(type(embedder), "vectors", lambda *_: np.zeros((60, 3), np.float32))
    with pytest.raises(InputError, match=r"\(60, 3\) and not \(60, 16\)"):
        build(CORPUS)


def test_a_second_writer_is_refused(build, tmp_path):
    build(CORPUS)
    code = (
        "import sys, time; from pathlib import Path; from octavo.search.work import opened_work\n"
        "with opened_work(Path(sys.argv[1]), 'x', 4): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "index")], stdout=subprocess.PIPE, env=dict(os.environ), text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another process is writing"):
            build({"a": "b"}, update=True)
    finally:
        holder.kill()
        holder.communicate()
    assert build({"a": "b"}, update=True).added == 1, "a killed writer blocks nobody"


def test_versions_and_files_are_no_place_for_an_index(build, tmp_path):
    build(CORPUS)
    with pytest.raises(InputError, match="one version of an index"):
        build(CORPUS, folder=tmp_path / "index" / "1")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="this is a file"):
        build(CORPUS, folder=tmp_path / "file")


@pytest.mark.slow
def test_fifty_thousand_documents(tmp_path, embedder):
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(5000)]
    corpus = tmp_path / "corpus.jsonl"
    with corpus.open("w") as file:
        for number in range(50_000):
            text = " ".join(words[i] for i in rng.zipf(1.3, 12) % 5000)
            file.write(json.dumps({"_id": str(number), "text": text}) + "\n")
    built = build_index(tmp_path / "index", Change(corpus), embedder)
    assert (built.manifest.documents, built.manifest.kind) == (50_000, "hnsw")
    index = open_index(tmp_path / "index")
    asked = [index.documents([number])[number].content for number in range(0, 50_000, 1000)]
    found = index.nearest(embedder.vectors(asked), 1)
    exact = [float(hits.scores[0]) for hits in found]
    assert np.mean([score > 0.999 for score in exact]) > 0.95


def _hashed(**changes):
    from tests.unit.search.conftest import HashedWords

    return HashedWords(**changes)


def test_a_draft_that_cannot_be_cleared_says_why(build, tmp_path, monkeypatch):
    (tmp_path / "index" / ".draft").mkdir(parents=True)

    def refused(path, ignore_errors=False):
        if not ignore_errors:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("octavo.search.work.shutil.rmtree", refused)
    with pytest.raises(OSError, match="Read-only file system"):
        build(CORPUS)
