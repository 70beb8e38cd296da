"""`octavo inspect`, on a release that a plan was built of, and where it cannot be."""

import sys

import pytest

from octavo.engines.plan_layers import Kind, PlanLayer, PlanStructure
from octavo.export.blockers import Blocker
from octavo.export.fp16 import Overflow
from octavo.store import plans
from octavo.store.plans import BuiltPlan, capability_from_target

GEMM = PlanLayer("node_matmul_myl0_2", Kind.GEMM, 0, ("Int8",), ("Int8",), ("Float",), ("node_matmul",))
MHA = PlanLayer("_gemm_mha_v2_myl0_5", Kind.ATTENTION, 0, ("Half",), (), ("Int8",), ("node_softmax",))


def plan(blocked=(), overflow=(), refused=""):
    structure = PlanStructure([] if refused else [GEMM, MHA], 1, 4, 1, ["head.output.weight"], list(blocked))
    return BuiltPlan("sm75", "tensorrt-rtx 1.7.1", b"", structure, list(overflow), refused)


@pytest.fixture
def built(monkeypatch):
    """Let plans be what a test says, and note what was asked for."""
    asked = []

    def answer(what):
        def build(release, target, **options):
            asked.append(target)
            return what

        monkeypatch.setattr(plans, "build_release_plan", build)
        return asked

    return answer


def test_a_verified_structure(octavo, store, built):
    asked = built(plan())
    ran = octavo("inspect", store / "intents", "--target", "sm75")
    assert (ran.code, asked) == (0, ["sm75"])
    assert "structure verified for sm75, by tensorrt-rtx 1.7.1; nothing was run on a GPU" in ran.out
    for words in ("node_matmul_myl0_2", "INT8 GEMMs      4", "fused MHA       1", "float GEMMs     head.output.weight"):
        assert words in ran.out


def test_json_has_the_names_that_scripts_rely_on(octavo, store, built):
    built(plan())
    document = octavo("inspect", store / "intents", "--json").document
    assert {"layers", "int8_gemms", "fused_mha", "float_gemms", "blocked"} <= document.keys()
    assert (document["int8_gemms"], document["fused_mha"], document["blocked"]) == (4, 1, [])
    assert document["layers"][0]["inputs"] == ["Int8"]
    assert document["label"] == "structure verified"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (plan(blocked=[Blocker("n0", "node_matmul", "it computes a scale")]), "n0 blocks node_matmul: it computes a"),
        (
            plan(overflow=[Overflow("add_1", "ffn2.bias", 3, 70_000.0)]),
            "channel 3 of add_1 (after ffn2.bias) reaches 70,",
        ),
        (plan(refused="it does not take the graph"), "it does not take the graph"),
    ],
    ids=["blocked", "overflow", "refused"],
)
def test_whatever_is_wrong_is_said_and_ends_with_1(octavo, store, built, what, words):
    built(what)
    ran = octavo("inspect", store / "intents")
    assert ran.code == 1
    assert words in ran.out
    assert "structure verified" not in ran.out
    assert octavo("inspect", store / "intents", "--json").document["label"] == "blocked"


def test_a_missing_package_says_how_to_install_it(octavo, store, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    ran = octavo("inspect", store / "intents")
    assert ran.code == 2
    assert "pip install 'octavo[tensorrt-rtx]'" in ran.err


@pytest.mark.parametrize("target", ["t4", "sm", "75", "sm7500", "sm75; rm"])
def test_a_target_that_is_none(octavo, store, target):
    ran = octavo("inspect", store / "intents", "--target", target)
    assert ran.code == 2
    assert "sm75 for a T4" in ran.err


@pytest.mark.parametrize(("target", "capability"), [("sm75", 75), ("SM80", 80), ("sm_120", 120)])
def test_targets(target, capability):
    assert capability_from_target(target) == capability


def test_build_for_a_gpu_that_is_elsewhere_shows_the_same(octavo, store, built):
    asked = built(plan())
    ran = octavo("build", store / "intents", "--engine", "tensorrt", "--target", "sm80")
    assert (ran.code, asked) == (0, ["sm80"])
    assert "structure verified for sm75, by tensorrt-rtx 1.7.1; nothing was run on a GPU" in ran.out


def test_a_target_is_tensorrt_s(octavo, store, built):
    asked = built(plan())
    ran = octavo("build", store / "intents", "--target", "sm75")
    assert (ran.code, asked) == (2, [])
    assert "--engine tensorrt" in ran.err
