"""What INT8 costs in accuracy: every rung and two peers, on one data set, over seeds.

    python bench/accuracy.py --name clinc150 --data FOLDER --margin 0.5 --work runs/clinc150 --seeds 0 1 2

FOLDER holds train.jsonl, dev.jsonl and test.jsonl; `--name sample` needs no folder. The teacher is fine-tuned once from
the packaged MiniLM-L6 and kept in --work; seeds vary calibration rows and the order of training. Peers quantize the
same FP32 graph with their defaults. Prints a Markdown table; the last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from octavo.certify.decision import decide
from octavo.certify.statistics import paired_bootstrap
from octavo.cli.progress import shown_progress
from octavo.data.rows import read_rows
from octavo.data.sample import sample_encoder, write_sample
from octavo.distill.finetune import finetune
from octavo.distill.trainer import Plan
from octavo.encoder.folder import read_folder
from octavo.engines.guard import bucketed_layout
from octavo.export.onnx_graph import onnx_from_model
from octavo.ladder.compress import compress
from octavo.ladder.material import Material, gather
from octavo.progress import Progress
from octavo.recipe import Certification, DataFiles, Distillation, Recipe
from octavo.text.batch import TokenBatch
from octavo.text.layout import INPUT_NAMES
from octavo.types import FloatArray

Feeds = dict[str, Any]


def main() -> None:
    options = _options()
    with shown_progress(as_json=False) as progress:
        rows = run(options, progress)
    print("\n| rung | seed | accuracy | difference [95%] | agreement | verdict |\n|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['rung']} | {row['seed']} | {100 * row['engine']:.2f} | {100 * row['difference']:+.2f} "
            f"[{100 * row['low']:+.2f}, {100 * row['high']:+.2f}] | {100 * row['agreement']:.1f}% | {row['verdict']} |"
        )
    print(json.dumps({"name": options.name, "margin": options.margin / 100, "rungs": rows}))


def run(options: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    work: Path = options.work
    if options.name == "sample":
        options.data = work / "data"
        write_sample(options.data)
    files = {split: options.data / f"{split}.jsonl" for split in ("train", "dev", "test")}
    teacher = work / "teacher"
    if not teacher.exists():
        plan = Plan(epochs=options.epochs, learning_rate=options.learning_rate, batch_size=32, seed=0, patience=3)
        train, dev = read_rows(files["train"]), read_rows(files["dev"])
        finetune(read_folder(sample_encoder()), train, dev, teacher, plan, 128, progress)
    found = []
    for seed in options.seeds:
        made = compress(_recipe(options, teacher, files, seed), progress=progress)
        found += [
            {
                "rung": one.rung + (" (chosen)" if one.rung == made.chosen else ""),
                "seed": seed,
                "teacher": one.teacher.value,
                "engine": one.engine.value,
                "difference": one.difference.value,
                "low": one.difference.low,
                "high": one.difference.high,
                "agreement": one.agreement,
                "verdict": str(one.verdict),
                "dev": one.selection["dev"],
                "per_query_batch32_ms": one.latency_ms.per_query_batch32,
                "speedup": {"torch_fp32": one.speedup.torch_fp32, "openvino_fp32": one.speedup.openvino_fp32},
            }
            for one in made.certificates
        ]
        print(json.dumps(found[-len(made.certificates) :]), flush=True)
    material = gather(_recipe(options, teacher, files, 0), progress)
    graph = onnx_from_model(material.teacher).SerializeToString()
    for name, peer in (("NNCF default PTQ", _nncf), ("ONNX Runtime dynamic", _onnxruntime_dynamic)):
        found.append(_judged(name, material, peer(graph, material), options.margin / 100))
    return found


def _recipe(options: argparse.Namespace, teacher: Path, files: dict[str, Path], seed: int) -> Recipe:
    return Recipe(
        teacher=teacher,
        model=options.name,
        data=DataFiles(train=files["train"], dev=files["dev"], test=files["test"]),
        store=options.work / "store",
        seed=seed,
        distill=Distillation(epochs=options.kd_epochs, control=seed in options.seeds[:1]),
        certify=Certification(margin=options.margin / 100, timing_s=options.timing_s),
    )


def _judged(name: str, material: Material, run_feeds: Callable[[Feeds], FloatArray], margin: float) -> dict[str, Any]:
    logits = np.concatenate(
        [run_feeds(_feeds(batch, material))[: len(batch)] for batch in material.test.batch.split(32)]
    )
    truth, teacher = material.test.truth, material.test.teacher
    compared = paired_bootstrap(material.task.score(teacher, truth), material.task.score(logits, truth))
    return {
        "rung": name,
        "seed": "-",
        "teacher": compared.teacher.value,
        "engine": compared.engine.value,
        "difference": compared.difference.value,
        "low": compared.difference.low,
        "high": compared.difference.high,
        "agreement": float((teacher.argmax(1) == logits.argmax(1)).mean()),
        "verdict": str(decide(compared.difference, compared.sd, compared.rows, margin).verdict),
    }


def _feeds(batch: TokenBatch, material: Material) -> Feeds:
    layout = bucketed_layout(batch, material.position_offset)
    return {name: getattr(layout, name) for name in INPUT_NAMES}


def _nncf(graph: bytes, material: Material) -> Callable[[Feeds], FloatArray]:
    """NNCF's post-training quantization with its preset for transformers and its 300 calibration samples."""
    import nncf
    import openvino

    core = openvino.Core()
    batches = [_feeds(batch, material) for batch in material.train.select(range(300)).split(1)]
    model = nncf.quantize(
        core.read_model(io.BytesIO(graph)),
        nncf.Dataset(batches),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(batches),
    )
    request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    return lambda feeds: np.array(request.infer(feeds)[0])


def _onnxruntime_dynamic(graph: bytes, _material: Material) -> Callable[[Feeds], FloatArray]:
    """ONNX Runtime's dynamic quantization with its defaults, weights per channel."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(graph)
        quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
        session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)[0]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--margin", type=float, default=0.5, help="in points")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0], help="none: the peers alone")
    parser.add_argument("--epochs", type=int, default=5, help="of the teacher")
    parser.add_argument("--learning-rate", type=float, default=2e-4, help="of the teacher")
    parser.add_argument("--kd-epochs", type=int, default=2)
    parser.add_argument("--timing-s", type=float, default=20.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
