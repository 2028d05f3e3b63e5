"""Claim: what pruning, distillation and training for int8 cost ResNet-8 in accuracy, and what they save.

    EDGEINFER_TEST_DATA=... python benchmarks/compression.py [--cases half quarter ...]

The shared ResNet-8 was trained on lossless pictures; the baseline is the same model fine-tuned on the JPEG copy with
the same number of epochs as the compressed ones get. A drop is against the float model that a case begins with: the
baseline for most, the published model for the baseline itself, the quarter for what says so.

train40k trains, the first 1000 of a seeded shuffle of test5k choose, the other 4000 report. Three-seed comparisons run
on a fixed subset of 10000 training pictures. Every finished row is written at once, and rows that stand in the file are
not run again; finished steps lie in ${XDG_CACHE_HOME:-~/.cache}/edgeinfer/compression.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from record import read_rows, test_data, versions, write_rows

from converters import Card, Distill, FineTune, Fit, Prune, Quantize, Recipe, Training, convert
from converters.steps import Step
from edgeinfer.dataset import Dataset, open_dataset
from edgeinfer.progress import terminal_progress

NAME = "compression"
SPLIT_SEED = 0
CHOOSE = 1000
SUBSET = 10_000
FIT = Fit(batch_size=128, augment=("flip", "shift"))
EPOCHS = 50  # of the baseline, and of all training steps of "half" and "quarter" together
RATE = 2e-3


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table.

    Attributes:
        name: Of the case.
        steps: Its recipe, before Quantize.
        quantize: How the recipe ends.
        start: "shared" for the model as it was published, else the case whose float model it begins with.
        pictures: Of the training set.
        seeds: How many.
    """

    name: str
    steps: tuple[Step, ...]
    quantize: Quantize = Quantize("int8")  # noqa: RUF009 - a frozen value
    start: str = "baseline"
    pictures: int = 40_000
    seeds: int = 1


def _no_block() -> Prune:
    # The block at full resolution holds 38 % of the multiplications; without it the rest may stay wider.
    return Prune("block", macs=0.65)


def _taught(epochs: int) -> Distill:
    return Distill(temperature=4.0, alpha=0.9, epochs=epochs, learning_rate=RATE)


def _sparse(epochs: int) -> Prune:
    return Prune("weight", sparsity=0.8, epochs=epochs, learning_rate=RATE)


HALF: tuple[Step, ...] = (
    _no_block(),
    _taught(6),
    Prune(macs=0.5, importance="taylor"),
    _taught(EPOCHS - 6),
)
QUARTER: tuple[Step, ...] = (
    _no_block(),
    _taught(3),
    # By layer, in multiples of 16 where the pictures are still large: what XNNPACK computes at once. One budget for all
    # layers left 0.42 of the latency, and fewer parameters.
    Prune(
        layers=(("conv2d_3", 0.5), ("conv2d_4", 0.5), ("conv2d_6", 0.5), ("conv2d_7", 0.125)),
        importance="taylor",
    ),
    _taught(EPOCHS - 3),
)
AWARE = Quantize("int8", epochs=5, learning_rate=3e-4)  # on top of the budget, and said so

CASES = (
    Case("baseline", (FineTune(epochs=EPOCHS, learning_rate=1e-3),), start="shared"),
    Case("half", HALF),
    Case("quarter", QUARTER),
    Case("half, trained for int8", HALF, AWARE),
    Case("quarter, trained for int8", QUARTER, AWARE),
    Case("trained for int8, from half", (), AWARE, start="half", seeds=3),
    Case("weights 80 %", (Prune("weight", sparsity=0.8, epochs=EPOCHS // 2, learning_rate=1e-3),)),
    Case("weights 80 %, taught", (_sparse(EPOCHS // 2), _taught(EPOCHS // 2))),
    Case("trained for int8, from weights 80 %, taught", (), AWARE, start="weights 80 %, taught"),
    *(
        Case(f"{name}, 25% MACs", (Prune(macs=0.25), step), pictures=SUBSET, seeds=3)
        for name, step in (("fine-tuned", FineTune(epochs=10, learning_rate=RATE)), ("distilled", _taught(10)))
    ),
    *(
        Case(f"{name}, from {start}", (), quantize, start=start, pictures=SUBSET, seeds=3)
        for start in ("quarter", "baseline")
        for name, quantize in (
            ("PTQ", Quantize("int8")),
            ("QAT", Quantize("int8", epochs=3, learning_rate=1e-4)),
        )
    ),
)


def main() -> None:
    """Run what has no row yet, and write each row as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", nargs="*", help=f"some of: {', '.join(case.name for case in CASES)}")
    chosen = parser.parse_args().cases
    data = test_data()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeinfer" / NAME
    rows = read_rows(NAME)
    for case in CASES:
        if chosen and case.name not in chosen:
            continue
        for seed in range(case.seeds):
            if any(row["case"] == case.name and row["seed"] == str(seed) for row in rows):
                continue
            rows += run(case, seed, data, cache)
            write_rows(NAME, rows)


def run(case: Case, seed: int, data: Path, cache: Path) -> list[dict[str, Any]]:
    """Run one case with one seed; returns a row for every step."""
    train, choose, report = splits(data)
    if case.pictures < len(train):
        fixed = np.sort(np.random.default_rng(SPLIT_SEED).permutation(len(train))[: case.pictures])
        train = train.take(fixed)
    folder = cache / f"{_folder(case.name)}-{seed}"
    started = time.perf_counter()
    result = convert(
        model_of(case.start, data, cache),
        data / "cifar10_jpeg" / "train40k.npz",
        recipe=Recipe((*case.steps, case.quantize), seed=seed, fit=FIT),
        card=Card(normalization=(0, 1), labels=train.classes, name="ResNet-8"),
        training=Training(
            train=train,
            validation=choose,
            test=report,
            teacher=teacher_of(data, cache) if any(isinstance(step, Distill) for step in case.steps) else None,
        ),
        work=folder,
        progress=terminal_progress(),
    )
    print(result.report, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    result.save(folder / "result.tflite")
    account = result.report.account
    if account is None:
        raise SystemExit("The report has no account.")
    rows = []
    for entry in account.entries:
        plain, quantized = entry.plain.quantized, entry.quantized.quantized
        if plain is None or quantized is None or entry.quantized.drop_interval is None:
            raise SystemExit("The report has no accuracy.")
        low, high = entry.quantized.drop_interval
        rows.append(
            {
                "case": case.name,
                "seed": seed,
                "train pictures": case.pictures,
                "epochs": sum(getattr(step, "epochs", 0) for step in (*case.steps, case.quantize)),
                "step": entry.step,
                "parameters": entry.parameters,
                "macs": entry.macs,
                "bytes": entry.size_bytes,
                "gzip": entry.gzip_bytes,
                "float top-1 %": f"{100 * plain.top1:.2f}",
                "int8 top-1 %": f"{100 * quantized.top1:.2f}",
                "int8 low %": f"{100 * quantized.top1_interval[0]:.2f}",
                "int8 high %": f"{100 * quantized.top1_interval[1]:.2f}",
                "drop points": f"{100 * (entry.quantized.drop or 0.0):.2f}",
                "drop low": f"{100 * low:.2f}",
                "drop high": f"{100 * high:.2f}",
                "agreement %": f"{100 * (entry.quantized.agreement or 0.0):.2f}",
                "latency ratio": f"{entry.latency_ratio:.3f}",
                "latency p50 ms": f"{entry.latency.p50:.4f}",
                "seconds": f"{entry.seconds:.0f}",
                "samples": quantized.samples,
                "engine": entry.quantized.engine,
                "threads": 1,
                "versions": versions(),
            }
        )
    print(f"{case.name}, seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)
    return rows


def _folder(case: str) -> str:
    return case.replace(" ", "-").replace("%", "percent").replace(",", "")


def splits(data: Path) -> tuple[Dataset, Dataset, Dataset]:
    """Return what trains, what chooses and what reports."""
    test = open_dataset(data / "cifar10_jpeg" / "test5k.npz")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(test))
    choose, report = test.take(order[:CHOOSE]), test.take(order[CHOOSE:])
    return (
        open_dataset(data / "cifar10_jpeg" / "train40k.npz"),
        replace(choose, name="1000 of test5k"),
        replace(report, name="4000 of test5k"),
    )


def model_of(start: str, data: Path, cache: Path) -> Path:
    """Return the Keras model that a case begins with: the last training step of another case."""
    if start == "shared":
        return data / "mlperf_tiny" / "ic" / "pretrainedResnet.h5"
    steps = next(case.steps for case in CASES if case.name == start)
    path = cache / f"{_folder(start)}-0" / f"{len(steps)}-{type(steps[-1]).__name__.lower()}.keras"
    if not path.exists():
        raise SystemExit(f"Run the case `{start}` first: {path} is not there.")
    return path


def teacher_of(data: Path, cache: Path) -> Path:
    """Return the baseline as an int8 file that answers with logits: asking it costs a fifth of asking Keras.

    Without the softmax, because of a stored probability of 0 nothing is known but that it was below 1/512.
    """
    import keras

    path = cache / "teacher.tflite"
    if not path.exists():
        baseline = keras.models.load_model(model_of("baseline", data, cache), compile=False)
        last = baseline.layers[-1]
        logits = keras.layers.Dense(last.units, name="logits")
        answering = keras.Model(baseline.input, logits(last.input))
        logits.set_weights(last.get_weights())
        convert(
            answering,
            data / "cifar10_jpeg" / "train40k.npz",
            recipe=Recipe((Quantize("int8"),)),
            card=Card(task="tensors", normalization=(0, 1)),
        ).save(path)
    return path


if __name__ == "__main__":
    main()
