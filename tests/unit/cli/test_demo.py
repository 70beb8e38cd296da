"""The steps of `octavo demo` that no other test takes, on a tiny stack whose models know nothing."""

import json

from octavo.certify.wording import signed_points
from octavo.cli.demo import _tune
from octavo.cli.samples import TUNING_QRELS, Place
from octavo.progress import Silent
from octavo.search.build import Change, build_index
from octavo.search.embedder import ReleaseEmbedder
from octavo.search.settings import read_tuned
from octavo.store.model import load
from tests.unit.search.conftest import publish_stack, tiny_stack  # noqa: F401 - the same tiny stack

DOCUMENTS = {"d0": "book a table", "d1": "what is the weather", "d2": "play some music"}


class Said(Silent):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


def test_the_ranker_s_weight_is_measured_on_the_queries_left_over_and_kept_with_the_index(publish_stack, tmp_path):  # noqa: F811
    store, data, said = publish_stack(["embed", "rank"]), tmp_path / "data", Said()
    (data / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", DOCUMENTS), ("queries", {"q1": "weather", "q2": "music", "q3": "table"})):
        lines = (json.dumps({"_id": key, "text": text}) + "\n" for key, text in texts.items())
        (data / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    (data / TUNING_QRELS).write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\n", "utf-8")
    index = tmp_path / "index"
    with load(store / "embed" / "1", threads=1) as model:
        build_index(index, Change(data / "corpus.jsonl"), ReleaseEmbedder(model), store=store)

    _tune(index, store / "embed" / "2", store / "rank" / "2", data, Place(tmp_path, said))

    tuned = read_tuned(index)
    assert (tuned.ranker, tuned.queries) == ("rank", 2)
    (gain,) = [one.gain for one in tuned.tried if one.weight == tuned.weight]
    (line,) = said.lines
    assert line.startswith(f"the ranker's weight is {tuned.weight:g} ")
    assert f" {signed_points(gain.value)} points " in line
    assert "on 2 queries" in line
