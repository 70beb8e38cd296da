import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.data.candidates import Candidates
from octavo.errors import InputError, ModelError
from octavo.tasks.base import FolderFacts, Head, Purpose, Reads
from octavo.tasks.probabilities import sigmoid
from octavo.tasks.rank import Rank, RankedDocument, Ranking, RankRequest
from octavo.tasks.rank_split import LONGEST_GROUP, PairSplit, RankSplit, split_from_candidates
from octavo.types import Outputs, Pair

SIGMOID = "torch.nn.modules.activation.Sigmoid"
IDENTITY = "torch.nn.modules.linear.Identity"


def _config(**changes):
    return {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}, **changes}


# What a folder says.


@pytest.mark.parametrize(
    ("config", "claimed"),
    [
        (_config(), True),
        ({"architectures": ["RobertaForSequenceClassification"], "num_labels": 1}, True),
        (_config(id2label={"0": "a", "1": "b"}), False),
        (_config(id2label={"0": "a", "1": "b"}, sentence_transformers={"activation_fn": SIGMOID}), False),
        ({"architectures": ["BertForSequenceClassification"]}, False),
        ({"architectures": ["BertModel"], "id2label": {"0": "a"}}, False),
        ({"id2label": {"0": "a"}, "sbert_ce_default_activation_function": SIGMOID}, True),
        ({"architectures": "x"}, False),
    ],
)
def test_a_ranker_has_one_label(config, claimed):
    assert Rank.claims(FolderFacts(config)) is claimed


def test_a_cross_encoder_may_say_so_in_a_file_of_its_own():
    files = {"config_sentence_transformers.json": {"model_type": "CrossEncoder", "activation_fn": IDENTITY}}
    facts = FolderFacts({"id2label": {"0": "a"}, "sentence_transformers": {"activation_fn": SIGMOID}}, files)
    assert Rank.claims(facts)
    assert Rank.from_folder(facts) == Rank("identity")  # the newest spelling goes before the older


@pytest.mark.parametrize(
    ("changes", "activation"),
    [
        ({}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": IDENTITY, "version": "4.1"}}, "identity"),
        ({"sentence_transformers": {"version": "4.1"}}, "sigmoid"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.activation.Identity"}, "identity"),
        ({"sbert_ce_default_activation_function": "torch.nn.Sigmoid"}, "sigmoid"),
        ({"sbert_ce_default_activation_function": None}, "sigmoid"),
    ],
)
def test_the_activation_has_several_spellings(changes, activation):
    assert Rank.from_folder(FolderFacts(_config(**changes))).activation == activation


@pytest.mark.parametrize(
    ("config", "files", "words"),
    [
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}}, {}, "Tanh"),
        ({"sentence_transformers": {"activation_fn": "os.system"}}, {}, "os.system"),
        ({"sbert_ce_default_activation_function": ["x"]}, {}, "activation"),
        ({"id2label": {"0": "a", "1": "b"}}, {}, "one label, and config.json says 2"),
        ({}, {"modules.json": [{"type": "a.Transformer"}, {"type": "a.Dense"}]}, "Transformer, Dense"),
        ({}, {"config_sentence_transformers.json": {"prompts": {"query": "q: "}}}, "prompts"),
    ],
)
def test_what_octavo_does_not_do_is_refused_by_name(config, files, words):
    with pytest.raises(ModelError, match=f"my-model.*{words}"):
        Rank.from_folder(FolderFacts(_config(**config), files, "my-model"))


def test_settings_are_read_back(tmp_path):
    for task in (Rank("identity"), Rank("sigmoid")):
        assert Rank.from_settings(task.settings()) == task
    assert Rank.from_rows(tmp_path) == Rank("sigmoid")
    for settings in ({}, {"activation": "tanh"}, {"activation": ["sigmoid"]}):
        with pytest.raises(ModelError, match="activation"):
            Rank.from_settings(settings)
    assert Rank().head == Head(Reads.FIRST, outputs=1, dense=True)


# Items, logs and answers.


def test_requests_have_several_forms():
    pairs = [Pair("q", "a"), Pair("q", "b")]
    for item in (RankRequest("q", ["a", "b"]), ("q", ["a", "b"]), {"query": "q", "documents": ["a", "b"]}):
        assert Rank().prepare([item, item]) == pairs * 2
    for line in ('{"query": "q", "documents": ["a", "b"]}', "q\ta\tb", " q\t a\t\tb"):
        assert Rank().prepare([Rank().item_from_line(line)]) == pairs
    assert Rank().prepare([]) == []


@pytest.mark.parametrize(
    "item",
    ["q", None, ("q", "a"), ("q", []), ("q", [3]), (3, ["a"]), (" ", ["a"]), {"query": "q"}, {"documents": ["a"]}],
)
def test_what_is_no_request_is_refused(item):
    with pytest.raises(InputError, match="the request"):
        Rank().prepare([item])


@pytest.mark.parametrize("line", ["q", "q\t", "{", '{"query": "q"}', '{"query": "q", "documents": "a"}', "\ta"])
def test_a_line_that_is_no_request_is_refused(line):
    with pytest.raises(InputError, match="the line"):
        Rank().item_from_line(line)


def test_a_log_holds_queries_with_documents():
    task = Rank()
    assert task.inputs_from_log({"query": "q", "document": "a"}, "log:1") == [Pair("q", "a")]
    assert task.inputs_from_log({"query": "q", "documents": ["a", "b"]}, "log:1") == [Pair("q", "a"), Pair("q", "b")]
    assert task.inputs_from_log("q\ta", "log:1") == [Pair("q", "a")]
    assert task.inputs_from_log(" ", "log:1") == []
    for record in ("just a query", {"text": "q"}, {"query": "q", "document": 3}):
        with pytest.raises(InputError, match="log:1"):
            task.inputs_from_log(record, "log:1")


def test_of_a_long_list_evenly_spaced_documents_are_trained_on():
    documents = [str(i) for i in range(100)]
    pairs = Rank().inputs_from_log({"query": "q", "documents": documents}, "log:1")
    assert [pair.second for pair in pairs] == documents[::7]
    assert len(pairs) <= LONGEST_GROUP


def test_answers_are_rankings():
    requests = [("q", ["a", "b", "c"]), ("r", ["d"])]
    outputs = Outputs.one_each(np.array([[0], [40], [30], [-1]], np.float32))
    first, second = Rank("sigmoid").decode(outputs, requests)
    assert [one.index for one in first.results] == [1, 2, 0]  # though a sigmoid is 1.0 for both
    assert first.results[2] == RankedDocument(0, 0.5, "a")
    assert second.results[0].relevance_score == pytest.approx(1 / (1 + np.e))
    assert Rank("identity").decode(outputs, requests)[0].results[0] == RankedDocument(1, 40.0, "b")
    assert first.line() == "1.000 b  1.000 c  0.500 a"
    assert Ranking(first.results * 2).line().endswith("(and 3 more)")


# Splits.


def _candidates(*lists):
    return Candidates(
        name="test",
        queries=[f"q{i}" for i in range(len(lists))],
        documents=[tuple(f"d{i}{j}" for j in range(len(grades))) for i, grades in enumerate(lists)],
        relevance=[np.array(grades, np.float32) for grades in lists],
        sources=[f"f:{i}" for i in range(len(lists))],
        sha256="ab",
    )


def _split(*lists, purpose=Purpose.TEST, activation="sigmoid"):
    return split_from_candidates(_candidates(*lists), purpose, activation)


def _outputs(*logits):
    return Outputs.one_each(np.array(logits, np.float32)[:, None])


def test_lists_are_judged_as_rankings():
    split = _split([0, 1, 2], [1, 0])
    assert type(split) is RankSplit
    assert split.inputs[:2] == (Pair("q0", "d00"), Pair("q0", "d01"))
    assert (split.units.word, split.units.texts, split.units.truth) == ("query", ["q0", "q1"], ["d02", "d10"])
    outputs = _outputs(1, 3, 2, 0, 5)
    answers = split.answers(outputs, _outputs(1, 2, 3, 5, 0))
    values = {measure.name: measure.gains.tolist() for measure in answers.measures}
    first = (1 + 2 / np.log2(3)) / (2 + 1 / np.log2(3))
    assert values["ndcg@10"] == pytest.approx([first, 1 / np.log2(3)])
    assert values["mrr@10"] == [1, 0.5]
    assert values["map"] == [1, 0.5]
    assert [measure.name for measure in answers.measures] == ["ndcg@10", "mrr@10", "map"]
    assert list(answers.names) == ["d01", "d11"]
    assert answers.agreement.tolist() == [1, 0]  # top 2 of 3 is the same pair; top 1 of 2 is not
    assert answers.confidence is None
    np.testing.assert_array_equal(answers.shown, sigmoid(outputs.values))


def test_queries_without_a_relevant_document_count_for_training_only():
    test, train = _split([0, 0], [1, 0]), _split([0, 0], [1, 0], purpose=Purpose.TRAIN)
    assert (len(test.units.texts), test.left_out, len(test.inputs)) == (1, 1, 2)
    assert (len(train.groups), len(train.inputs)) == (2, 4)
    outputs = _outputs(1, 0, 1, 0)
    assert train.answers(outputs, outputs).measures[0].value == 1  # the list that says nothing weighs nothing
    with pytest.raises(InputError, match="no document is relevant"):
        _split([0, 0], [0])


def test_long_lists_are_trained_on_in_pieces():
    split = _split([1] + [0] * 39, [1, 0])
    assert np.diff(split.groups.offsets).tolist() == [16, 16, 8, 2]
    assert split.groups.inputs.tolist() == list(range(42))


def test_a_pair_that_occurs_twice_is_one_input_with_its_highest_grade():
    candidates = Candidates("t", ["q", "q"], [("a", "a"), ("a", "b")], [np.array([0, 1.0]), np.array([0, 2.0])], [], "")
    split = split_from_candidates(candidates, Purpose.TEST, "sigmoid")
    assert split.inputs == (Pair("q", "a"), Pair("q", "b"))
    assert split.relevance.tolist() == [1, 2]
    assert [one.tolist() for one in split.lists] == [[0, 0], [0, 1]]
    outputs = _outputs(1, 2)
    assert split.answers(outputs, outputs).measures[0].value == 1


def test_pairs_are_judged_one_by_one():
    split = _split([1], [0], [2], [0])
    assert isinstance(split, PairSplit)
    assert (split.units.word, split.units.truth[:2]) == ("pair", ["relevant", "irrelevant"])
    assert split.units.texts[0] == "q0 | d00"
    answers = split.answers(_outputs(3, -1, -2, 0), _outputs(1, 1, -1, 1))
    accuracy, auc = answers.measures
    assert (accuracy.name, accuracy.gains.tolist()) == ("accuracy", [1, 1, 0, 0])
    assert (auc.name, auc.gains.tolist(), auc.weights.tolist()) == ("auc", [1, 0, 0, 0], [1, 0, 1, 0])
    assert not auc.gates
    assert list(answers.names) == ["relevant", "irrelevant", "irrelevant", "relevant"]
    assert answers.agreement.tolist() == [1, 0, 1, 1]
    np.testing.assert_allclose(answers.confidence, 1 / (1 + np.exp(-np.array([3, 1, 2, 0]))), rtol=1e-6)
    assert PairSplit.agreement_means != RankSplit.agreement_means


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=30))
def test_auc_is_the_share_of_pairs_in_the_right_order(rows):
    split = _split(*([float(relevant)] for relevant, _ in rows))
    auc = split.answers(_outputs(*(logit for _, logit in rows)), _outputs(*(0 for _ in rows))).measures[1]
    positives, negatives = ([logit for relevant, logit in rows if relevant is kind] for kind in (True, False))
    wins = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    assert auc.value == pytest.approx(np.mean(wins) if wins else 1.0)
    assert (auc.gains <= auc.weights).all()


def test_distance_is_in_variances_of_the_teachers_logits():
    split = _split([0, 1], [1, 0])
    teacher = _outputs(1, 2, 3, 4)
    assert split.distance(teacher, teacher) == 0
    assert split.distance(_outputs(2, 3, 4, 5), teacher) == pytest.approx(1 / 1.25)
    assert split.distance(_outputs(20, 30, 40, 50), _outputs(10, 20, 30, 40)) == pytest.approx(1 / 1.25)
    assert split.distance(_outputs(1, 1, 1, 1), _outputs(0, 0, 0, 0)) == 1  # a teacher that says nothing


def test_a_task_reads_files(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text('{"query": "q", "documents": ["a", "b"], "relevance": [1, 0]}\n')
    split = Rank("identity").read(path, Purpose.TEST)
    assert split.inputs == (Pair("q", "a"), Pair("q", "b"))
    assert split.activation == "identity"


def test_a_sigmoid_does_not_overflow():
    found = sigmoid(np.array([-1e30, -100, 0, 100, 1e30], np.float32))
    assert found.tolist() == [0, 0, 0.5, 1, 1]
