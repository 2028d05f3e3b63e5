"""The loop over a recipe, with files made by hand in the place of what training and the converter would make."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import colours
import numpy as np
import pytest
import tiny_models

from converters import run
from converters.build import Job
from converters.card import Card
from converters.compress import Workshop
from converters.conversion import Conversion
from converters.data import Calibration
from converters.errors import AccuracyDropError, RecipeError
from converters.facts import ModelFacts, TensorFacts
from converters.graph.leading import Leading
from converters.preparation import Samples
from converters.quantize.ptq import ConvertFacts, ConvertRequest
from converters.recipe import Distill, FineTune, Prune, Quantize, Recipe, Verify
from converters.report import Report
from converters.run import Judges, Run
from converters.stages import Stage
from converters.targets import target
from edgeinfer.dataset import Dataset
from edgeinfer.errors import InputError
from edgeinfer.model.metadata import read
from edgeinfer.progress import Progress
from edgeinfer.tasks import classifier

pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: metadata is written on workstations")

FACTS = ModelFacts(
    "colours",
    "keras",
    (TensorFacts("image", (1, 8, 8, 3), "float32"),),
    (TensorFacts("answer", (1, 4), "float32"),),
    leading=Leading(1 / 255, 0.0, ("scale",)),
    versions={"keras": "3"},
)
FLOAT = tiny_models.classifier(dtype="float32")
INT8 = tiny_models.classifier(dtype="int8")
# Their input spans eight times what pixels come to, so a full channel is below a quarter of the range: always "dark".
FLOAT_DARK = tiny_models.classifier(dtype="float32", input_range=(0.0, 8.0))
INT8_DARK = tiny_models.classifier(dtype="int8", input_range=(0.0, 8.0))
DARK = (FLOAT_DARK, INT8_DARK)


class StandIn:
    """Answers as `ConverterProcess` does. What it converts to goes by the name of the file that it has loaded."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, bytes]] = {}
        self.loaded = "model"
        self.asked: list[tuple[str, str]] = []
        self.requests: list[ConvertRequest] = []

    def load(self, path: Path) -> ModelFacts:
        self.loaded = path.name
        self.asked.append(("load", path.name))
        return FACTS

    def convert(self, request: ConvertRequest) -> ConvertFacts:
        self.asked.append((request.scheme, self.loaded))
        self.requests.append(request)
        plain, quantized = self.files.get(self.loaded, (FLOAT, INT8))
        request.output.write_bytes(plain if request.scheme == "float32" else quantized)
        return ConvertFacts(request.output, request.output.stat().st_size, 0, 0.0)


@dataclass
class Bench:
    """A run of one recipe, and what it said and did."""

    run: Run
    child: StandIn
    trained: list[str]
    said: list[Progress] = field(default_factory=list)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a function that makes a `Bench`. A step at place n "trains" to the file `n`, in one second."""

    def build(*steps: Any, files: dict[str, Any] | None = None, **given: Any) -> Bench:
        recipe = Recipe(steps)
        trained: list[str] = []

        def advance(work: Workshop, place: int, history: list[Stage]) -> Stage:
            trained.append(str(place))
            assert [stage.path.name for stage in history] == ["original", *trained[:-1]]
            return Stage(type(recipe.steps[place]).__name__.lower(), tmp_path / str(place), 1.0, (f"note {place}",), "")

        def ready(work: Workshop, place: int, history: list[Stage], samples: Any) -> Stage:
            trained.append("ready")
            given.setdefault("ready", []).append(samples)
            return Stage("quantize", tmp_path / "ready", 2.0, ("made ready",), "", (("conv", -1.0, 2.0),))

        monkeypatch.setattr("converters.run.advance", advance)
        monkeypatch.setattr("converters.run.ready_for_int8", ready)
        child, said = StandIn(), given.get("said", [])
        child.files = files or {}
        pixels = colours.pictures(20)[0]
        np.save(tmp_path / "calibration-0.npy", pixels)
        calibration = Calibration((tmp_path / "calibration-0.npy",), True, 20, "ab", 100.0, 60.0, 0.0, 255.0)
        samples = Samples(
            calibration, Dataset("the calibration data", colours.pictures(12)[0]), given.get("held", True)
        )
        judges = Judges(given.get("validation"), given.get("test"), None)
        card = Card(labels=colours.NAMES)
        job = Job(card, recipe, target("cpu"), given.get("calibration", calibration), tmp_path)
        started = Run(child, FACTS, job, judges, given.get("samples", samples), said.append)  # type: ignore[arg-type]
        if recipe.needs_keras:
            stage = Stage("original", tmp_path / "original", 0.0, (), "")
            started.open(Workshop(recipe, None, None, tmp_path, None), stage)
        return Bench(started, child, trained, said)

    return build


def steps(made: Conversion) -> list[str]:
    assert made.report.account is not None
    return [entry.step for entry in made.report.account.entries]


# --- the order of the work ------------------------------------------------------------------------


def test_every_step_begins_with_what_the_one_before_it_left(make: Any) -> None:
    bench = make(Prune(sparsity=0.5), Distill(), Quantize())
    made = bench.run.through()
    assert bench.trained == ["0", "1"]
    assert bench.child.asked == [
        ("load", "original"),
        ("float32", "original"),
        ("int8", "original"),
        ("load", "0"),
        ("float32", "0"),
        ("int8", "0"),
        ("load", "1"),
        ("float32", "1"),
        ("int8", "1"),
        ("int8", "1"),
    ]
    assert made.report.scheme == "int8"
    assert repr(made) == f"Conversion(colours, {len(made.tflite)} bytes, int8)"


def test_what_was_made_ready_is_what_is_converted(make: Any) -> None:
    bench = make(Quantize(ranges="mse"), files={"ready": (FLOAT, INT8)})
    made = bench.run.through()
    assert bench.child.asked[-3:] == [("load", "ready"), ("float32", "ready"), ("int8", "ready")]
    assert bench.child.requests[-1].ranges == (("conv", -1.0, 2.0),)
    assert all(request.ranges == () for request in bench.child.requests[:-1])
    assert made.report.account is not None
    assert made.report.account.entries[-1].notes == ("made ready",)
    assert made.report.account.entries[-1].seconds >= 2.0


def test_the_keras_model_gets_the_samples_as_it_was_trained_on_them(make: Any) -> None:
    seen: list[Any] = []
    make(Quantize(ranges="mse"), ready=seen).run.through()
    (samples,) = seen
    # The rescaling is a layer of the model: its own input is pixels.
    assert samples.dtype == np.float32
    assert np.array_equal(samples, colours.pictures(20)[0].astype(np.float32))


def test_layers_that_stay_float_stay_so_in_the_file_alone(make: Any) -> None:
    bench = make(Quantize(fallback={"conv": "float32"}))
    bench.run.through()
    assert [request.fallback for request in bench.child.requests] == [(("conv", "float32"),)]


# --- gates ----------------------------------------------------------------------------------------


def test_a_gate_behind_a_pruning_judges_the_float_model_and_keeps_it(make: Any, tmp_path: Path) -> None:
    bench = make(
        Prune(sparsity=0.5), Verify(max_drop=0.5), Distill(), Quantize(), files={"0": DARK},
        validation=colours.labelled(40),
    )  # fmt: skip
    with pytest.raises(AccuracyDropError, match="lost more accuracy") as caught:
        bench.run.through()
    error = caught.value
    assert bench.trained == ["0"]
    assert "75.00 points on 40 samples" in error.received
    # What helps the file does not help here: nothing is quantized yet.
    assert "epochs" in error.next_step
    assert "int16x8" not in error.next_step
    assert isinstance(error.conversion, Conversion)
    assert error.conversion.report is error.report
    assert isinstance(error.report, Report)
    assert (error.report.scheme, error.report.io) == ("float32", "float32")
    assert repr(error.conversion).endswith("float32)")
    assert steps(error.conversion) == ["original", "prune"]
    assert error.conversion.metadata.made["steps_done"] == 2
    error.conversion.save(tmp_path / "kept.tflite")
    assert read(tmp_path / "kept.tflite").inputs[0].dtype == "float32"
    assert classifier(tmp_path / "kept.tflite")(colours.pictures(1)[0][0]).label == "dark"


def test_a_gate_behind_the_quantization_judges_the_file(make: Any) -> None:
    bench = make(
        Prune(sparsity=0.5), Verify(max_drop=0.0), Quantize(), Verify(max_drop=0.7), files={"0": (FLOAT, INT8_DARK)},
        validation=colours.labelled(40),
    )  # fmt: skip
    with pytest.raises(AccuracyDropError) as caught:
        bench.run.through()
    assert "int16x8" in caught.value.next_step
    report = caught.value.report
    assert isinstance(report, Report)
    assert report.scheme == "int8"
    assert [row.step for row in report.rows] == ["float32", "int8"]


def test_gates_that_hold_let_the_work_go_on(make: Any) -> None:
    bench = make(
        Prune(sparsity=0.5), Verify(max_drop=0.75), Quantize(), Verify(max_drop=0.75), files={"0": DARK},
        validation=colours.labelled(40),
    )  # fmt: skip
    comparison = bench.run.through().report.comparison
    assert comparison.drop == 0.75


def test_what_a_gate_cannot_see_is_a_warning_said_once(make: Any) -> None:
    bench = make(Prune(sparsity=0.5), Verify(), Quantize(), Verify(), validation=colours.labelled(40))
    (warning,) = bench.run.through().report.warnings
    assert warning.startswith("40 labelled samples show the drop no more closely")


def test_a_last_step_behind_the_last_gate_is_measured_nevertheless(make: Any) -> None:
    bench = make(
        Prune(sparsity=0.5), Verify(), Quantize(), files={"0": (FLOAT, INT8_DARK)}, validation=colours.labelled(40)
    )
    assert bench.run.through().report.comparison.drop == 0.75


def test_without_validation_data_a_gate_judges_on_what_was_held_out(make: Any) -> None:
    made = make(Prune(sparsity=0.5), Verify(), Quantize()).run.through()
    assert made.report.comparison.agreement == 1.0
    assert made.report.judged_on == "held-out calibration samples"
    assert made.report.warnings == ()
    made = make(Prune(sparsity=0.5), Verify(), Quantize(), held=False).run.through()
    assert made.report.judged_on == "the calibration samples themselves"
    assert "All samples were used for calibration" in made.report.warnings[0]
    with pytest.raises(AccuracyDropError, match="answers differently"):
        make(Prune(sparsity=0.5), Verify(), Quantize(), files={"0": DARK}).run.through()


# --- refused before the training ------------------------------------------------------------------

SHIFTED = Dataset("shifted", colours.pictures(40)[0], (colours.pictures(40)[1] + 1) % 4)
BEYOND = Dataset("beyond", colours.pictures(40)[0], colours.pictures(40)[1] + 1)
NAMED = Dataset("named", colours.pictures(2)[0], np.arange(2), ("rouge", "vert"))


@pytest.mark.parametrize("which", ["validation", "test"])
@pytest.mark.parametrize("labels", [SHIFTED, BEYOND, NAMED], ids=lambda data: data.name)
def test_labels_that_do_not_fit_are_refused_before_the_training(make: Any, which: str, labels: Dataset) -> None:
    bench = make(FineTune(), Quantize(), **{which: labels})
    with pytest.raises(InputError, match=labels.name):
        bench.run.through()
    assert bench.trained == []


def test_only_a_part_of_the_labels_is_looked_at_before_the_training(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = run.compare

    def compare(original: bytes, quantized: bytes, data: Dataset, **settings: Any) -> Any:
        seen.append(len(data))
        return real(original, quantized, data, **settings)

    monkeypatch.setattr(run, "compare", compare)
    make(FineTune(), Quantize(), validation=colours.labelled(240), test=colours.labelled(80)).run.through()
    assert seen == [200, 80]


def test_what_only_one_input_can_have_is_refused_before_the_training(make: Any, tmp_path: Path) -> None:
    two = Calibration((tmp_path / "0.npy", tmp_path / "1.npy"), False, 20, "ab", 0.0, 1.0, -1.0, 1.0)
    for samples in (Samples(two, None), Samples(None, None)):
        bench = make(FineTune(), Quantize(ranges="mse"), samples=samples)
        with pytest.raises(RecipeError, match="one input"):
            bench.run.through()
        assert bench.trained == []


# --- the account ----------------------------------------------------------------------------------


def test_the_account_has_a_row_and_a_note_for_every_step(make: Any) -> None:
    bench = make(FineTune(), Prune(sparsity=0.5), Quantize(), files={"1": DARK}, test=colours.labelled(40))
    made = bench.run.through()
    assert made.report.account is not None
    rows = made.report.account.entries
    assert [row.step for row in rows] == ["original", "finetune", "prune", "int8"]
    assert [row.notes for row in rows] == [(), ("note 0",), ("note 1",), ()]
    assert [row.seconds for row in rows[:3]] == [0.0, 1.0, 1.0]
    assert [row.quantized.quantized.top1 for row in rows] == [1.0, 1.0, 0.25, 0.25]  # type: ignore[union-attr]
    assert rows[0].latency_ratio == 1.0
    # Without what it will say of itself at the end, the file is the one that was made.
    assert rows[-1].size_bytes < len(made.tflite)


@pytest.mark.parametrize(
    ("given", "words", "samples"),
    [
        ({"test": colours.labelled(16), "validation": colours.labelled(24)}, "test data", 16),
        ({"validation": colours.labelled(24)}, "validation data, which has also judged", 24),
        ({}, "held-out calibration samples", 12),
        ({"held": False}, "the calibration samples themselves", 12),
    ],
    ids=["test", "validation", "held out", "calibration"],
)
def test_the_account_says_what_it_was_measured_on(make: Any, given: Any, words: str, samples: int) -> None:
    account = make(Prune(sparsity=0.5), Quantize(), **given).run.through().report.account
    assert account.measured_on.startswith(words)
    assert {entry.quantized.samples for entry in account.entries} == {samples}


def test_a_recipe_that_only_quantizes_has_an_account_only_with_test_data(make: Any) -> None:
    bench = make(Quantize(), Verify(), validation=colours.labelled(40))
    assert bench.run.through().report.account is None
    assert bench.child.asked == [("float32", "model"), ("int8", "model")]
    bench = make(Quantize(), test=colours.labelled(40))
    assert steps(bench.run.through()) == ["original", "int8"]
    assert "No gate: the recipe has no Verify." in str(bench.run.through().report)


def test_a_scheme_without_calibration_is_accounted_for_where_there_is_data(make: Any) -> None:
    nothing = {"samples": Samples(None, None), "calibration": None}
    assert make(Prune(sparsity=0.5), Quantize("float32"), **nothing).run.through().report.account is None
    made = make(Prune(sparsity=0.5), Quantize("float32"), test=colours.labelled(8), **nothing).run.through()
    assert steps(made) == ["original", "prune", "float32"]
    assert made.report.calibration == {}


def test_equal_work_gives_equal_bytes(make: Any) -> None:
    made = [make(Prune(sparsity=0.5), Verify(), Quantize(), Verify()).run.through() for _ in range(2)]
    assert made[0].tflite == made[1].tflite
    assert read(made[0].tflite).made["measured"]["agreement"] == 1.0  # type: ignore[index]


def test_the_file_says_by_which_recipe_it_was_made(make: Any) -> None:
    made = make(Prune(sparsity=0.5), Quantize()).run.through()
    said = read(made.tflite).made
    assert Recipe.from_json(said["recipe"]) == replace(made.recipe)  # type: ignore[arg-type]
    assert said["versions"].keys() == {"edgeinfer", "keras"}  # type: ignore[union-attr]
