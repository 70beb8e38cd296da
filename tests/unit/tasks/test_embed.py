import json
from dataclasses import replace

import numpy as np
import pytest

from octavo.data.retrieval import Retrieval
from octavo.errors import InputError, ModelError
from octavo.tasks.base import FolderFacts, Head, Purpose, Reads
from octavo.tasks.embed import Document, Embed, Embedding
from octavo.tasks.embed_split import NDCG_ACROSS, EmbedSplit
from octavo.types import Outputs

PROMPTS = (("query", "query: "), ("document", "passage: "))
TASK = Embed(Reads.FIRST, normalize=False, prompts=PROMPTS, similarity="dot", dimensions=32)
MODULES = [
    {
        "idx": i,
        "name": str(i),
        "path": path,
        "type": f"sentence_transformers.models.{path.rpartition('_')[2] or 'Transformer'}",
    }
    for i, path in enumerate(["", "1_Pooling", "2_Normalize"])
]


def _facts(*, modules=MODULES, pooling=None, settings=None, **files):
    pooling = {"pooling_mode": "mean"} if pooling is None else pooling
    return FolderFacts(
        {"model_type": "bert", "hidden_size": 32},
        {
            "modules.json": modules,
            "1_Pooling/config.json": pooling,
            "config_sentence_transformers.json": {} if settings is None else settings,
            **files,
        },
        "my-model",
    )


# What a folder says.


def test_a_plain_encoder_is_no_embedder_by_itself_but_can_be_one():
    facts = FolderFacts({"model_type": "distilbert", "dim": 16})
    assert not Embed.claims(facts)
    assert Embed.from_folder(facts) == Embed(Reads.MEAN, normalize=True, dimensions=16)


def test_what_is_no_embedder_is_not_claimed():
    assert Embed.claims(_facts())
    assert not Embed.claims(_facts(settings={"model_type": "CrossEncoder"}))
    assert not Embed.claims(_facts(settings={"model_type": "SparseEncoder"}))
    splade = [MODULES[0], {"idx": 1, "path": "1", "type": "sentence_transformers.sparse_encoder.models.SpladePooling"}]
    assert not Embed.claims(_facts(modules=splade))
    for broken in ({}, "x", [1, None, {"type": 3}]):
        assert not Embed.claims(_facts(modules=broken))


@pytest.mark.parametrize(
    ("pooling", "reads"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, Reads.FIRST),
        ({"pooling_mode_lasttoken": True}, Reads.LAST),
        ({"word_embedding_dimension": 32}, Reads.MEAN),
        ({"pooling_mode": ["cls"]}, Reads.FIRST),
    ],
)
def test_poolings_have_several_spellings(pooling, reads):
    assert Embed.from_folder(_facts(pooling=pooling)).pooling is reads


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pooling": {"pooling_mode": "max"}}, "'max' is not supported"),
        ({"pooling": {"pooling_mode": [["mean"]]}}, "not supported"),
        ({"pooling": {"pooling_mode_weightedmean_tokens": True}}, "'weightedmean'"),
        ({"pooling": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}}, r"'cls \+ mean'"),
        ({"pooling": {"pooling_mode": "mean", "include_prompt": False}}, "include_prompt"),
        ({"pooling": []}, r"no 1_Pooling/config\.json"),
        ({"modules": [*MODULES[:2], {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]}, "Dense"),
        ({"modules": MODULES[1:]}, "modules are Pooling, Normalize"),
        ({"settings": {"similarity_fn_name": "euclidean"}}, "'euclidean'"),
        ({"settings": {"similarity_fn_name": ["dot"]}}, "similarity"),
        ({"settings": {"prompts": {"query": 3}}}, "prompts must be texts"),
        ({"settings": {"default_prompt_name": "query"}}, "default_prompt_name"),
        ({"settings": {"prompts": {}, "default_prompt_name": ["query"]}}, "default_prompt_name"),
        ({"sentence_bert_config.json": {"do_lower_case": True}}, "do_lower_case"),
    ],
)
def test_what_octavo_does_not_do_is_refused_by_name(changes, words):
    with pytest.raises(ModelError, match=f"my-model.*{words}"):
        Embed.from_folder(_facts(**changes))


def test_a_tokenizer_that_lower_cases_needs_no_other_casing():
    files = {"sentence_bert_config.json": {"do_lower_case": True}, "tokenizer_config.json": {"do_lower_case": True}}
    assert Embed.from_folder(_facts(**files)).pooling is Reads.MEAN


@pytest.mark.parametrize(
    ("settings", "prompts"),
    [
        ({"prompts": {"query": "q: ", "passage": "p: "}}, {"query": "q: ", "document": "p: "}),
        ({"prompts": {"query": "q: ", "document": "", "corpus": "c: "}}, {"query": "q: ", "document": "c: "}),
        ({"prompts": {"query": "q: ", "sts": "s: "}, "default_prompt_name": "sts"}, {"query": "q: "}),
        ({"prompts": {"sts": "s: "}, "default_prompt_name": "sts"}, {"query": "s: ", "document": "s: "}),
        ({"prompts": None}, {}),
    ],
)
def test_prompts_are_those_of_queries_and_documents(settings, prompts):
    assert dict(Embed.from_folder(_facts(settings=settings)).prompts) == prompts


@pytest.mark.parametrize("size", [None, 0, True, "32", 3.0])
def test_an_encoder_without_a_width_is_refused(size):
    with pytest.raises(ModelError, match="hidden_size"):
        Embed.from_folder(FolderFacts({"hidden_size": size}))


# What is written down.


def test_settings_are_read_back():
    for task in (TASK, Embed(), replace(TASK, prompts=())):
        assert Embed.from_settings(json.loads(json.dumps(task.settings()))) == task


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "words"},
        {"pooling": ["mean"]},
        {"normalize": 1},
        {"prompts": {"passage": "x"}},
        {"prompts": []},
        {"similarity": "l2"},
        {"dimensions": "32"},
    ],
)
def test_unfit_settings_are_refused(changes):
    with pytest.raises(ModelError, match="embed"):
        Embed.from_settings(TASK.settings() | changes)
    with pytest.raises(ModelError):
        Embed.from_settings({})


def test_a_task_that_cannot_be_is_refused(tmp_path):
    for changes in ({"pooling": Reads.WORDS}, {"similarity": "l2"}, {"prompts": (("passage", "x"),)}):
        with pytest.raises(ModelError):
            replace(TASK, **changes)
    with pytest.raises(ModelError, match="dimensions"):
        Embed.from_rows(tmp_path).folder_facts()


def test_the_head_has_no_output_layer():
    assert TASK.head == Head(Reads.FIRST)
    assert Embed().head == Head(Reads.MEAN, normalize=True)


# Items, logs and answers.


def test_items_are_queries_and_documents():
    assert TASK.prepare(["a", Document("b"), {"document": "c"}, {"text": "d"}]) == [
        "query: a",
        "passage: b",
        "passage: c",
        "query: d",
    ]
    assert TASK.item_from_line("hello") == "hello"
    assert TASK.item_from_line('{"document": "b"}') == Document("b")
    assert TASK.item_from_line('{"query": "\\ud83d"}') == "\ufffd"
    for line in ("{", '{"query": "a", "document": "b"}', "{}", '{"query": 3}'):
        with pytest.raises(InputError):
            TASK.item_from_line(line)
    for item in (3, None, Document(3), {"query": "a", "document": "b"}):
        with pytest.raises(InputError):
            TASK.prepare([item])


def test_a_log_holds_queries_documents_or_both():
    assert TASK.inputs_from_log(" a ", "log:1") == ["query: a"]
    assert TASK.inputs_from_log("", "log:1") == []
    assert TASK.inputs_from_log({"text": "a"}, "log:1") == ["query: a"]
    assert TASK.inputs_from_log({"document": "b"}, "log:1") == ["passage: b"]
    assert TASK.inputs_from_log({"query": "a", "document": "b"}, "log:1") == ["query: a", "passage: b"]
    with pytest.raises(InputError, match=r"log:1: .*title"):
        TASK.inputs_from_log({"title": "a"}, "log:1")
    with pytest.raises(InputError, match="log:1"):
        TASK.inputs_from_log({"query": 3}, "log:1")


def test_an_embedding_says_itself_in_a_line():
    answers = TASK.decode(Outputs.one_each(np.array([[0.5, 1.0], [0, 0.25]], np.float32)), ["a", "b"])
    assert answers == [Embedding([0.5, 1.0]), Embedding([0.0, 0.25])]
    assert answers[0].line() == "[0.5000, 1.0000] (2 numbers)"
    assert Embedding([0.0] * 384).line() == "[0.0000, 0.0000, 0.0000, 0.0000, …] (384 numbers)"


# Splits.


def _data(documents=6):
    return Retrieval(
        name="test",
        query_ids=["0", "1"],
        queries=["qa", "qb"],
        document_ids=[f"d{i}" for i in range(documents)],
        documents=[f"document {i}" for i in range(documents)],
        relevance=[{0: 1.0, 1: 2.0}, {2: 1.0}],
        negatives=[(3, 4, 2), ()],
        sources=["f:1", "f:2"],
        sha256="ab",
    )


def _split(data=None, purpose=Purpose.TEST, prompts=("", ""), similarity="cosine"):
    return EmbedSplit.from_retrieval(data or _data(), purpose, prompts, similarity)


def _texts(split, numbers):
    return [split.inputs[i] for i in numbers]


def test_a_task_reads_files(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text('{"query": "a", "document": "b"}\n')
    split = TASK.read(path, Purpose.TEST)
    assert list(split.inputs) == ["query: a", "passage: b"]
    assert (split.similarity, split.units.word, split.units.truth) == ("dot", "query", ["b"])


def test_training_reads_judged_documents_and_a_test_the_corpus():
    corpus = _data(documents=3000)
    train, dev, test = (_split(corpus, purpose) for purpose in (Purpose.TRAIN, Purpose.DEV, Purpose.TEST))
    assert _texts(train, train.documents) == [f"document {i}" for i in range(5)]
    assert len(dev.documents) == 5 + 1000
    assert set(_texts(train, train.documents)) < set(_texts(dev, dev.documents))
    assert len(test.documents) == 3000
    # The choice hangs on ids, not on the place in the file.
    turned = replace(
        corpus,
        document_ids=corpus.document_ids[:5] + corpus.document_ids[:4:-1],
        documents=corpus.documents[:5] + corpus.documents[:4:-1],
    )
    assert set(_split(turned, Purpose.DEV).inputs) == set(dev.inputs)


def test_groups_are_a_query_a_document_and_its_share_of_negatives():
    split = _split()
    groups = [
        _texts(split, split.groups.inputs[a:b])
        for a, b in zip(split.groups.offsets[:-1], split.groups.offsets[1:], strict=True)
    ]
    assert groups == [
        ["qa", "document 0", "document 3", "document 2"],
        ["qa", "document 1", "document 4"],
        ["qb", "document 2"],
    ]


def test_equal_texts_are_one_input():
    split = _split(replace(_data(), documents=["x", "x", "y", "z", "z", "qa"]))
    assert list(split.inputs) == ["qa", "qb", "x", "y", "z"]
    assert split.documents.tolist() == [2, 2, 3, 4, 4, 0]
    prompted = _split(_data(), prompts=("q: ", "d: "))
    assert prompted.inputs[0] == "q: qa"
    assert prompted.inputs[2] == "d: document 0"
    assert prompted.units.texts == ["qa", "qb"]  # people read texts without prompts


def _outputs(split, by_text):
    return Outputs.one_each(np.array([by_text[text] for text in split.inputs], np.float32))


AXES = {"qa": [1, 0], "qb": [0, 1], **{f"document {i}": [np.cos(i / 4), np.sin(i / 4)] for i in range(6)}}


def test_answers_are_rankings_of_the_corpus():
    split = _split()
    teacher = _outputs(split, AXES)
    answers = split.answers(teacher, teacher)
    values = {measure.name: measure.gains.tolist() for measure in answers.measures}
    # qa finds 0 and 1 (grades 1 and 2) first and second; qb finds 5, 4 and 3 before 2.
    first = (1 + 2 / np.log2(3)) / (2 + 1 / np.log2(3))
    assert values["ndcg@10"] == pytest.approx([first, 1 / np.log2(5)], abs=1e-6)
    assert values["mrr@10"] == [1.0, 0.25]
    assert values["recall@10"] == [1.0, 1.0]
    assert [measure.gates for measure in answers.measures] == [False, True, False, False]
    assert values[NDCG_ACROSS] == values["ndcg@10"]
    assert list(answers.names) == ["document 0", "document 5"]
    assert answers.agreement.tolist() == [1.0, 1.0]
    assert answers.confidence is None
    np.testing.assert_array_equal(answers.shown, teacher.values)


def test_an_engine_that_turned_its_space_fails_against_the_teachers_documents():
    split = _split()
    teacher = _outputs(split, AXES)
    turned = Outputs.one_each(-teacher.values)
    answers = split.answers(turned, teacher)
    ndcg, across = answers.measures[:2]
    assert ndcg.value == split.answers(teacher, teacher).measures[0].value
    assert across.value < ndcg.value


def test_agreement_is_the_share_of_the_teachers_top_10():
    data = _data(documents=30)
    split = _split(data)
    rng = np.random.default_rng(0)
    one, other = (Outputs.one_each(rng.normal(size=(len(split.inputs), 8)).astype(np.float32)) for _ in range(2))
    agreement = split.answers(one, other).agreement
    assert ((agreement * 10) % 1 < 1e-5).all() or ((agreement * 10) % 1 > 1 - 1e-5).all()
    assert (agreement < 1).all()
    assert (split.answers(one, one).agreement == 1).all()


def test_lengths_count_for_dot_products_only():
    longer = {text: [10 * x for x in vector] if text == "document 4" else vector for text, vector in AXES.items()}
    cosine, dot = _split(similarity="cosine"), _split(similarity="dot")
    assert cosine.answers(_outputs(cosine, longer), _outputs(cosine, AXES)).names[0] == "document 0"
    assert dot.answers(_outputs(dot, longer), _outputs(dot, AXES)).names[0] == "document 4"
    assert cosine.distance(_outputs(cosine, longer), _outputs(cosine, AXES)) == pytest.approx(0, abs=1e-6)
    assert dot.distance(_outputs(dot, longer), _outputs(dot, AXES)) > 1


def test_distance_is_1_minus_the_cosine():
    split = _split()
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, len(split.inputs), 8)).astype(np.float32)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    found = split.distance(Outputs.one_each(a), Outputs.one_each(b))
    assert found == pytest.approx(float((1 - cosines).mean()), rel=1e-5)
    assert split.distance(Outputs.one_each(a), Outputs.one_each(a)) == 0
    zero = Outputs.one_each(np.zeros_like(a))
    assert np.isfinite(split.distance(zero, zero))
    assert split.answers(zero, zero).measures[0].value > 0  # by position, and no division by 0
