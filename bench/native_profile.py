"""How near the native engine comes to what this processor can multiply, on random weights of a real model's size.

    python bench/native_profile.py --size minilm-l6 --threads 1
    python bench/native_profile.py --scaling

Rounds of the engine alternate with a loop of integer products and nothing else (`avx512_vnni`, unless the machine lacks
it), and both count the thread's own processor time, so that other work on the machine disturbs the share least. With
several threads wall-clock time counts, and the share is of as many such loops. `--scaling` says how many times the work
of one thread two threads do, beside two callers of one thread each, and two bare loops: what the machine gives. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from octavo.engines.native.extension import encoder_from_weights, instruction_sets, spin
from octavo.engines.native.weights import (
    Activation,
    LayerNormWeights,
    LayerWeights,
    LinearWeights,
    ModelWeights,
    StatesRead,
)
from octavo.text.batch import TokenBatch
from octavo.text.layout import NO_OFFSET

# (layers, hidden, intermediate, heads)
SIZES = {"minilm-l3": (3, 384, 1536, 12), "minilm-l6": (6, 384, 1536, 12), "bert-base": (12, 768, 3072, 12)}
# name → (sequences, length): length None for short queries, lognormal with a mean of 11 tokens.
SHAPES = {"b1": (1, None), "b8": (8, None), "b32": (32, None), "8 x 94": (8, 94), "1 x 256": (1, 256)}
VOCABULARY, LONGEST = 30_522, 512


def random_weights(layers: int, hidden: int, inner: int, heads: int, *, per_token: bool) -> ModelWeights:
    rng = np.random.default_rng(0)

    def linear(inputs: int, outputs: int) -> LinearWeights:
        levels = rng.integers(-127, 128, (inputs, outputs)).astype(np.int8)
        scale = np.full(outputs, 1 / (73 * inputs**0.5), np.float32)
        return LinearWeights(levels, scale, np.zeros(outputs, np.float32), None if per_token else 0.03, None)

    def norm() -> LayerNormWeights:
        return LayerNormWeights(np.ones(hidden, np.float32), np.zeros(hidden, np.float32), 1e-12)

    return ModelWeights(
        words=rng.standard_normal((VOCABULARY, hidden), np.float32),
        positions=rng.standard_normal((LONGEST, hidden), np.float32),
        norm=norm(),
        layers=[
            LayerWeights(
                [linear(hidden, 3 * hidden)],
                linear(hidden, hidden),
                norm(),
                linear(hidden, inner),
                linear(inner, hidden),
                norm(),
            )
            for _ in range(layers)
        ],
        heads=heads,
        activation=Activation.GELU,
        reads=StatesRead.MEAN,
        dense=None,
        dense_activation=Activation.TANH,
        output=None,
        normalize=True,
    )


def batches(sequences: int, length: int | None) -> list[TokenBatch]:
    rng = np.random.default_rng(1)
    made = []
    for _ in range(max(2, 64 // sequences)):
        short = rng.lognormal(np.log(11) - 0.125, 0.5, sequences).round().clip(3, 128).astype(int)
        lengths = short if length is None else [length] * sequences
        made.append(TokenBatch.from_sequences([rng.integers(0, VOCABULARY, n).tolist() for n in lengths]))
    return made


def products_per_s(isa: str, clock: Callable[[], float]) -> float:
    rounds = 1000
    while True:
        start = clock()
        products = spin(isa, rounds)
        if (spent := clock() - start) > 2e-3:
            return products / spent
        rounds *= 2


def measure(encoders: dict[str, Any], made: list[TokenBatch], isa: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return milliseconds per sequence of each encoder, and the products per second of the loop; medians."""
    clock = time.thread_time if args.threads == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in encoders}
    peaks = []
    for _ in range(args.rounds):
        for name, encoder in encoders.items():
            peaks.append(products_per_s(isa, clock))
            start = clock()
            for batch in made:
                encoder.run(batch.ids, batch.offsets, None, None)
            times[name].append((clock() - start) / sum(len(batch) for batch in made))
    return {"ms": {name: 1e3 * statistics.median(t) for name, t in times.items()}, "peak": statistics.median(peaks)}


def scaling(weights: ModelWeights, isa: str, rounds: int) -> dict[str, dict[str, float]]:
    """Return, for each shape, how many times the work of one thread two threads do; medians of ratios within rounds.

    "own time" counts each thread's processor time: near 2 there and lower by the clock, something else had the cores;
    low in both, the two cores hold each other up.
    """
    alone, other, both = (
        encoder_from_weights(weights, NO_OFFSET, LONGEST, isa=isa, threads=threads) for threads in (1, 1, 2)
    )
    results = {}
    with ThreadPoolExecutor(2) as pool:

        def at_once(jobs: Sequence[Callable[[], object]]) -> tuple[float, float]:
            start = time.perf_counter()
            own_s = list(pool.map(_own_s, jobs))
            return time.perf_counter() - start, statistics.mean(own_s)

        for shape in ("b1", "b8", "b32", "8 x 94"):
            made = batches(*SHAPES[shape])
            one, second, shared = (partial(_run_all, encoder, made) for encoder in (alone, other, both))
            loop = partial(spin, isa, 200_000)
            ratios: dict[str, list[float]] = {}
            for _ in range(rounds):
                (one_s, one_own_s), (shared_s, _), (calls_s, calls_own_s) = map(
                    at_once, ([one], [shared], [one, second])
                )
                (loop_s, loop_own_s), (loops_s, loops_own_s) = map(at_once, ([loop], [loop, loop]))
                for name, ratio in {
                    "one call on two threads": one_s / shared_s,
                    "two calls": 2 * one_s / calls_s,
                    "two calls, own time": 2 * one_own_s / calls_own_s,
                    "two loops": 2 * loop_s / loops_s,
                    "two loops, own time": 2 * loop_own_s / loops_own_s,
                }.items():
                    ratios.setdefault(name, []).append(ratio)
            results[shape] = {name: round(statistics.median(values), 3) for name, values in ratios.items()}
            print(f"{shape:8} {results[shape]}")
    return results


def _run_all(encoder: Any, made: list[TokenBatch]) -> None:
    for batch in made:
        encoder.run(batch.ids, batch.offsets, None, None)


def _own_s(job: Callable[[], object]) -> float:
    """Run a job, and return the processor time that this thread spent on it."""
    start = time.thread_time()
    job()
    return time.thread_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="minilm-l6")
    parser.add_argument("--isa", action="append", help="instruction sets, all but `portable` unless given")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--per-token", action="store_true", help="scales for each token beside the static ones")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scaling", action="store_true", help="two threads against one, on the first instruction set")
    args = parser.parse_args()
    isas = args.isa or [name for name in instruction_sets() if name != "portable"]
    loop = "avx512_vnni" if "avx512_vnni" in instruction_sets() else isas[0]
    layers, hidden, inner, heads = SIZES[args.size]
    if args.scaling:
        weights = random_weights(layers, hidden, inner, heads, per_token=False)
        print(json.dumps({"size": args.size, "isa": isas[0], "scaling": scaling(weights, isas[0], args.rounds)}))
        return
    encoders = {}
    for per_token in [False, True][: 1 + args.per_token]:
        weights = random_weights(layers, hidden, inner, heads, per_token=per_token)
        for isa in isas:
            encoder = encoder_from_weights(weights, NO_OFFSET, LONGEST, isa=isa, threads=args.threads)
            encoders[isa + (" per token" if per_token else "")] = encoder
    results: dict[str, Any] = {}
    for shape, (sequences, length) in SHAPES.items():
        made = batches(sequences, length)
        found = measure(encoders, made, loop, args)
        tokens = sum(batch.tokens for batch in made) / sum(len(batch) for batch in made)
        products = tokens * layers * (4 * hidden * hidden + 2 * hidden * inner)
        results[shape] = {
            name: {"ms": round(ms, 3), "peak_share": round(products / (ms / 1e3) / found["peak"] / args.threads, 3)}
            for name, ms in found["ms"].items()
        }
        for name, result in results[shape].items():
            print(
                f"{shape:8} {name:24} {result['ms']:8.3f} ms/sequence  {result['peak_share']:.2f} of {loop}'s products"
            )
    print(json.dumps({"size": args.size, "threads": args.threads, "loop": loop, "shapes": results}))


if __name__ == "__main__":
    main()
