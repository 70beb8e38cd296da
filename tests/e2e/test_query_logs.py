"""Learning from query logs alone: every task and format, what is dropped, and a run that goes on where it stopped."""

import gzip
import hashlib
import json

import msgspec
import pytest

import octavo as package
from octavo.errors import InputError, Interrupted
from octavo.ladder import compress as ladder
from octavo.ladder.compress import compress
from octavo.ladder.material import Material
from octavo.progress import Silent
from octavo.recipe import Certification, DataFiles, Distillation, Quantization, Recipe
from octavo.store.release import verify_release
from octavo.tasks.base import Purpose
from octavo.types import Observer, Scheme, Verdict

RECORDS = 100  # that are new, in every log below
VERBS = ["play", "brighten", "reserve"]
GENRES = ["jazz", "rock", "blues", "folk", "soul"]
PLACES = ["kitchen", "hall", "garden", "attic", "cellar", "garage"]


@pytest.fixture(scope="module", autouse=True)
def small_steps():
    """Make a log of a hundred records a long one: several reports, chunks and batches to be interrupted between."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("octavo.data.logs._LINES_A_REPORT", 8)
        patch.setattr("octavo.text.spool._CHUNK_INPUTS", 16)
        patch.setattr("octavo.encoder.running.INPUTS_PER_CALL", 4)
        yield


@pytest.fixture
def recipe_for(rows_of, teacher_of, tmp_path):
    """Return a recipe that learns from logs and nothing else."""

    def recipe(name, *logs, **changes):
        rows = rows_of(name)
        made = Recipe(
            teacher=teacher_of(name)[0],
            data=DataFiles(dev=rows.dev, test=rows.test, unlabelled=logs),
            store=tmp_path / "store",
            model="learnt",
            max_length=32,
            quantize=Quantization(schemes=(Scheme.PER_TENSOR,), observers=(Observer.MAX,), calibration_rows=64),
            distill=Distillation(epochs=1, control=False, learning_rate=1e-4, batch_size=16),
            certify=Certification(margin=0.1, timing_s=0.1),
        )
        return msgspec.structs.replace(made, **changes)

    return recipe


@pytest.fixture
def gathered(monkeypatch):
    """Return what the ladder was given to learn from, run by run."""
    seen: list[Material] = []

    def gather(*arguments):
        seen.append(kept(*arguments))
        return seen[-1]

    kept = ladder.gather
    monkeypatch.setattr(ladder, "gather", gather)
    return seen


def held_out(rows):
    """Records of dev and test rows, as a log would hold them."""
    lines = [json.loads(line) for file in (rows.dev, rows.test) for line in file.read_text("utf-8").splitlines()]
    match rows.task:
        case "classify":
            return [{"text": line["text"]} for line in lines]
        case "tag":
            return [{"tokens": line["tokens"]} for line in lines]
        case _:
            return [{"query": line["query"], "documents": line["documents"]} for line in lines]


def new_record(task, number):
    """The `number`th record that no other row holds: its last word is of this log alone."""
    verb, genre, place = (words[number % len(words)] for words in (VERBS, GENRES, PLACES))
    words = ["now", verb, *([genre, "songs"] if verb == "play" else []), "in", "the", place, f"log{number}"]
    match task:
        case "classify":
            return {"text": " ".join(words)}
        case "tag":
            return {"tokens": words}
        case "embed":
            return {"query": " ".join(words)}
        case _:
            return {"query": " ".join(words), "documents": ["good match jazz", "poor match rock"]}


def changed(record):
    """The same record to a person: in capitals, with spaces around."""
    if "tokens" in record:
        return {"tokens": [word.upper() for word in record["tokens"]]}
    return {key: f"  {text.upper()} " if isinstance(text, str) else text for key, text in record.items()}


def line_of(record):
    """A record as a line of text: a query, or a query and its documents with tabs between."""
    query = record.get("query", record.get("text")) or " ".join(record["tokens"])
    return "\t".join([query, *record.get("documents", [])])


def write(file, records):
    as_text = ".jsonl" not in file.suffixes
    lines = [line_of(record) if as_text else json.dumps(record) for record in records]
    content = ("\n\n".join(lines) + "\n").encode()  # blank lines are none
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def records_of(rows):
    """A log: `RECORDS` new records, some of them twice, and all that is held out."""
    new = [new_record(rows.task, number) for number in range(RECORDS)]
    known = [] if rows.task == "embed" else held_out(rows)
    return [*known, *new, *new[:7], *map(changed, new[7:12]), *map(changed, known)]


NAMES = ["classify", "tag", "embed-beir", "rank-lists"]
FORMATS = [
    ("classify", "log.txt"),
    ("classify", "log.jsonl.gz"),
    ("tag", "log.jsonl"),
    ("tag", "log.txt.gz"),
    ("embed-beir", "log.txt"),
    ("embed-beir", "log.jsonl"),
    ("rank-lists", "log.tsv"),
    ("rank-lists", "log.jsonl"),
    ("rank-lists", "log.tsv.gz"),
]


@pytest.mark.parametrize(("name", "file"), FORMATS)
def test_what_is_twice_or_held_out_is_not_learnt_from(rows_of, teacher_of, recipe_for, tmp_path, name, file):
    recipe = recipe_for(name, write(tmp_path / file, records_of(rows_of(name))))
    material = ladder.gather(recipe, tmp_path / "work", Silent())
    assert len(material.train.data.groups) == RECORDS
    assert len(material.train.data.batch) == RECORDS * (2 if name == "rank-lists" else 1)
    assert material.train.split is None
    assert len(material.train.teacher) == len(material.train.data.batch)


def test_queries_that_are_held_out_are_not_learnt_from(rows_of, recipe_for, tmp_path):
    folder = rows_of("embed-beir").test.parents[1]
    queries = {json.loads(line)["text"] for line in (folder / "queries.jsonl").read_text("utf-8").splitlines()}
    log = write(tmp_path / "log.txt", [{"query": query} for query in sorted(queries)])
    material = ladder.gather(recipe_for("embed-beir", log), tmp_path / "work", Silent())
    known = {text for one in (material.dev, material.test) for text in one.split.units.texts}
    assert len(material.train.data.groups) == len(queries - known)


@pytest.mark.parametrize(
    "name", ["tag", *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name != "tag")]
)
def test_a_log_alone_makes_a_certified_release(rows_of, uninterrupted, recipe_for, name):
    _, made = uninterrupted(name, recipe_for)
    assert made.chosen in ("int8-ptq-max", "int8-qat")
    assert not any("train" in warning for warning in made.warnings)
    trained = made.certificates[-1]
    assert (trained.rung, trained.selection["groups"]) == ("int8-qat", RECORDS)
    assert {one.verdict for one in made.certificates} == {Verdict.PASS}
    with package.load(made.release) as model:
        assert len(model.predict(rows_of(name).items)) == len(rows_of(name).items)


def test_logs_and_rows_are_learnt_from_together(rows_of, recipe_for, tmp_path):
    rows = rows_of("tag")
    logs = [write(tmp_path / name, records_of(rows)) for name in ("a.jsonl", "b.txt.gz")]
    recipe = recipe_for("tag", *logs)
    data = msgspec.structs.replace(recipe.data, train=rows.train)
    material = ladder.gather(msgspec.structs.replace(recipe, data=data), tmp_path / "work", Silent())
    labelled = material.task.read(rows.train, Purpose.TRAIN)
    assert len(material.train.data.groups) == len(labelled.groups) + RECORDS, "the second log repeats the first"


@pytest.mark.parametrize(
    ("name", "file", "content", "words"),
    [
        ("classify", "log.csv", "a,b", r"log\.csv: a query log is \.txt"),
        ("classify", "log.txt", "\n \n", "nothing to learn from"),
        ("classify", "log.txt", None, "there is no such file"),
        ("classify", "log.jsonl", '{"text": "a"}\n{"text": 3}\n', r"log\.jsonl:2"),
        ("classify", "log.txt.gz", "not packed", "damaged after line 0"),
        ("tag", "log.jsonl", '{"tokens": ["a"]}\n{"words": ["a"]}\n', r"log\.jsonl:2"),
        ("rank-lists", "log.txt", "a query without a document\n", r"log\.txt:1.*has no document"),
        ("rank-lists", "log.jsonl", '{"query": "a"}\n', r"log\.jsonl:1: a ranker needs a query and its documents"),
        ("embed-beir", "log.jsonl", '{"title": "a"}\n', r'log\.jsonl:1: there is neither "query" nor "document"'),
    ],
)
def test_unfit_logs_are_refused_by_line(recipe_for, tmp_path, name, file, content, words):
    log = tmp_path / file
    if content is not None:
        log.write_text(content, "utf-8")
    with pytest.raises(InputError, match=words):
        compress(recipe_for(name, log))
    assert_nothing_published(tmp_path / "store")


def assert_nothing_published(store):
    """No release, no draft of one: what is kept for the next run lies in a folder that no verb looks into."""
    assert [path for path in store.rglob("*") if path.is_file() and ".work" not in path.parts] == []


class Interrupting(Silent):
    """Presses Ctrl-C at the `after`th advance of the step whose label begins so."""

    def __init__(self, label, after):
        self.label, self.left, self.inside = label, after, False

    def step(self, label, total=None):
        self.inside = label.startswith(self.label)
        return super().step(label, total)

    def advance(self, steps=1, note=""):
        self.left -= self.inside
        if self.left == 0:
            raise KeyboardInterrupt


def hashes(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob("*.onnx"))}


@pytest.fixture(scope="module")
def uninterrupted(rows_of, teacher_of, tmp_path_factory):
    """Return the log of a task, and what it comes to without an interruption."""
    known = {}

    def made(name, recipe_for):
        if name not in known:
            folder = tmp_path_factory.mktemp("uninterrupted")
            log = write(folder / "log.jsonl", records_of(rows_of(name)))
            known[name] = log, compress(recipe_for(name, log, store=folder / "store"))
        return known[name]

    return made


STOPS = [("tokenize query logs", 12), ("teacher answers training", 3), ("KD-QAT", 4)]


@pytest.mark.parametrize(("label", "after"), STOPS)
@pytest.mark.parametrize(
    "name",
    ["tag", *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name != "tag")],
)
def test_an_interrupted_run_goes_on_to_the_same_release(recipe_for, uninterrupted, tmp_path, name, label, after):
    log, expected = uninterrupted(name, recipe_for)
    recipe = recipe_for(name, log)
    with pytest.raises(Interrupted, match="run the same command again"):
        compress(recipe, progress=Interrupting(label, after))
    assert_nothing_published(tmp_path / "store")
    resumed = compress(recipe)
    for rung, release in expected.releases.items():
        assert hashes(resumed.releases[rung]) == hashes(release)
    assert all(verify_release(release) == [] for release in resumed.releases.values())
    assert {one.verdict for one in resumed.certificates} == {Verdict.PASS}
    assert {path.name for path in (tmp_path / "store/learnt").iterdir()} >= {"1", "2", "3", "current"}
    assert not list((tmp_path / "store").rglob("*.partial"))
