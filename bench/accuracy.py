"""What INT8 costs in accuracy: every rung and two peers, on one data set of any task, over seeds.

    python bench/accuracy.py --name clinc150 --data FOLDER --margin 0.5 --work runs/clinc150 --seeds 0 1 2
    python bench/accuracy.py --name snips --task tag --data FOLDER --work runs/snips

FOLDER holds train, dev and test: `.jsonl` files, or a BEIR folder's `qrels/*.tsv` for --task embed. The teacher is
fine-tuned once from --encoder (the packaged MiniLM-L6) and kept in --work; `--epochs 0` takes the encoder as it is.
Seeds vary calibration rows and the order of training. Peers quantize the same FP32 graph with their defaults. Prints a
Markdown table; the last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from octavo.certify.certificate import Certificate
from octavo.certify.measures import MeasureRecord, records_from, verdict_of
from octavo.cli.progress import shown_progress
from octavo.data.sample import sample_encoder
from octavo.distill.finetune import finetune
from octavo.distill.trainer import Plan
from octavo.encoder.folder import read_folder
from octavo.engines.guard import bucketed_layout
from octavo.export.onnx_graph import onnx_from_model
from octavo.ladder.compress import compress
from octavo.ladder.evidence import BATCH_INPUTS, outputs_in_batches
from octavo.ladder.material import Material, gather
from octavo.progress import Progress
from octavo.recipe import Certification, DataFiles, Distillation, Recipe
from octavo.tasks.registry import NAMES, task_named
from octavo.text.batch import TokenBatch
from octavo.text.layout import INPUT_NAMES
from octavo.types import FloatArray

Feeds = dict[str, Any]


def main() -> None:
    options = _options()
    with shown_progress(as_json=False) as progress:
        rows = run(options, progress)
    print("\n| rung | seed | measure | teacher | difference [95%] | kept | verdict |\n|---|---|---|---|---|---|---|")
    for row in rows:
        for number, one in enumerate(row["measures"]):
            first = f"| {row['rung']} | {row['seed']} " if not number else "| | "
            print(
                f"{first}| {one['name']} | {100 * one['teacher']:.2f} | {100 * one['difference']:+.2f} "
                f"[{100 * one['low']:+.2f}, {100 * one['high']:+.2f}] "
                f"| {100 * row['agreement']:.1f}% | {one['verdict'] or 'reported'} |"
            )
    print(json.dumps({"name": options.name, "margin": options.margin / 100, "rungs": rows}))


def run(options: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    files = {split: _file(options.data, split) for split in ("train", "dev", "test")}
    teacher: Path = options.encoder or sample_encoder()
    if options.epochs:
        teacher = _teacher(options, files, teacher, progress)
    found = []
    for seed in options.seeds:
        made = compress(_recipe(options, teacher, files, seed), progress=progress)
        found += [_shown(one, seed, one.rung == made.chosen) for one in made.certificates]
        print(json.dumps(found[-len(made.certificates) :]), flush=True)
    if options.peers:
        material = gather(_recipe(options, teacher, files, 0), options.work / "peers", progress)
        graph = onnx_from_model(material.base.model).SerializeToString()
        for name, peer in (("NNCF default PTQ", _nncf), ("ONNX Runtime dynamic", _onnxruntime_dynamic)):
            with progress.step(name) as bar:
                found.append(_judged(name, material, peer(graph, material), options.margin / 100, bar))
    return found


def _file(folder: Path, split: str) -> Path:
    places = (folder / f"{split}.jsonl", folder / f"qrels/{split}.tsv", folder / f"qrels.{split}.tsv")
    return next((place for place in places if place.is_file()), places[0])


def _teacher(options: argparse.Namespace, files: dict[str, Path], encoder: Path, progress: Progress) -> Path:
    folder: Path = options.work / "teacher"
    if not folder.exists():
        plan = Plan(epochs=options.epochs, learning_rate=options.learning_rate, batch_size=32, seed=0, patience=3)
        kind = task_named(options.task)
        finetune(read_folder(encoder), kind, files["train"], files["dev"], folder, plan, options.max_length, progress)
    return folder


def _recipe(options: argparse.Namespace, teacher: Path, files: dict[str, Path], seed: int) -> Recipe:
    return Recipe(
        teacher=teacher,
        model=options.name,
        task=options.task,
        data=DataFiles(train=files["train"], dev=files["dev"], test=files["test"]),
        store=options.work / "store",
        max_length=options.max_length,
        seed=seed,
        distill=Distillation(epochs=options.kd_epochs, control=options.control and seed in options.seeds[:1]),
        certify=Certification(margin=options.margin / 100, timing_s=options.timing_s),
    )


def _shown(one: Certificate, seed: int, chosen: bool) -> dict[str, Any]:
    return {
        "rung": one.rung + (" (chosen)" if chosen else ""),
        "seed": seed,
        "agreement": one.agreement,
        "verdict": str(one.verdict),
        "measures": _measures(one.measures),
        "dev": one.selection["dev"],
        "per_query_batch32_ms": one.latency_ms.per_query_batch32,
        "batch1_p50_ms": one.latency_ms.batch1_p50,
        "speedup": {"torch_fp32": one.speedup.torch_fp32, "openvino_fp32": one.speedup.openvino_fp32},
    }


def _measures(records: Sequence[MeasureRecord]) -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "teacher": one.teacher.value,
            "engine": one.engine.value,
            "difference": one.difference.value,
            "low": one.difference.low,
            "high": one.difference.high,
            "verdict": str(one.verdict) if one.verdict else None,
        }
        for one in records
    ]


def _judged(
    name: str, material: Material, run_feeds: Callable[[Feeds], FloatArray], margin: float, bar: Any
) -> dict[str, Any]:
    """Judge a peer's outputs to the held-out rows as the ladder judges its own rungs."""
    held_out = material.test
    outputs = outputs_in_batches(
        lambda batch: run_feeds(_feeds(batch, material))[: len(batch.read_places)], held_out.batch, BATCH_INPUTS, bar
    )
    teacher = held_out.split.answers(held_out.teacher, held_out.teacher)
    answers = held_out.split.answers(outputs, held_out.teacher)
    records = records_from(teacher.measures, answers.measures, margin, unit=held_out.split.units.word)
    return {
        "rung": name,
        "seed": "-",
        "agreement": float(answers.agreement.mean()),
        "verdict": str(verdict_of(records).verdict),
        "measures": _measures(records),
    }


def _feeds(batch: TokenBatch, material: Material) -> Feeds:
    layout = bucketed_layout(batch, material.base.positions)
    return {name: getattr(layout, name) for name in INPUT_NAMES}


def _nncf(graph: bytes, material: Material) -> Callable[[Feeds], FloatArray]:
    """NNCF's post-training quantization with its preset for transformers and its 300 calibration samples."""
    import nncf
    import openvino

    core = openvino.Core()
    batches = [_feeds(batch, material) for batch in material.train.data.batch.select(range(300)).split(1)]
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
    parser.add_argument("--task", default="classify", choices=NAMES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, help="a model folder; default: the packaged MiniLM-L6")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--margin", type=float, default=0.5, help="in points")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0], help="none: the peers alone")
    parser.add_argument("--epochs", type=int, default=5, help="of the teacher; 0 takes the encoder as it is")
    parser.add_argument("--learning-rate", type=float, default=2e-4, help="of the teacher")
    parser.add_argument("--kd-epochs", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--no-control", dest="control", action="store_false")
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--timing-s", type=float, default=20.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
