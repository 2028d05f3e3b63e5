"""`convert()`: first with a stand-in for the child process, whose files answer what can be said by hand.

The stand-in needs no TensorFlow: what the parent decides, checks and reports is the same. The real thing follows below.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import colours
import numpy as np
import pytest
import tiny_models

import converters
from converters import Card, Distill, FineTune, Fit, Prune, Quantize, Recipe, Training, Verify, convert
from converters.convert import Conversion
from converters.errors import AccuracyDropError, CalibrationError, ConversionError, RecipeError
from converters.facts import ModelFacts, TensorFacts
from converters.graph.leading import Leading
from converters.quantize.ptq import ConvertFacts, ConvertRequest
from converters.report import Report
from edgeinfer import __version__
from edgeinfer.dataset import Dataset
from edgeinfer.errors import InputError, InputFileError, MetadataError, OutputError
from edgeinfer.model.metadata import Normalization, Rescaling, read
from edgeinfer.model.ops import ceilings
from edgeinfer.model.schema import parse
from edgeinfer.runtime.runtime import Runtime
from edgeinfer.tasks import classifier

pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: metadata is written on workstations")

ROOT = Path(converters.__file__).parents[1]
NAMES = ("red", "green", "blue", "dark")
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]], np.uint8)
FACTS = ModelFacts(
    "colours",
    "keras",
    (TensorFacts("image", (1, 8, 8, 3), "float32"),),
    (TensorFacts("answer", (1, 4), "float32"),),
    leading=Leading(1 / 255, 0.0, ("rescaling",)),
    versions={"keras": "3"},
)
FLOAT = tiny_models.classifier(dtype="float32")
INT8 = tiny_models.classifier(dtype="int8")
# Its input spans eight times what pixels come to, so a full channel stays below a quarter of the range: always "dark".
ALWAYS_DARK = tiny_models.classifier(dtype="int8", input_range=(0.0, 8.0))
UNCHECKED = Recipe((Quantize(),))
TAUGHT = Recipe((Distill(), Quantize()))


class StandIn:
    """Answers as `ConverterProcess` does, with files made by hand."""

    def __init__(self) -> None:
        self.facts = FACTS
        self.quantized = INT8
        self.original = FLOAT
        self.started = 0
        self.loaded: list[Path] = []
        self.requests: list[ConvertRequest] = []
        self.samples: list[Any] = []
        self.failure: BaseException | None = None

    def __call__(self) -> StandIn:
        return self

    def __enter__(self) -> StandIn:
        self.started += 1
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def load(self, path: Path) -> ModelFacts:
        self.loaded.append(path)
        return self.facts

    def convert(self, request: ConvertRequest) -> ConvertFacts:
        self.requests.append(request)
        self.samples.append([np.load(path) for path in request.calibration])
        if self.failure is not None:
            raise self.failure
        request.output.write_bytes(self.original if request.scheme == "float32" else self.quantized)
        return ConvertFacts(request.output, request.output.stat().st_size, 0, 0.0)


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    # By name it would be the function: the package exports one of the same name.
    monkeypatch.setattr(import_module("converters.convert"), "ConverterProcess", stand_in)
    return stand_in


def photos(count: int = 40) -> Any:
    """Pictures of one colour each, red, green, blue, dark in turn, with a little noise: (n, 8, 8, 3) uint8."""
    plain = np.broadcast_to(COLOURS[np.arange(count) % 4][:, None, None, :], (count, 8, 8, 3)).astype(np.int64)
    noise = np.random.default_rng(4).integers(-20, 21, plain.shape)
    return np.clip(plain + noise, 0, 255).astype(np.uint8)


def labelled(count: int = 40) -> Training:
    return Training(validation=Dataset("labelled", photos(count), np.arange(count) % 4))


# --- what comes out -------------------------------------------------------------------------------


def test_the_file_says_what_the_model_and_the_card_say(child: StandIn) -> None:
    made = convert("colours.keras", photos(), card=Card(labels=NAMES, author="A. Person"))
    said = read(made.tflite)
    assert said == replace(made.metadata, made=said.made)
    assert (said.name, said.task, said.author) == ("colours", "classification", "A. Person")
    assert said.outputs[0].labels == NAMES
    assert said.inputs[0].normalization == Normalization(0, 255)
    assert said.inputs[0].rescaling == Rescaling(1 / 255, 0.0)
    assert child.loaded == [Path("colours.keras")]


def test_the_file_says_how_it_was_made(child: StandIn) -> None:
    recipe = Recipe((Quantize(samples=30), Verify()), seed=5)
    made = read(convert("m", photos(), recipe=recipe, card=Card(labels=NAMES)).tflite).made
    assert Recipe.from_json(made["recipe"]) == recipe  # type: ignore[arg-type]
    calibration, measured = made["calibration"], made["measured"]
    assert isinstance(calibration, dict)
    assert isinstance(measured, dict)
    assert (calibration["samples"], calibration["unit"], len(str(calibration["sha256"]))) == (30, "pixels", 64)
    assert (measured["samples"], measured["agreement"], measured["top1_float"]) == (10, 1.0, None)
    assert made["versions"] == {"edgeinfer": __version__, "keras": "3"}


def test_the_finished_file_answers_on_the_device(child: StandIn) -> None:
    made = convert("m", photos(), card=Card(labels=NAMES))
    assert classifier(made.tflite)(photos()[1]).label == "green"


def test_equal_work_gives_equal_bytes(child: StandIn) -> None:
    first, second = (convert("m", photos(), card=Card(labels=NAMES)) for _ in range(2))
    assert first.tflite == second.tflite


def test_a_conversion_is_saved_whole_and_shows_what_it_is(child: StandIn, tmp_path: Path) -> None:
    made = convert("m", photos())
    made.save(tmp_path / "m.tflite")
    assert (tmp_path / "m.tflite").read_bytes() == made.tflite
    assert repr(made) == f"Conversion(colours, {len(made.tflite)} bytes, int8)"
    with pytest.raises(OutputError):
        made.save(tmp_path / "none" / "m.tflite")


def test_the_report_has_the_sizes_of_both_files_with_what_they_say(child: StandIn) -> None:
    made = convert("m", photos(), card=Card(labels=NAMES))
    assert [row.step for row in made.report.rows] == ["float32", "int8"]
    assert made.report.rows[1].size_bytes == len(made.tflite)
    assert made.report.rows[0].size_bytes > len(FLOAT)
    # 4 x 3 weights and 4 biases.
    assert made.report.rows[0].parameters == 16
    assert all(gate.ok for gate in made.report.gates)


def test_progress_names_the_stages_in_their_order(child: StandIn) -> None:
    said: list[str] = []
    convert("m", photos(), recipe=Recipe((Quantize(samples=30), Verify())), progress=lambda one: said.append(one.step))
    assert list(dict.fromkeys(said)) == [
        "load the model",
        "calibration data",
        "convert the float reference",
        "convert to int8",
        "verify",
    ]


# --- what the child is asked for ------------------------------------------------------------------


def test_the_child_gets_pixels_and_the_normalization_behind_the_layer(child: StandIn) -> None:
    child.facts = replace(FACTS, leading=Leading(1 / 127.5, -1.0))
    child.quantized = tiny_models.classifier(dtype="int8", input_range=(-1.0, 1.0))
    convert("m", photos(), recipe=UNCHECKED)
    (request,) = child.requests
    assert request.normalization == pytest.approx((127.5, 127.5))
    assert (request.scheme, request.io) == ("int8", "int8")
    assert child.samples[0][0].dtype == np.uint8


def test_floats_go_to_the_child_without_a_normalization(child: StandIn) -> None:
    convert("m", photos().astype(np.float32), recipe=UNCHECKED)
    assert child.requests[0].normalization is None
    assert child.samples[0][0].dtype == np.float32


def test_the_recipe_says_how_many_samples_and_its_seed_which(child: StandIn) -> None:
    array = photos()
    for seed in (1, 1, 2):
        convert("m", array, recipe=Recipe((Quantize(samples=5),), seed=seed))
    first, again, other = (samples[0] for samples in child.samples)
    assert first.shape == (5, 8, 8, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("name", "scheme", "per_tensor"),
    [("cpu", "dynamic", False), ("raspberrypi-tflite", "dynamic", True), ("raspberrypi-tflite", "float16", False)],
)
def test_dense_weights_have_one_scale_where_the_target_needs_it(
    child: StandIn, name: str, scheme: Any, per_tensor: bool
) -> None:
    child.quantized = FLOAT
    convert("m", None, recipe=Recipe((Quantize(scheme),), target=name))
    assert (child.requests[0].per_tensor_dense, child.requests[0].io) == (per_tensor, "float32")
    assert child.requests[0].calibration == ()


def test_without_a_check_there_is_no_float_reference(child: StandIn) -> None:
    made = convert("m", photos(), recipe=UNCHECKED)
    assert [request.scheme for request in child.requests] == ["int8"]
    assert made.report.comparison is None
    assert "Not verified" in str(made.report)


# --- the check ------------------------------------------------------------------------------------


def test_without_validation_data_agreement_is_measured_on_samples_that_were_held_out(child: StandIn) -> None:
    made = convert("m", photos(40), recipe=Recipe((Quantize(samples=30), Verify())))
    comparison = made.report.comparison
    assert comparison is not None
    assert (comparison.samples, comparison.agreement, comparison.drop) == (10, 1.0, None)
    assert "agreement, not accuracy" in str(made.report)
    assert made.report.warnings == ()


def test_a_check_on_the_calibration_samples_themselves_is_said_to_be_one(child: StandIn) -> None:
    made = convert("m", photos(40))
    assert any("All samples were used for calibration" in one for one in made.report.warnings)
    warnings = convert("m", photos(40), training=labelled()).report.warnings
    assert not any("calibration" in one for one in warnings)


def test_labels_of_the_calibration_data_are_no_validation(child: StandIn) -> None:
    data = Dataset("labelled", photos(), np.zeros(40, np.int64))
    assert convert("m", data).report.comparison.drop is None  # type: ignore[union-attr]


def test_validation_data_measures_the_accuracy_of_both(child: StandIn) -> None:
    comparison = convert("m", photos(), training=labelled(20)).report.comparison
    assert comparison is not None
    assert (comparison.samples, comparison.drop) == (20, 0.0)
    assert comparison.original is not None
    assert comparison.original.top1 == 1.0


def test_a_drop_beyond_the_gate_is_an_error_that_keeps_the_work(child: StandIn, tmp_path: Path) -> None:
    child.quantized = ALWAYS_DARK
    with pytest.raises(AccuracyDropError, match="lost more accuracy") as caught:
        convert("m", photos(), recipe=Recipe((Quantize(), Verify(max_drop=0.74))), training=labelled())
    error = caught.value
    assert error.exit_code == 1
    assert "75.00 points on 40 samples" in error.received
    assert "74.00 points" in error.expected
    assert isinstance(error.report, Report)
    assert isinstance(error.conversion, Conversion)
    assert error.conversion.report is error.report
    error.conversion.save(tmp_path / "kept.tflite")
    assert classifier(tmp_path / "kept.tflite")(photos()[0]).class_id[0] == 3


def test_a_loss_that_no_gate_has_seen_is_said(child: StandIn) -> None:
    child.quantized = ALWAYS_DARK
    test = Training(test=Dataset("unseen", photos(400), np.arange(400) % 4))
    made = convert("m", photos(), recipe=UNCHECKED, training=test)
    assert any("lost 75.00 points" in one and "no Verify" in one for one in made.report.warnings)
    child.quantized = INT8
    assert not any("Verify" in one for one in convert("m", photos(), recipe=UNCHECKED, training=test).report.warnings)


def test_training_data_that_no_step_uses_is_said_to_be_unused(child: StandIn) -> None:
    unused = Training(train=Dataset("unused", photos(40), np.arange(40) % 4))
    assert any("was not used" in one for one in convert("m", photos(), training=unused).report.warnings)


def test_a_drop_as_large_as_the_gate_passes(child: StandIn) -> None:
    child.quantized = ALWAYS_DARK
    made = convert("m", photos(), recipe=Recipe((Quantize(), Verify(max_drop=0.75))), training=labelled())
    assert made.report.comparison.drop == 0.75  # type: ignore[union-attr]


def test_too_little_agreement_is_an_error_too(child: StandIn) -> None:
    child.quantized = ALWAYS_DARK
    with pytest.raises(AccuracyDropError, match="answers differently") as caught:
        convert("m", photos(), recipe=Recipe((Quantize(), Verify(min_agreement=0.26))))
    assert "25.00%" in caught.value.received
    convert("m", photos(), recipe=Recipe((Quantize(), Verify(min_agreement=0.25))))


@pytest.mark.parametrize("own", ["functional_12", "sequential", "model_1"])
def test_a_model_that_nobody_named_is_called_like_its_file(child: StandIn, own: str) -> None:
    child.facts = replace(FACTS, name=own)
    assert convert("models/birds.keras", photos(), recipe=UNCHECKED).metadata.name == "birds"
    assert convert("models/birds.keras", photos(), recipe=UNCHECKED, card=Card(name="Birds")).metadata.name == "Birds"


def test_labelled_data_makes_a_classification_of_a_row_of_logits(child: StandIn) -> None:
    # No softmax at its end: output k is (k + 1) times the sum, so class 1 wins on any sum above 0.
    child.facts = ModelFacts(
        "sums", "keras", (TensorFacts("rows", (1, 6), "float32"),), (TensorFacts("answer", (1, 2), "float32"),)
    )
    child.original = tiny_models.dense()
    recipe = Recipe((Quantize("float32"), Verify(max_drop=0)))
    validation = Dataset("rows", np.ones((4, 6), np.float32), np.array([1, 1, 1, 0]))
    made = convert("m", None, recipe=recipe, training=Training(validation=validation))
    assert made.metadata.task == "classification"
    assert made.report.comparison is not None
    assert made.report.comparison.original is not None
    assert made.report.comparison.original.top1 == 3 / 4


def test_every_gate_of_a_recipe_counts(child: StandIn) -> None:
    child.quantized = ALWAYS_DARK
    with pytest.raises(AccuracyDropError):
        convert("m", photos(), recipe=Recipe((Quantize(), Verify(min_agreement=0.1), Verify(min_agreement=0.9))))


def test_an_input_calibrated_for_another_range_is_a_warning_of_the_report(child: StandIn) -> None:
    child.quantized = ALWAYS_DARK
    (warning,) = convert("m", photos(), recipe=UNCHECKED).report.warnings
    assert "8.0 times wider" in warning


# --- data in all its forms ------------------------------------------------------------------------


def test_a_mapping_with_one_array_is_that_array(child: StandIn) -> None:
    array = photos()
    plain, mapped = convert("m", array), convert("m", {"image": array})
    assert mapped.tflite == plain.tflite
    with pytest.raises(CalibrationError, match="one array per input"):
        convert("m", {"picture": array})


def test_a_mapping_of_floats_is_checked_against_the_declared_range_too(child: StandIn) -> None:
    child.facts = replace(FACTS, leading=None)
    with pytest.raises(CalibrationError, match="not what the model was trained on"):
        convert("m", {"image": photos().astype(np.float32)}, card=Card(normalization=(0, 255)))


def test_floats_need_no_normalization(child: StandIn) -> None:
    child.facts = replace(FACTS, leading=None)
    made = convert("m", photos().astype(np.float32) / 255)
    assert read(made.tflite).inputs[0].normalization is None
    assert made.report.comparison.agreement == 1.0  # type: ignore[union-attr]


def test_pictures_for_a_model_with_several_inputs_are_refused_with_its_inputs(child: StandIn) -> None:
    child.facts = replace(FACTS, inputs=(*FACTS.inputs, TensorFacts("row", (1, 5), "float32")), leading=None)
    with pytest.raises(CalibrationError, match="several inputs") as caught:
        convert("m", photos())
    assert "`image` (1, 8, 8, 3), `row` (1, 5)" in caught.value.expected


def test_arrays_of_other_lengths_are_not_cut_to_the_shortest(child: StandIn) -> None:
    child.facts = replace(FACTS, inputs=(*FACTS.inputs, TensorFacts("row", (1, 5), "float32")), leading=None)
    arrays = {"image": np.ones((9, 8, 8, 3), np.float32), "row": np.ones((8, 5), np.float32)}
    with pytest.raises(CalibrationError, match="same number of samples"):
        convert("m", arrays)


# --- refused before the child has started ---------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"training": Training(validation=Dataset("mine", photos(3)))}, InputError, "validation data has no labels"),
        ({"training": Training(validation="none-such")}, InputFileError, "no data here"),
        ({"training": Training(validation=(photos(3), [0, 1, 2]))}, InputError, "This is no validation data"),
        ({"training": Training(test=Dataset("mine", photos(3)))}, InputError, "test data has no labels"),
        ({"training": Training(train=Dataset("mine", photos(3)))}, InputError, "training data has no labels"),
        ({"recipe": Recipe((FineTune(), Quantize()))}, RecipeError, "no training data"),
        ({"recipe": TAUGHT, "training": Training(train=photos(3))}, RecipeError, "only teach itself"),
        ({"recipe": TAUGHT, "training": Training(train=0, teacher="none.keras")}, InputFileError, "teacher does not"),
        ({"training": Training(teacher="big.keras")}, RecipeError, "no step asks it"),
        ({"calibration": "none-such"}, InputFileError, "no data here"),
        ({"calibration": []}, CalibrationError, "empty"),
        ({"calibration": None}, CalibrationError, "needs calibration data"),
        ({"calibration": None, "recipe": Recipe((Quantize("int16x8"),))}, CalibrationError, "needs calibration data"),
        ({"calibration": None, "recipe": Recipe((Quantize("float16"), Verify()))}, CalibrationError, "verify on"),
    ],
    ids=[
        "validation without labels",
        "validation that is not there",
        "validation as a pair",
        "test without labels",
        "training data without labels",
        "training without data",
        "a model as its own teacher",
        "a teacher that is not there",
        "a teacher whom nobody asks",
        "calibration that is not there",
        "calibration that is empty",
        "int8 without calibration",
        "int16x8 without calibration",
        "a check without data",
    ],
)
def test_what_cannot_work_is_refused_before_the_child_starts(
    child: StandIn, settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    calibration = settings.pop("calibration", photos(3))
    with pytest.raises(error, match=words):
        convert("m", calibration, **settings)
    assert child.started == 0


@pytest.mark.parametrize("labels", [NAMES[:3], (*NAMES, "more")], ids=["fewer", "more"])
def test_labels_that_do_not_fit_are_refused_before_the_conversion(child: StandIn, labels: tuple[str, ...]) -> None:
    with pytest.raises(MetadataError, match="labels"):
        convert("m", photos(), card=Card(labels=labels))
    assert child.requests == []


def test_nothing_is_left_on_disk_when_the_child_fails(
    child: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for failure in (ConversionError("The converter failed."), KeyboardInterrupt()):
        child.failure = failure
        with pytest.raises(type(failure)):
            convert("m", photos())
    assert list(tmp_path.iterdir()) == []


# --- the real thing -------------------------------------------------------------------------------

KINDS = ("wren", "robin", "tit", "finch", "crow")
LENIENT = Verify(max_drop=1.0, min_agreement=0.0)  # the small models are not trained, their answers lie close together


def noise(count: int = 48, size: int = 16) -> Any:
    """Random pictures: (n, size, size, 3) uint8."""
    return np.random.default_rng(11).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def answers(tflite: bytes, pictures: Any) -> Any:
    """What the file answers for pictures, through the device's pipeline: (n, classes) float32 by class."""
    classify = classifier(tflite, top_k=99)
    rows = []
    for picture in pictures:
        found = classify(picture)
        rows.append(found.confidence[np.argsort(found.class_id)])
    return np.stack(rows)


def ends(tflite: bytes) -> tuple[str, str]:
    said = read(tflite)
    return said.inputs[0].dtype, said.outputs[0].dtype


@pytest.fixture(scope="module")
def own_answers(keras: Any, small_models: dict[str, Path]) -> Any:
    """What Keras itself says to `noise`: (n, 5)."""
    return keras.models.load_model(small_models["rescaled"]).predict(noise().astype(np.float32), verbose=0)


@pytest.fixture(scope="module")
def int8(small_models: dict[str, Path]) -> Conversion:
    """The small model with a Rescaling, calibrated with pixels."""
    recipe = Recipe((Quantize("int8", samples=32), LENIENT))
    return convert(small_models["rescaled"], noise(), recipe=recipe, card=Card(labels=KINDS))


@pytest.mark.tensorflow
def test_a_small_model_becomes_full_int8_with_all_it_says_of_itself(int8: Conversion, own_answers: Any) -> None:
    assert ends(int8.tflite) == ("int8", "int8")
    (spec,) = read(int8.tflite).inputs
    assert spec.normalization == Normalization(127.5, 127.5)
    assert spec.scale == pytest.approx(2 / 255)
    assert spec.zero_point in (0, -1)
    assert read(int8.tflite).outputs[0].labels == KINDS
    assert answers(int8.tflite, noise()) == pytest.approx(own_answers, abs=0.05)
    assert int8.report.comparison is not None
    assert int8.report.comparison.samples == 16


@pytest.mark.tensorflow
def test_a_folder_of_pictures_is_the_same_calibration_as_their_pixels(
    int8: Conversion, small_models: dict[str, Path], tmp_path: Path
) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for number, picture in enumerate(noise()):
        pillow.fromarray(picture).save(tmp_path / f"{number:03}.png")
    again = convert(small_models["rescaled"], tmp_path, recipe=int8.recipe, card=Card(labels=KINDS))
    assert again.tflite == int8.tflite


_SCRIPT = """
import sys
import numpy as np
from converters import Card, Quantize, Recipe, Verify, convert
model, data, output, *labels = sys.argv[1:]
recipe = Recipe((Quantize("int8", samples=32), Verify(max_drop=1.0, min_agreement=0.0)))
convert(model, np.load(data), recipe=recipe, card=Card(labels=labels)).save(output)
print(sorted({name.split(".")[0] for name in sys.modules} & {"tensorflow", "keras", "tf_keras"}))
"""


@pytest.mark.tensorflow
def test_the_parent_never_imports_tensorflow_and_makes_the_same_bytes_again(
    int8: Conversion, small_models: dict[str, Path], tmp_path: Path
) -> None:
    np.save(tmp_path / "noise.npy", noise())
    words = [small_models["rescaled"], tmp_path / "noise.npy", tmp_path / "out.tflite", *KINDS]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
    assert (tmp_path / "out.tflite").read_bytes() == int8.tflite


@pytest.mark.tensorflow
def test_a_live_model_with_uint8_ends_takes_pixels_as_they_are(
    keras: Any, small_models: dict[str, Path], own_answers: Any
) -> None:
    model = keras.models.load_model(small_models["rescaled"])
    made = convert(model, iter(noise()), recipe=Recipe((Quantize("int8", io="uint8"),)))
    assert ends(made.tflite) == ("uint8", "uint8")
    (spec,) = read(made.tflite).inputs
    assert spec.scale == pytest.approx(2 / 255)
    assert spec.zero_point in (127, 128)
    assert answers(made.tflite, noise()) == pytest.approx(own_answers, abs=0.05)


@pytest.mark.tensorflow
def test_float_ends_take_floats_and_compute_in_int8(small_models: dict[str, Path], own_answers: Any) -> None:
    made = convert(small_models["rescaled"], noise(), recipe=Recipe((Quantize("int8", io="float32"),)))
    assert ends(made.tflite) == ("float32", "float32")
    ops = [operator.op for operator in parse(made.tflite).main.operators]
    assert (ops[0], ops[-1]) == ("QUANTIZE", "DEQUANTIZE")
    assert answers(made.tflite, noise()) == pytest.approx(own_answers, abs=0.05)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("scheme", "tolerance"), [("float32", 1e-4), ("float16", 5e-3), ("dynamic", 0.05), ("int16x8", 0.02)]
)
def test_every_other_scheme_runs_on_every_engine_of_a_raspberry_pi_and_answers_as_keras_does(
    small_models: dict[str, Path], own_answers: Any, scheme: Any, tolerance: float
) -> None:
    recipe = Recipe((Quantize(scheme),), target="raspberrypi-tflite")
    made = convert(small_models["rescaled"], noise(), recipe=recipe)
    assert ends(made.tflite) == ("float32", "float32")
    assert answers(made.tflite, noise()) == pytest.approx(own_answers, abs=tolerance)
    # And so do floats, through the rescaling that the file keeps for them.
    rows = [picture.astype(np.float32) for picture in noise()]
    assert answers(made.tflite, rows) == pytest.approx(own_answers, abs=tolerance)
    for name in ("litert", "tflite-runtime"):
        versions = ceilings(name).versions
        assert all(code.version <= versions[code.op] for code in parse(made.tflite).op_codes)


@pytest.mark.tensorflow
def test_several_inputs_are_calibrated_by_name_and_have_an_error_share(small_models: dict[str, Path]) -> None:
    random = np.random.default_rng(5)
    arrays = {"ant": random.uniform(-1, 1, (30, 4)), "zebra": random.uniform(0, 1, (30, 8, 8, 1))}
    made = convert(small_models["two_inputs"], arrays, recipe=Recipe((Quantize(samples=20), Verify())))
    said = read(made.tflite)
    assert [spec.name for spec in said.inputs] == ["zebra", "ant"]
    assert (said.task, made.report.calibration["unit"]) == ("tensors", "model input")
    assert made.report.comparison is not None
    assert made.report.comparison.samples == 10
    assert made.report.comparison.error is not None
    assert 0 < made.report.comparison.error < 0.1


@pytest.mark.tensorflow
def test_a_model_without_classes_has_an_error_share_and_answers_as_keras_does(
    keras: Any, small_models: dict[str, Path]
) -> None:
    own = np.random.default_rng(6).uniform(-1, 1, (40, 8, 8, 3)).astype(np.float32)
    made = convert(small_models["residual"], own, recipe=Recipe((Quantize(samples=30), Verify())))
    assert read(made.tflite).task == "tensors"
    comparison = made.report.comparison
    assert comparison is not None
    assert comparison.error is not None
    assert 0 < comparison.error < 0.2
    assert "This is an error, not an accuracy." in str(made.report)
    wanted = keras.models.load_model(small_models["residual"]).predict(own, verbose=0)
    run = Runtime(made.tflite)
    got = np.concatenate([next(iter(run(one).values())) for one in own])
    share = np.sqrt(np.square(got - wanted).sum() / np.square(wanted).sum())
    assert share < 0.2
    assert json.loads(json.dumps(made.report.to_json()))["agreement"] is None


@pytest.mark.tensorflow
def test_a_model_of_tokens_is_converted_compared_and_answers(keras: Any, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((12,), dtype="int32", name="tokens"),
            layers.Embedding(50, 8),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.save(tmp_path / "tokens.keras")
    tokens = np.random.default_rng(2).integers(0, 50, (40, 12), dtype=np.int32)
    made = convert(tmp_path / "tokens.keras", tokens, recipe=Recipe((Quantize("dynamic", samples=20), Verify())))
    assert made.metadata.inputs[0].dtype == "int32"
    assert made.report.comparison is not None
    assert made.report.comparison.agreement == 1.0
    own = model.predict(tokens[:5], verbose=0)
    assert answers(made.tflite, list(tokens[:5])) == pytest.approx(own, abs=0.02)


# --- recipes that train ---------------------------------------------------------------------------

FIT = Fit(batch_size=32)


def trained(model: Any, *steps: Any, **given: Any) -> Conversion:
    """Convert the network of `colours` with all its data."""
    settings = {
        "train": colours.pictures(96, 5),
        "validation": colours.labelled(60, 6),
        "test": colours.labelled(48, 7),
    }
    training = Training(**{**settings, **given.pop("training", {})})
    card = Card(labels=colours.NAMES)
    pixels = colours.pictures(40, 8)[0]
    return convert(model, pixels, recipe=Recipe(steps, fit=FIT, seed=2), card=card, training=training, **given)


def accuracy(tflite: bytes) -> float:
    """On pictures that nobody else has seen, through the device's pipeline."""
    x, y = colours.pictures(80, 9)
    return float((answers(tflite, x).argmax(axis=1) == y).mean())


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "quantize",
    [
        Quantize(epochs=1),
        Quantize(ranges="percentile"),
        Quantize(equalize=True, correct_bias=True),
        Quantize(equalize=True, ranges="mse", io="uint8"),
    ],
    ids=["trained for int8", "percentile", "equalized", "all but training"],
)
def test_a_prepared_quantization_is_full_int8_and_as_right_as_before(
    shared_child: Any, colour_model: Path, quantize: Quantize
) -> None:
    made = trained(colour_model, quantize, Verify(max_drop=0.0))
    assert ends(made.tflite) == (quantize.io or "int8",) * 2
    assert all(tensor.dtype in ("int8", "uint8", "int32") for tensor in parse(made.tflite).main.tensors)
    assert accuracy(made.tflite) == 1.0
    assert read(made.tflite).inputs[0].scale == pytest.approx(2 / 255)
    account = made.report.account
    assert account is not None
    assert [entry.step for entry in account.entries] == ["original", "int8"]
    assert account.entries[1].notes


@pytest.mark.tensorflow
def test_single_layers_stay_float_behind_a_step_that_trains(shared_child: Any, colour_model: Path) -> None:
    made = trained(colour_model, FineTune(epochs=1), Quantize(fallback={"stem": "float32"}))  # type: ignore[arg-type]
    kinds = [operator.op for operator in parse(made.tflite).main.operators]
    assert "DEQUANTIZE" in kinds
    assert accuracy(made.tflite) == 1.0


@pytest.mark.tensorflow
def test_zeros_of_a_pruning_are_still_there_in_the_int8_file(shared_child: Any, colour_model: Path) -> None:
    made = trained(colour_model, Prune("weight", sparsity=0.6), Distill(epochs=1), Quantize(epochs=1))
    account = made.report.account
    assert account is not None
    assert "60.0% of the weights are zero; the latency does not change" in account.entries[1].notes
    assert accuracy(made.tflite) == 1.0
    main = parse(made.tflite).main
    weights = [main.tensors[operator.inputs[1]] for operator in main.operators if len(operator.inputs) == 3]
    values = [np.frombuffer(one.constant or b"", np.int8) for one in weights if one.dtype == "int8"]
    assert sum(one.size for one in values) == 3 * 9 * 16 + 2 * 9 * 16 * 16 + 16 * 4
    assert sum(int((one == 0).sum()) for one in values) >= int(0.6 * 5104)


@pytest.mark.tensorflow
def test_a_folder_of_pictures_trains_and_what_is_kept_is_taken_again(
    shared_child: Any, colour_model: Path, tmp_path: Path
) -> None:
    pillow = pytest.importorskip("PIL.Image")
    x, y = colours.pictures(40, 5)
    for number, picture in enumerate(x):
        folder = tmp_path / "train" / colours.NAMES[y[number]]
        folder.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(picture).save(folder / f"{number}.png")
    steps = (Prune(sparsity=0.25, align=4, epochs=1), Quantize())
    first, second = (
        trained(colour_model, *steps, training={"train": tmp_path / "train"}, work=tmp_path / "work") for _ in range(2)
    )
    assert first.tflite == second.tflite
    assert [
        ["taken from a former run" in entry.notes for entry in made.report.account.entries]  # type: ignore[union-attr]
        for made in (first, second)
    ] == [[False, False, False], [False, True, False]]


@pytest.mark.tensorflow
def test_a_budget_of_multiplications_is_met_and_every_row_of_the_account_has_its_own(
    shared_child: Any, colour_model: Path
) -> None:
    made = trained(
        colour_model,
        Prune("block", sparsity=0.9),
        Verify(max_drop=1.0),
        Prune(macs=0.05, align=2, epochs=1),
        Quantize(),
        Verify(max_drop=1.0),
    )
    account = made.report.account
    assert account is not None
    macs = [entry.macs for entry in account.entries]
    assert [entry.step for entry in account.entries] == ["original", "prune", "prune", "int8"]
    # By hand: 64 places of 3 x 3 x (3 x 16 + 16 x 16 + 16 x 16) and 16 x 4; then without the branch.
    assert macs[0] == 64 * 9 * (48 + 256 + 256) + 64
    assert macs[1] == 64 * 9 * 48 + 64
    assert macs[3] == macs[2] <= 0.05 * macs[0]
    assert account.entries[0].latency_ratio == 1.0
    assert account.measured_on == "test data"
    assert {entry.quantized.samples for entry in account.entries} == {48}
    assert "prune: 1 of 1 blocks went" in str(made.report)


@pytest.mark.tensorflow
def test_a_gate_behind_a_pruning_stops_the_recipe_and_keeps_the_float_model(
    shared_child: Any, colour_model: Path, tmp_path: Path
) -> None:
    steps = (Prune(sparsity=0.9, align=1), Verify(max_drop=0.0), FineTune(epochs=1), Quantize())
    with pytest.raises(AccuracyDropError, match="lost more accuracy") as caught:
        trained(colour_model, *steps, work=tmp_path / "work")
    conversion = caught.value.conversion
    assert isinstance(conversion, Conversion)
    assert ends(conversion.tflite) == ("float32", "float32")
    assert conversion.report is caught.value.report
    assert accuracy(conversion.tflite) < 1.0
    assert not list((tmp_path / "work").glob("3-*"))


@pytest.mark.tensorflow
@pytest.mark.parametrize("place", ["file", "proc"])
def test_a_work_folder_that_cannot_be_written_to_is_an_error_of_ours(
    shared_child: Any, colour_model: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / "file" if place == "file" else Path("/proc/self")
    if not folder.exists():
        pytest.skip("no folder here that even root cannot write to")
    with pytest.raises(OutputError, match="cannot be written to") as caught:
        trained(colour_model, FineTune(epochs=1), Quantize(), work=folder)
    assert str(folder) in caught.value.received
    assert caught.value.exit_code == 3
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.tensorflow
def test_a_model_without_layers_that_can_be_kept_is_refused_before_the_training(
    shared_child: Any, keras: Any, tmp_path: Path
) -> None:
    @keras.saving.register_keras_serializable()
    class Halved(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs / 255

    layers = keras.layers
    own = keras.Sequential([keras.Input((8, 8, 3)), Halved(), layers.Flatten(), layers.Dense(4, activation="softmax")])
    with pytest.raises(RecipeError, match="hold no code"):
        convert(
            own,
            colours.floats(20),
            recipe=Recipe((FineTune(epochs=1), Quantize())),
            training=Training(train=(colours.floats(20), colours.pictures(20)[1])),
            work=tmp_path / "work",
        )
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.tensorflow
def test_a_model_of_several_inputs_is_pruned_without_training(shared_child: Any, keras: Any) -> None:
    keras.utils.set_random_seed(5)
    layers = keras.layers
    picture, numbers = keras.Input((8, 8, 1), name="zebra"), keras.Input((4,), name="ant")
    seen = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, activation="relu", name="conv")(picture))
    model = keras.Model([picture, numbers], layers.Dense(3, name="zeta")(layers.Concatenate()([seen, numbers])))
    random = np.random.default_rng(5)
    arrays = {"ant": random.uniform(-1, 1, (30, 4)), "zebra": random.uniform(0, 1, (30, 8, 8, 1))}
    recipe = Recipe((Prune(sparsity=0.5, align=1), Quantize(samples=20), Verify(max_error=1.0)))
    made = convert(model, arrays, recipe=recipe)
    assert [spec.name for spec in read(made.tflite).inputs] == ["zebra", "ant"]
    account = made.report.account
    assert account is not None
    assert account.entries[0].macs > account.entries[1].macs
    assert account.entries[1].quantized.error is not None
    with pytest.raises(RecipeError, match="one input"):
        convert(model, arrays, recipe=Recipe((Prune(sparsity=0.5, align=1), Quantize(ranges="mse"))))
