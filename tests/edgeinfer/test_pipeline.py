"""`Pipeline`, `classifier` and `load`: what goes in, what comes out, and where the time went."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from PIL import Image as PillowImage

from edgeinfer.errors import InputError, InputFileError, MetadataError, WrongTaskError
from edgeinfer.model.metadata import Resize
from edgeinfer.pipeline import Pipeline
from edgeinfer.preprocess.geometry import View
from edgeinfer.preprocess.tensor import letterbox
from edgeinfer.results import Classifications
from edgeinfer.runtime.runtime import Runtime, Tensors
from edgeinfer.tasks import classifier, load

pytestmark = pytest.mark.device

NAMES = ("red", "green", "blue", "dark")
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "dark": (0, 0, 0)}
PIXELS = (0.0, 255.0)  # normalization to 0..1


def picture(colour: str, size: tuple[int, int] = (32, 24)) -> np.ndarray:
    """(height, width, 3) uint8 of one colour."""
    return np.full((size[1], size[0], 3), COLOURS[colour], dtype=np.uint8)


def png(colour: str) -> bytes:
    out = io.BytesIO()
    PillowImage.fromarray(picture(colour)).save(out, "PNG")
    return out.getvalue()


def colours(dtype: str = "int8") -> bytes:
    return tiny_models.classifier(dtype=dtype, labels=NAMES, normalization=PIXELS)


@pytest.fixture
def classify() -> Pipeline[Classifications]:
    return classifier(colours())


def four_outputs() -> bytes:
    tensors = [tiny_models.TensorSpec(name, (1, 4, 4, 3)) for name in ("image", "boxes", "classes", "scores", "count")]
    operators = [tiny_models.OperatorSpec(tiny_models.LOGISTIC, (0,), (index,)) for index in range(1, 5)]
    return tiny_models.model(tensors, operators, inputs=[0], outputs=[1, 2, 3, 4])


# --- what goes in ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32"])
@pytest.mark.parametrize("colour", NAMES)
def test_every_dtype_answers_with_the_colour(dtype: str, colour: str) -> None:
    found = classifier(colours(dtype))(picture(colour))
    assert found.label == colour
    # Strongest channel: e^8 / (e^8 + 2 + e^2) = 0.9968; all dark: e^2 / (e^2 + 3) = 0.711.
    assert found.confidence[0] == pytest.approx(0.711 if colour == "dark" else 0.9968, abs=0.02)


def test_a_path_as_text_or_path_and_its_bytes_are_read(classify: Pipeline[Classifications], tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(png("green"))
    assert [classify(source).label for source in (str(path), path, png("green"))] == ["green"] * 3


def test_a_grey_array_is_a_picture(classify: Pipeline[Classifications]) -> None:
    # All three channels alike: equals come by class number, and 255 is e^8 / (3 e^8 + e^2) each.
    found = classify(np.full((24, 32), 255, dtype=np.uint8))
    assert found.class_id.tolist() == [0, 1, 2, 3]
    assert found.confidence[0] == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 8, 8, 3)], ids=["without batch", "with batch"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_floats_are_the_models_own_input(
    classify: Pipeline[Classifications], shape: tuple[int, ...], dtype: type[np.floating]
) -> None:
    own = np.zeros(shape, dtype=dtype)
    own[..., 2] = 1.0  # the model's own range is 0..1: taken as pixels this would be black
    assert classify(own).label == "blue"


def test_a_rescaling_that_was_folded_away_is_applied_to_floats_and_not_to_pixels() -> None:
    # The model was trained on 0..255 behind a layer `x / 255`, which the converter took off.
    record = {"schema": 1, "inputs": [{"rescaling": {"scale": 1 / 255, "offset": 0.0}}], "outputs": [{}]}
    classify = classifier(tiny_models.classifier(labels=NAMES, normalization=PIXELS, record=record))
    own = np.zeros((8, 8, 3), np.float32)
    own[..., 1] = 255.0
    assert classify(own).confidence[0] == classify(picture("green")).confidence[0]
    assert classify(own).label == "green"


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((8, 8), np.float32),
        np.zeros((8, 8, 3), np.int32),
        np.zeros((8, 8, 3), np.int8),
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.full((8, 8, 3), np.nan, np.float32),
        np.full((8, 8, 3), np.inf, np.float32),
        np.zeros((8, 8, 3), bool),
        b"no picture",
        b"",
        [[0, 0, 0]],
        None,
    ],
    ids=lambda source: f"{getattr(source, 'dtype', type(source).__name__)}{getattr(source, 'shape', '')}",
)
def test_what_is_no_picture_and_not_the_models_own_input_is_refused(
    classify: Pipeline[Classifications], source: object
) -> None:
    with pytest.raises(InputError):
        classify(source)  # type: ignore[arg-type]
    assert classify.timing.frames == 0


def test_a_missing_picture_is_named(classify: Pipeline[Classifications], tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"none\.jpg"):
        classify(tmp_path / "none.jpg")


def test_one_bad_picture_does_not_disturb_the_next(classify: Pipeline[Classifications]) -> None:
    assert classify(picture("red")).label == "red"
    with pytest.raises(InputError):
        classify(b"no picture")
    assert classify(picture("blue")).label == "blue"


# --- time -----------------------------------------------------------------------------------------


def test_its_repr_says_the_model_and_what_stands_around_it(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(colours())
    runtime = Runtime(tmp_path / "m.tflite", threads=1)
    assert repr(classifier(runtime)) == f"Pipeline({runtime!r}, pre=Preprocessor, post=classification_post)"
    bare = Pipeline(runtime, pre=letterbox(runtime.input), post=lambda outputs, _view: outputs.raw())
    assert repr(bare).startswith("Pipeline(Runtime(m.tflite, ")
    assert repr(bare).endswith("post=test_its_repr_says_the_model_and_what_stands_around_it)")


def test_timing_counts_frames_and_has_all_stages(classify: Pipeline[Classifications]) -> None:
    assert classify.latest_ms() == {}
    for _ in range(3):
        classify(png("red"))
    timing = classify.timing
    assert timing.frames == 3
    for stage in (timing.read, timing.pre, timing.invoke, timing.post):
        assert 0 < stage.p50 <= stage.p95 < 10_000
    assert list(classify.latest_ms()) == ["read", "pre", "invoke", "post"]
    assert all(value > 0 for value in classify.latest_ms().values())


# --- a pipeline of one's own ----------------------------------------------------------------------


def test_post_processing_gets_dequantized_outputs_and_the_view() -> None:
    seen: list[tuple[np.ndarray, View]] = []

    def brightest(outputs: Tensors, view: View) -> float:
        (values,) = outputs.values()
        seen.append((values, view))
        return float(values.max())

    runtime = Runtime(tiny_models.classifier(size=(8, 8), normalization=PIXELS))
    measure = Pipeline(runtime, pre=letterbox(runtime.input), post=brightest)
    measure(picture("red", size=(32, 16)))
    values, view = seen[0]
    assert values.dtype == np.float32
    assert 0.0 <= values.min() <= values.max() <= 1.0
    # 32x16 fits 8x8 at a quarter: 8x4, two rows of bars above.
    assert (view.image_size, view.tensor_size, view.scale, view.offset) == ((32, 16), (8, 8), (0.25, 0.25), (0.0, 2.0))


def test_floats_lie_on_the_whole_tensor() -> None:
    runtime = Runtime(tiny_models.classifier(size=(6, 4), normalization=PIXELS))
    where = Pipeline(runtime, pre=letterbox(runtime.input), post=lambda _outputs, view: view)
    assert where(np.zeros((4, 6, 3), np.float32)) == View((6, 4), (6, 4), (1.0, 1.0), (0.0, 0.0))


def test_a_normalization_per_channel_stops_pictures_and_not_floats() -> None:
    notes = tiny_models.tflite_metadata(normalization=((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), colour=1)
    runtime = Runtime(tiny_models.classifier(dtype="float32", metadata={"TFLITE_METADATA": notes}))

    def refuse(*_: object) -> View:
        raise AssertionError("no picture was given")

    best = Pipeline(runtime, pre=refuse, post=lambda outputs, _view: int(outputs.raw().argmax()))
    own = np.zeros((8, 8, 3), np.float32)
    own[..., 1] = 1.0
    assert best(own) == 1
    with pytest.raises(MetadataError, match="cannot take pictures"):
        classifier(runtime)


def test_one_normalization_may_stand_in_for_one_per_channel() -> None:
    notes = tiny_models.tflite_metadata(normalization=((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), colour=1)
    data = tiny_models.classifier(dtype="float32", metadata={"TFLITE_METADATA": notes})
    assert classifier(data, normalization=PIXELS)(picture("green")).label == "1"


# --- classifier -----------------------------------------------------------------------------------


def test_labels_of_the_call_beat_those_of_the_file() -> None:
    classify = classifier(colours(), labels=["rot", "grün", "blau", "dunkel"])
    assert classify(picture("green")).label == "grün"


def test_without_labels_the_class_number_is_the_label() -> None:
    assert classifier(tiny_models.classifier(normalization=PIXELS))(picture("blue")).label == "2"


@pytest.mark.parametrize("count", [3, 5])
def test_labels_that_do_not_fit_are_refused_when_it_is_made(count: int) -> None:
    with pytest.raises(MetadataError, match="labels do not fit") as caught:
        classifier(colours(), labels=["a"] * count)
    assert caught.value.received == f"{count} labels"
    assert caught.value.expected == "4, one per class"


def test_the_normalization_of_the_call_beats_that_of_the_file() -> None:
    # The file says that a pixel of 255 is 0.01; so every picture is dark.
    data = tiny_models.classifier(dtype="float32", labels=NAMES, normalization=(0.0, 25500.0))
    assert classifier(data)(picture("red")).label == "dark"
    assert classifier(data, normalization=PIXELS)(picture("red")).label == "red"


def test_the_resize_of_the_call_beats_that_of_the_file() -> None:
    # Red at the left and right, blue in the middle half: a centre crop sees blue alone.
    image = picture("red", size=(32, 16))
    image[:, 8:24] = COLOURS["blue"]
    stretched = classifier(colours())(image)
    cropped = classifier(colours(), resize=Resize("crop"))(image)
    assert stretched.confidence[0] < 0.6
    assert cropped.label == "blue"
    assert cropped.confidence[0] > 0.98


@pytest.mark.parametrize(("top_k", "rows"), [(1, 1), (3, 3), (10, 4)])
def test_top_k_is_the_number_of_rows(top_k: int, rows: int) -> None:
    assert len(classifier(colours(), top_k=top_k)(picture("red"))) == rows


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="top_k"):
        classifier(colours(), top_k=0)


def test_a_float_model_that_does_not_say_how_to_normalize_is_refused_with_the_cure() -> None:
    with pytest.raises(MetadataError, match="does not say how to normalize its float32 input `image`") as caught:
        classifier(tiny_models.classifier(dtype="float32"))
    text = str(caught.value)
    assert "normalization=(mean, std)" in text
    assert "(127.5, 127.5) for [-1, 1]" in text
    assert "edgeinfer-convert annotate" in text


def test_an_int8_model_that_does_not_say_how_to_normalize_is_refused() -> None:
    with pytest.raises(MetadataError, match="normalize its int8 input"):
        classifier(tiny_models.classifier(dtype="int8"))


def test_a_uint8_model_that_says_nothing_takes_pixels_as_they_are() -> None:
    assert classifier(tiny_models.classifier(dtype="uint8"))(picture("green")).label == "1"


def test_a_model_with_four_outputs_is_no_classifier() -> None:
    with pytest.raises(WrongTaskError, match="no classification model") as caught:
        classifier(four_outputs(), normalization=PIXELS)
    assert "`boxes` (1, 4, 4, 3)" in caught.value.received
    assert "Pipeline" in caught.value.next_step


def test_the_file_is_named_when_it_does_something_else(tmp_path: Path) -> None:
    (tmp_path / "detect.tflite").write_bytes(four_outputs())
    with pytest.raises(WrongTaskError, match=r"`detect\.tflite`"):
        classifier(tmp_path / "detect.tflite")


def test_a_runtime_may_be_handed_over() -> None:
    runtime = Runtime(colours(), threads=1)
    classify = classifier(runtime)
    assert classify.runtime is runtime
    assert classify(picture("red")).label == "red"


def test_a_model_of_features_answers_for_floats_and_refuses_pictures() -> None:
    # Output k is (k + 1) times the sum: class 1 of two, with e^12 to e^6.
    classify = classifier(tiny_models.dense(), labels=("walk", "run"))
    found = classify(np.ones(6, np.float32))
    assert found.label == "run"
    assert found.confidence[0] == pytest.approx(1 / (1 + np.exp(-6.0)), rel=1e-5)
    with pytest.raises(InputError, match="takes no pictures") as caught:
        classify(picture("red"))
    assert "(1, 6)" in caught.value.expected


def test_a_model_of_features_has_nothing_to_resize_or_normalize() -> None:
    with pytest.raises(MetadataError, match="not a picture"):
        classifier(tiny_models.dense(), normalization=PIXELS)
    with pytest.raises(MetadataError, match="not a picture"):
        classifier(tiny_models.dense(), resize=Resize("crop"))


# --- load -----------------------------------------------------------------------------------------


def test_load_makes_a_classifier_of_a_file_that_says_so() -> None:
    assert load(colours())(picture("blue")).label == "blue"


def test_load_does_not_guess_what_a_file_without_a_task_does() -> None:
    with pytest.raises(WrongTaskError, match="does not say what it does"):
        load(tiny_models.dense())


def test_load_refuses_a_file_of_another_task() -> None:
    with pytest.raises(WrongTaskError):
        load(four_outputs())


# --- real models ----------------------------------------------------------------------------------


def test_a_public_mobilenet_sees_a_parrot_and_a_cat(test_data: Path) -> None:
    from edgeinfer.model.metadata import read_labels

    folder = test_data / "coral"
    classify = classifier(
        folder / "mobilenet_v2_1.0_224_quant.tflite", labels=read_labels(folder / "imagenet_labels.txt")
    )
    parrot = classify(folder / "parrot.jpg")
    assert parrot.label == "macaw"
    assert parrot.confidence[0] > 0.9
    # The cat's 286 is "Egyptian cat" in Coral's own list, which has a background class in front.
    assert classify(folder / "cat.bmp").class_id[0] == 286
