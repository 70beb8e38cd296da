"""Reading TensorRT's layer list: lines as TensorRT-RTX 1.7 wrote them, shortened."""

import pytest

from octavo.engines.plan_layers import Kind, layers_from_log
from octavo.errors import EngineError

GEMM = (
    "Name: node_matmul_myl0_2, LayerType: gemm, Inputs: [ { Name: a, Dimensions: [-1,384], Datatype: Int8, Format: "
    "(Linear) Row major linear format }], Constants: [ { Name: w, Dimensions: [384,1152], Datatype: Int8 }, { Name: "
    "alpha, Datatype: Float }], Outputs: [ { Name: b, Datatype: Float }], TacticName: __myelin_CASK_STUB, StreamId: 0, "
    "Metadata: [ONNX Layer: node_matmul][ONNX Layer: node__symbolic]"
)
ATTENTION = (
    "Name: _gemm_mha_v2_myl1_5, LayerType: kgen, Inputs: [ { Name: q, Datatype: Half }, { Name: mask, Datatype: Half "
    "}], Constants: [], Outputs: [ { Name: c, Datatype: Int8 }], TacticName: _gemm_mha_v2_0x01, StreamId: 0, Metadata: "
    "[ONNX Layer: node_matmul_2][ONNX Layer: node_softmax]"
)
HEAD = (
    "Name: __myl_FcAddTanh_myl0_28, LayerType: runtime_fusion, Inputs: [ { Name: h, Datatype: Half }], Constants: [ { "
    "Name: head, Datatype: Half }], Outputs: [ { Name: t, Datatype: Half }], TacticName: , StreamId: 0, Metadata: "
    "[ONNX Layer: node_linear]"
)
WAIT = (
    "Name: e, LayerType: wait, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, EventId: 2, "
    "Metadata: "
)
LOG = [
    "Building.",
    "Name: not yet",
    "Layers:",
    GEMM,
    ATTENTION,
    HEAD,
    WAIT,
    "",
    "I/O Tensors:",
    "Name: x, LayerType: no",
]


def test_layers_are_read_with_their_types():
    gemm, attention, head, wait = layers_from_log(LOG)
    assert (gemm.kind, gemm.is_int8, gemm.profile) == (Kind.GEMM, True, 0)
    assert gemm.inputs == ("Int8",)
    assert gemm.constants == ("Int8", "Float")
    assert gemm.outputs == ("Float",)
    assert gemm.nodes == ("node_matmul", "node__symbolic")
    assert (attention.kind, attention.profile, attention.outputs) == (Kind.ATTENTION, 1, ("Int8",))
    assert attention.nodes == ("node_matmul_2", "node_softmax")
    assert (head.kind, head.is_int8) == (Kind.GEMM, False)
    assert (wait.kind, wait.inputs, wait.nodes) == (Kind.OTHER, (), ())


@pytest.mark.parametrize("log", [[], ["Layers:"], ["Layers:", "", "I/O Tensors:", GEMM], [GEMM]], ids=range(4))
def test_a_log_without_the_list_is_refused(log):
    with pytest.raises(EngineError, match="no list of layers"):
        layers_from_log(log)


def test_a_list_in_another_form_is_refused():
    with pytest.raises(EngineError, match="cannot be read: 'Name: something else'"):
        layers_from_log(["Layers:", "Name: something else"])
