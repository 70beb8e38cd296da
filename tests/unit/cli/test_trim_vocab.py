import json

import pytest

TEXTS = ["book a table", "what is the weather", "Book a table "]


@pytest.fixture(scope="module")
def model(make_folder):
    return make_folder("roberta")


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "queries.txt"
    file.write_text("\n".join(TEXTS) + "\n", "utf-8")
    return file


@pytest.fixture
def out(tmp_path):
    return tmp_path / "my smaller model"


def test_a_smaller_model_is_written_and_what_it_saves_is_said(octavo, model, corpus, out):
    ran = octavo("trim-vocab", model, "--corpus", corpus, "--out", out)
    assert ran.code == 0
    tokens = json.loads((out / "config.json").read_text("utf-8"))["vocab_size"]
    assert f"{tokens} of 64 tokens stay for 3 texts" in ran.out
    assert "% less" in ran.out
    assert f"model  {out}\n" in ran.out
    assert f"octavo compress '{out}'" in ran.out, "to be copied, quotes included"
    assert "trim the vocabulary" in ran.err


def test_the_numbers_as_json(octavo, model, corpus, out, tmp_path):
    more = tmp_path / "more.jsonl"
    more.write_text('{"text": "play some music"}\n', "utf-8")
    document = octavo("trim-vocab", model, "--corpus", corpus, "--corpus", more, "--out", out, "--json").document
    assert document == {
        "folder": str(out),
        "texts": 4,
        "tokens_before": 64,
        "tokens_after": document["tokens_after"],
        "bytes_before": 64 * 32 * 4,
        "bytes_after": document["tokens_after"] * 32 * 4,
    }
    assert 0 < document["tokens_after"] < 64


def test_the_smaller_model_can_be_trained(octavo, model, corpus, out, tmp_path):
    octavo("trim-vocab", model, "--corpus", corpus, "--out", out)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "book a table", "label": "a"}\n{"text": "the weather", "label": "b"}\n', "utf-8")
    options = ["--train", rows, "--dev", rows, "--out", tmp_path / "teacher", "--epochs", 1, "--max-length", 16]
    assert octavo("finetune", out, *options).code == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda corpus: corpus.unlink(), "there is no such file"),
        (lambda corpus: corpus.write_bytes(b"fine\n\xff\n"), "queries.txt:2: byte 0xff"),
        (lambda corpus: corpus.write_bytes(b"\n \n"), "no texts"),
    ],
    ids=["missing", "not UTF-8", "empty"],
)
def test_a_corpus_that_cannot_be_read(octavo, model, corpus, out, change, words):
    change(corpus)
    ran = octavo("trim-vocab", model, "--corpus", corpus, "--out", out)
    assert ran.code == 2
    assert words in ran.err
    assert ran.out == ""
    assert not [file for file in out.parent.iterdir() if file != corpus]


def test_a_vocabulary_that_cannot_be_trimmed(octavo, tiny_task, corpus, out):
    ran = octavo("trim-vocab", tiny_task / "my-teacher", "--corpus", corpus, "--out", out, "--json")
    assert ran.code == 2
    assert ran.document["error"]["kind"] == "ModelError"
    assert "WordLevel" in ran.err


def test_the_options_are_required(octavo, model, corpus, out):
    assert "--corpus" in octavo("trim-vocab", model, "--out", out).err
    assert "--out" in octavo("trim-vocab", model, "--corpus", corpus).err


def test_an_interruption_leaves_nothing(octavo, model, corpus, out, monkeypatch):
    def stop(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("octavo.encoder.trim.save_file", stop)
    ran = octavo("trim-vocab", model, "--corpus", corpus, "--out", out)
    assert ran.code == 130
    assert "Stopped" in ran.err
    assert [file.name for file in out.parent.iterdir()] == [corpus.name]
