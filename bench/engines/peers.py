"""Everything that can run an encoder, each with the best settings that it has: a function of a few lines.

A peer takes a model, a number of threads and of lanes, and returns a contender; what it cannot do here it says by an
exception, which becomes a row with a reason. Converted models are kept beside the subject for the next cell. All are
given tokens by the same tokenizer, and what they take as input is made before the clock runs.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.engines.models import Subject
from octavo.engines.hardware import this_hardware
from octavo.engines.open import Backend, open_engine
from octavo.errors import EngineError
from octavo.text.batch import TokenBatch
from octavo.text.buckets import shape_of
from octavo.text.layout import INPUT_NAMES, layout_from_batch
from octavo.types import FloatArray

Run = Callable[[Any], FloatArray]
_PREPARED_SHAPES = 10_000  # of OpenVINO: room for every shape of a trace
_ISA_VARIABLE = "OCTAVO_ISA"
_INPUTS = ("input_ids", "attention_mask")


@dataclass(frozen=True, slots=True)
class Threads:
    """CPU threads: `lanes` calls side by side, on `each` of them."""

    each: int
    lanes: int = 1

    @property
    def total(self) -> int:
        """Threads of all lanes."""
        return self.each * self.lanes


@dataclass(frozen=True, slots=True)
class Contender:
    """A model that is ready to run.

    Attributes:
        engine_id: what it is, versions included.
        prepare: a batch in the form that `lanes` take.
        lanes: functions from prepared batches to logits, which may run side by side.
        shape: what kernels are prepared for, where it comes again in traffic; each is run once before anything is
            timed. None where nothing is prepared, or shapes do not come again.
        run_texts: texts and the size of batches, for a peer that takes nothing else and has another head.
    """

    engine_id: str
    prepare: Callable[[TokenBatch], Any]
    lanes: Sequence[Run] = ()
    shape: Callable[[TokenBatch], Hashable] = lambda _batch: None
    run_texts: Callable[[Sequence[str], int], object] | None = None


Peer = Callable[[Subject, Threads], Contender]


def torch_fp32(subject: Subject, threads: Threads, *, compiled: bool = False) -> Contender:
    """`transformers` in PyTorch with fused attention, eager or compiled for any shape."""
    import torch

    torch.set_num_threads(threads.each)
    model = _hf_model(subject)
    if compiled:
        model = torch.compile(model, dynamic=True)

    def run(inputs: dict[str, Any]) -> FloatArray:
        with torch.inference_mode():
            return model(**inputs).logits.numpy()  # type: ignore[no-any-return]

    def prepare(batch: TokenBatch) -> dict[str, Any]:
        return {name: torch.from_numpy(array) for name, array in padded(batch).items()}

    name = f"torch-{torch.__version__}/fp32/{'compiled' if compiled else 'eager'}"
    return Contender(name, prepare, [run] * threads.lanes)


def openvino_float(subject: Subject, threads: Threads, *, precision: str) -> Contender:
    """The padded `transformers` model in OpenVINO, in f32 or bf16."""
    return _openvino(_openvino_model(subject), threads, precision)


def openvino_int8(subject: Subject, threads: Threads, *, precision: str = "f32") -> Contender:
    """The padded model after NNCF's post-training quantization with its preset for transformers."""
    import nncf

    def quantized() -> Any:
        batches = [padded(one) for one in subject.calibration().split(1)]
        return nncf.quantize(
            _openvino_model(subject),
            nncf.Dataset(batches),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(batches),
        )

    return _openvino(_kept(subject.folder.parent / "openvino-int8.xml", quantized), threads, precision)


def openvino_int8_dynamic(subject: Subject, threads: Threads) -> Contender:
    """The padded model with INT8 weights; OpenVINO quantizes activations in groups while it runs."""
    import nncf

    def compressed() -> Any:
        return nncf.compress_weights(_openvino_model(subject), mode=nncf.CompressWeightsMode.INT8_SYM)

    model = _kept(subject.folder.parent / "openvino-int8-weights.xml", compressed)
    return _openvino(model, threads, "f32", DYNAMIC_QUANTIZATION_GROUP_SIZE=128)


def openvino_packed(
    subject: Subject, threads: Threads, *, precision: str = "f32", is_bucketed: bool = True
) -> Contender:
    """Our canonical graph in OpenVINO: no padding but to the bucket, or to none, which makes every shape a new one."""
    import openvino

    core, positions = openvino.Core(), subject.config.positions
    model = core.read_model(subject.folder.parent / "int8.onnx")

    def prepare(batch: TokenBatch) -> dict[str, Any]:
        layout = layout_from_batch(batch, positions, shape_of(batch) if is_bucketed else None)
        return {name: getattr(layout, name) for name in INPUT_NAMES}

    made = _openvino(model, threads, precision)
    # Exact shapes of batches do not come twice in traffic, those of single queries do.
    exact: Callable[[TokenBatch], Hashable] = lambda batch: batch.tokens if len(batch) == 1 else None  # noqa: E731
    return Contender(f"{made.engine_id}/packed", prepare, made.lanes, shape_of if is_bucketed else exact)


def onnxruntime_float(subject: Subject, threads: Threads) -> Contender:
    """The padded model in ONNX Runtime, after its own optimizer for BERT."""
    return _onnxruntime(_optimized_onnx(subject), threads, padded)


def onnxruntime_dynamic(subject: Subject, threads: Threads) -> Contender:
    """The same graph with ONNX Runtime's dynamic quantization, weights per channel."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = subject.folder.parent / "onnxruntime-int8.onnx"
    if not target.is_file():
        # Its shape inference does not know the operators that the optimizer fused into.
        types = {"DefaultTensorType": onnx.TensorProto.FLOAT}
        source = _optimized_onnx(subject)
        quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8, extra_options=types)
    return _onnxruntime(target, threads, padded)


def onnxruntime_packed(subject: Subject, threads: Threads) -> Contender:
    """The u8 twin of our graph in ONNX Runtime, which prepares nothing per shape: no bucket."""

    def prepare(batch: TokenBatch) -> dict[str, Any]:
        layout = layout_from_batch(batch, subject.config.positions)
        return {name: getattr(layout, name) for name in INPUT_NAMES}

    return _onnxruntime(subject.folder.parent / "int8-u8.onnx", threads, prepare)


def ctranslate2_int8(subject: Subject, threads: Threads) -> Contender:
    """CTranslate2, which leaves padding out of its linear layers too; it stops at the pooler, the head is numpy's."""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter
    from safetensors.numpy import load_file

    folder = subject.folder.parent / "ctranslate2"
    if not folder.exists():
        TransformersConverter(str(subject.folder)).convert(str(folder), quantization="int8")
    encoder = ctranslate2.Encoder(
        str(folder), compute_type="int8", intra_threads=threads.each, inter_threads=threads.lanes
    )
    tensors = load_file(subject.folder / "model.safetensors")
    weight, bias = tensors["classifier.weight"], tensors["classifier.bias"]

    def run(sequences: list[list[int]]) -> FloatArray:
        pooled = np.array(encoder.forward_batch(sequences).pooler_output)  # (batch, hidden)
        return np.asarray(pooled @ weight.T + bias, np.float32)

    def prepare(batch: TokenBatch) -> list[list[int]]:
        return [ids.tolist() for ids in np.split(batch.ids, batch.offsets[1:-1])]

    return Contender(f"ctranslate2-{ctranslate2.__version__}/int8", prepare, [run] * threads.lanes)


def sentence_transformers_int8(subject: Subject, threads: Threads) -> Contender:
    """sentence-transformers on OpenVINO with static INT8: an embedder, so its head is the mean of tokens."""
    try:
        import optimum.intel.openvino  # noqa: F401 - says at once whether the backend is there
        import sentence_transformers
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Pooling, Transformer
    except ImportError as error:
        raise EngineError(
            "sentence-transformers[openvino] does not load here; its optimum-intel asks for transformers below 5.6 "
            f"({type(error).__name__}: {str(error).splitlines()[0][:90]})"
        ) from None
    if threads.lanes > 1:
        raise EngineError("its model runs one call at a time: see the cell with one lane")
    folder = subject.folder.parent / "sentence-transformers"
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads.each}
    if not folder.exists():
        encoder = Transformer(str(subject.folder), backend="openvino", model_kwargs={"export": True})
        model = SentenceTransformer(modules=[encoder, Pooling(subject.config.hidden_size)], backend="openvino")
        model.save_pretrained(str(folder))
        _quantize_as_sentence_transformers(subject, folder)
    model = SentenceTransformer(
        str(folder),
        backend="openvino",
        local_files_only=True,
        model_kwargs={"file_name": "openvino_model_qint8_quantized.xml", "ov_config": settings},
    )

    def run_texts(texts: Sequence[str], size: int) -> object:
        return model.encode(list(texts), batch_size=size, show_progress_bar=False)

    name = f"sentence-transformers-{sentence_transformers.__version__}/openvino-int8"
    return Contender(name, lambda batch: batch, run_texts=run_texts)


def native(subject: Subject, threads: Threads, *, file: str = "int8.onnx") -> Contender:
    """Our own engine, through its Python API."""
    if importlib.util.find_spec("octavo.engines.native") is None:
        raise EngineError("this version of Octavo has no native engine")
    engine = open_engine(Backend.NATIVE, subject.graph(file), threads=threads.each)
    return Contender(engine.engine_id, lambda batch: batch, [engine.run] * threads.lanes)


def native_vnni(subject: Subject, threads: Threads) -> Contender:
    """Our own engine held to VNNI where it would take AMX, so that its share of the VNNI peak means something."""
    if not {"amx_int8", "avx512_vnni"} <= set(this_hardware().flags):
        raise EngineError("this processor has no AMX: what native does is what this would do")
    before = os.environ.get(_ISA_VARIABLE)
    os.environ[_ISA_VARIABLE] = "avx512_vnni"
    try:
        return native(subject, threads)
    finally:
        del os.environ[_ISA_VARIABLE]
        if before is not None:
            os.environ[_ISA_VARIABLE] = before


PEERS: dict[str, Peer] = {
    "torch-fp32": torch_fp32,
    "torch-fp32-compiled": partial(torch_fp32, compiled=True),
    "openvino-fp32": partial(openvino_float, precision="f32"),
    "openvino-bf16": partial(openvino_float, precision="bf16"),
    "openvino-int8": openvino_int8,
    "openvino-int8-bf16": partial(openvino_int8, precision="bf16"),
    "openvino-int8-dynamic": openvino_int8_dynamic,
    "openvino-packed-exact": partial(openvino_packed, is_bucketed=False),
    "openvino-packed": openvino_packed,
    "openvino-packed-bf16": partial(openvino_packed, precision="bf16"),
    "onnxruntime-fp32": onnxruntime_float,
    "onnxruntime-int8-dynamic": onnxruntime_dynamic,
    "onnxruntime-u8-packed": onnxruntime_packed,
    "ctranslate2-int8": ctranslate2_int8,
    "sentence-transformers-openvino-int8": sentence_transformers_int8,
    "native": native,
    "native-vnni": native_vnni,
    "native-per-token": partial(native, file="int8-per-token.onnx"),
}


def padded(batch: TokenBatch) -> dict[str, Any]:
    """Return ids and mask, padded to the longest sequence, (batch, length) each."""
    place = np.arange(batch.max_length)
    mask = place < batch.lengths[:, None]  # (batch, length)
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = batch.ids
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64)}


def padded_shape(batch: TokenBatch) -> Hashable:
    """Return the shape that padding gives a batch."""
    return len(batch), batch.max_length


def _hf_model(subject: Subject) -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(subject.folder, attn_implementation="sdpa").float().eval()


def _padded_module(subject: Subject) -> tuple[Any, Any]:
    """Return the model as a function of ids and mask alone, and an example of these."""
    import torch

    class Padded(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    example = padded(TokenBatch.from_sequences([[101, 7, 8, 9, 102], [101, 7, 102]]))
    return Padded(_hf_model(subject)), tuple(torch.from_numpy(array) for array in example.values())


def _openvino_model(subject: Subject) -> Any:
    import openvino

    module, example = _padded_module(subject)
    return openvino.convert_model(module, example_input=example)


def _kept(file: Path, make: Callable[[], Any]) -> Any:
    """Read an OpenVINO model, or make it and write it down."""
    import openvino

    if not file.is_file():
        openvino.save_model(make(), file, compress_to_fp16=False)
    return openvino.Core().read_model(file)


def _openvino(model: Any, threads: Threads, precision: str, **more: Any) -> Contender:
    import openvino

    if precision == "bf16" and not {"avx512_bf16", "amx_bf16"} & set(this_hardware().flags):
        raise EngineError("this processor has no bf16")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": threads.lanes,
        "INFERENCE_NUM_THREADS": threads.total,
        "INFERENCE_PRECISION_HINT": precision,
        "CPU_RUNTIME_CACHE_CAPACITY": _PREPARED_SHAPES,
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings | more)
    ports = {name for port in compiled.inputs for name in port.names}

    def lane(request: Any) -> Run:
        def run(inputs: dict[str, Any]) -> FloatArray:
            request.infer({name: array for name, array in inputs.items() if name in ports}, share_inputs=True)
            return np.array(request.get_output_tensor(0).data)

        return run

    lanes = [lane(compiled.create_infer_request()) for _ in range(threads.lanes)]
    return Contender(f"openvino-{openvino.__version__.split('-')[0]}/{precision}", padded, lanes, padded_shape)


def _optimized_onnx(subject: Subject) -> Path:
    """Export the padded model and fuse what ONNX Runtime's optimizer knows."""
    import torch
    from onnxruntime.transformers.optimizer import optimize_model

    target = subject.folder.parent / "onnxruntime-fp32.onnx"
    if not target.is_file():
        exported = subject.folder.parent / "padded.onnx"
        module, example = _padded_module(subject)
        axes = {name: {0: "batch", 1: "length"} for name in _INPUTS}
        # The older exporter: the optimizer finds as much in its graphs, in a tenth of the time.
        torch.onnx.export(
            module, example, exported, dynamo=False, opset_version=17, input_names=list(_INPUTS), dynamic_axes=axes
        )
        optimized = optimize_model(
            str(exported),
            model_type="bert",
            num_heads=subject.config.heads,
            hidden_size=subject.config.hidden_size,
            opt_level=1,
        )
        optimized.save_model_to_file(str(target))
    return target


def _onnxruntime(file: Path, threads: Threads, prepare: Callable[[TokenBatch], Any]) -> Contender:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads.each
    options.add_session_config_entry("session.force_spinning_stop", "1")  # between calls, where others have their turn
    # Joined to a Gemm, a product of levels is not recognised as one, and its weights become float at each call.
    session = onnxruntime.InferenceSession(
        file, options, providers=["CPUExecutionProvider"], disabled_optimizers=["MatMulAddFusion"]
    )

    def run(inputs: dict[str, Any]) -> FloatArray:
        return np.asarray(session.run(None, inputs)[0])

    return Contender(f"onnxruntime-{onnxruntime.__version__}/{file.stem}", prepare, [run] * threads.lanes)


def _quantize_as_sentence_transformers(subject: Subject, folder: Path) -> None:
    """Write the static INT8 model that sentence-transformers' own export writes, calibrated on our texts."""
    import nncf
    import openvino

    core = openvino.Core()
    source = folder / "openvino" / "openvino_model.xml"
    model = core.read_model(source)
    names = {name for port in model.inputs for name in port.names}

    def feed(batch: TokenBatch) -> dict[str, Any]:
        return {name: padded(batch).get(name, np.zeros((1, batch.tokens), np.int64)) for name in names}

    batches = [feed(one) for one in subject.calibration().split(1)]
    quantized = nncf.quantize(
        model, nncf.Dataset(batches), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(batches)
    )
    openvino.save_model(quantized, source.with_name("openvino_model_qint8_quantized.xml"), compress_to_fp16=False)
