import gzip

import pytest

import octavo
from octavo.certify.certificate import read_certificate
from octavo.engines import select
from octavo.engines.guard import Layout
from octavo.engines.open import Backend
from octavo.engines.plan import kept_file, read_plan
from octavo.engines.select import Candidate
from octavo.errors import EngineError, InputError, ReleaseError
from octavo.ladder import planning
from octavo.ladder.planning import plan_engine
from octavo.progress import Silent
from octavo.store.release import open_release, verify_release
from octavo.types import Verdict

pytestmark = pytest.mark.usefixtures("own_cache")


def test_every_engine_that_runs_the_release_is_measured(publish_tiny):
    folder = publish_tiny()
    made = plan_engine(folder, budget_s=0.1, threads=1, batch_sizes=(2, 1, 2))
    plan = made.plan
    measured = {one.name: one for one in plan.measured}
    names = [
        "openvino bucketed",
        "openvino packed",
        "openvino padded",
        "onnxruntime bucketed",
        "openvino bucketed fp32",
    ]
    assert set(names) <= set(measured)
    for name in names:
        assert list(measured[name].ms_per_query) == [1, 2]
        assert all(spread.median > 0 for spread in measured[name].ms_per_query.values())
    assert measured["openvino bucketed fp32"].times_fp32[1].median == 1
    assert plan.chosen in plan.measured
    assert plan.threads == 1
    assert plan.traffic.trace is None
    assert plan.traffic.queries == 6
    assert read_plan(open_release(folder).sha256) == plan


def test_an_engine_that_cannot_run_it_is_listed_with_its_reason(publish_tiny, monkeypatch):
    load = planning.load

    def loading(folder, *, backend, **options):
        if backend in (Backend.NATIVE, Backend.ONNXRUNTIME):
            raise EngineError(f"{backend} knows no such graph.")
        return load(folder, backend=backend, **options)

    monkeypatch.setattr(planning, "load", loading)
    made = plan_engine(publish_tiny(), budget_s=0.1, threads=1)
    reasons = {one.name: one.reason for one in made.plan.measured if one.reason}
    assert reasons == {
        "native": "native knows no such graph.",
        "onnxruntime bucketed": "onnxruntime knows no such graph.",
    }
    assert made.plan.backend is Backend.OPENVINO


def test_an_engine_that_answers_otherwise_is_not_chosen(publish_tiny, monkeypatch):
    from octavo.engines.onnxruntime import OnnxRuntimeEngine

    run = OnnxRuntimeEngine.run
    monkeypatch.setattr(OnnxRuntimeEngine, "run", lambda self, batch: run(self, batch) + 50)
    made = plan_engine(publish_tiny(), budget_s=0.1, threads=1)
    (reason,) = [one.reason for one in made.plan.measured if one.backend is Backend.ONNXRUNTIME]
    assert "answers differently" in reason


def test_where_nothing_runs_it_all_reasons_are_told(publish_tiny, monkeypatch):
    def broken(_folder, *, backend, **_options):
        raise EngineError(f"There is no {backend}.")

    folder = publish_tiny()
    monkeypatch.setattr(planning, "load", broken)
    with pytest.raises(EngineError) as raised:
        plan_engine(folder, budget_s=0.1)
    for backend in ("openvino", "onnxruntime", "native"):
        assert f"There is no {backend}." in str(raised.value)
    assert read_plan(open_release(folder).sha256) is None


def test_a_layout_of_the_certified_engine_serves_at_once(publish_tiny, fastest):
    folder = publish_tiny()
    fastest(Backend.OPENVINO, Layout.PADDED)
    made = plan_engine(folder, threads=1)
    assert (made.plan.layout, made.blocked, made.certificate) == (Layout.PADDED, "", None)
    assert made.plan.int8_pays
    with octavo.load(folder) as model:
        assert model.engine._layout is Layout.PADDED


def test_another_engine_serves_once_rows_have_settled_it(publish_tiny, tiny_rows, fastest):
    folder = publish_tiny()
    fastest(Backend.ONNXRUNTIME)
    made = plan_engine(folder, threads=1)
    assert "certified on openvino, and not on onnxruntime" in made.blocked
    assert made.certified is Backend.OPENVINO
    assert made.rows_may_settle
    with octavo.load(folder) as model:
        assert model.backend is Backend.OPENVINO
    settled = plan_engine(folder, threads=1, test=tiny_rows, timing_s=0.1)
    assert settled.blocked == ""
    assert settled.certificate.verdict is Verdict.PASS
    assert settled.certificate.engine_id.startswith("onnxruntime-")
    with octavo.load(folder) as model:
        assert model.backend is Backend.ONNXRUNTIME
        assert model.certificate == settled.certificate
    assert plan_engine(folder, threads=1).blocked == "", "what was settled stays so"
    assert verify_release(folder) == []


def test_a_verdict_that_is_no_pass_changes_nothing(publish_tiny, tiny_rows, fastest):
    folder = publish_tiny(margin=0.01)
    fastest(Backend.ONNXRUNTIME)
    made = plan_engine(folder, threads=1, test=tiny_rows, timing_s=0.1)
    assert made.certificate.verdict is not Verdict.PASS
    assert made.certificate.reason in made.blocked
    assert not made.rows_may_settle
    kept = kept_file(open_release(folder).sha256, "onnxruntime.certificate")
    assert read_certificate(kept.read_bytes(), "kept") == made.certificate
    with octavo.load(folder) as model:
        assert model.backend is Backend.OPENVINO


def test_rows_are_not_needed_where_the_release_s_certificate_covers_the_choice(publish_tiny, tiny_rows, fastest):
    fastest(Backend.OPENVINO, Layout.PACKED)
    made = plan_engine(publish_tiny(), threads=1, test=tiny_rows)
    assert (made.certificate, made.blocked) == (None, "")


def test_int8_that_does_not_pay(publish_tiny, fastest):
    fastest(Backend.OPENVINO, fp32_ms=0.9)
    assert plan_engine(publish_tiny(), threads=1).plan.int8_pays is False


def test_without_a_reference_nothing_is_said_of_fp32(publish_tiny, fastest):
    fastest(Backend.OPENVINO)
    made = plan_engine(publish_tiny(reference=False), threads=1)
    assert made.plan.int8_pays is None
    assert made.plan.chosen.times_fp32 == {}
    assert [one.reason for one in made.plan.measured if one.precision == "fp32"] == [
        next(one.reason for one in made.plan.measured if "names no teacher" in one.reason)
    ]


def test_a_release_that_did_not_pass_serves_nowhere(publish_tiny, fastest):
    fastest(Backend.OPENVINO)
    made = plan_engine(publish_tiny(lost=900, margin=0.01), threads=1)
    assert "'fail'" in made.blocked
    assert not made.rows_may_settle


def test_an_fp32_release_is_planned_as_well(publish_tiny, fastest):
    fastest(Backend.OPENVINO)
    made = plan_engine(publish_tiny() / "1", threads=1)
    assert {one.precision for one in made.plan.measured} == {"fp32"}
    assert made.plan.int8_pays is None
    assert made.blocked == ""


@pytest.mark.parametrize("name", ["queries.txt", "queries.txt.gz", "queries.jsonl"])
def test_a_trace_is_measured_with_its_lengths(publish_tiny, tmp_path, name):
    texts = ["book", "play some music", "", "what is the weather"]
    content = "\n".join(f'{{"text": "{text}"}}' if "jsonl" in name else text for text in texts).encode()
    file = tmp_path / name
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    traffic = plan_engine(publish_tiny(), trace=file, budget_s=0.1, threads=1).plan.traffic
    assert (traffic.trace, traffic.queries) == (str(file), 3)
    assert traffic.mean_tokens < traffic.most_tokens <= 16


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "\n\n", "there is no query"),
        ("trace.csv", "a,b", "a query log is"),
        ("bad.jsonl", '{"text": "fine"}\n{"texts": "no"}\n', r"bad\.jsonl:2"),
    ],
)
def test_a_trace_that_cannot_be_used(publish_tiny, tmp_path, name, content, message):
    folder = publish_tiny()
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(InputError, match=message):
        plan_engine(folder, trace=tmp_path / name, budget_s=0.1)
    assert read_plan(open_release(folder).sha256) is None


def test_rows_that_cannot_be_used_are_refused_before_the_measuring(publish_tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "measure", lambda *_args, **_options: pytest.fail("measured first"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "book it", "label": "bookings"}\n', "utf-8")
    with pytest.raises(InputError, match=r"rows\.jsonl:1.*bookings"):
        plan_engine(publish_tiny(), test=rows)


def test_an_altered_release_is_not_measured(publish_tiny):
    folder = publish_tiny()
    (folder / "2/golden.json").write_bytes(b"{}")
    with pytest.raises(ReleaseError, match="cannot be trusted"):
        plan_engine(folder, budget_s=0.1)


def test_an_interruption_keeps_no_plan(publish_tiny, monkeypatch, own_cache):
    class Interrupting(Silent):
        def step(self, label, total=None):
            if label == "measure engines":
                raise KeyboardInterrupt
            return super().step(label, total)

    folder = publish_tiny()
    with pytest.raises(KeyboardInterrupt):
        plan_engine(folder, budget_s=0.1, threads=1, progress=Interrupting())
    assert not [*own_cache.glob("*.json")]


def test_the_reference_is_never_among_the_candidates():
    assert not any(one.is_reference for one in select.candidates("int8", {}))
    assert Candidate(Backend.OPENVINO, is_reference=True) != Candidate(Backend.OPENVINO)
