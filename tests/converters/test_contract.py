"""From what a model is and what its card says to the file's metadata, with every number worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st

from converters.card import Card
from converters.contract import (
    check_labels,
    describe,
    normalizes_twice,
    own_inputs,
    takes_pixels,
    tensor_normalization,
)
from converters.errors import CalibrationError
from converters.facts import ModelFacts, TensorFacts
from converters.graph.leading import Leading
from converters.metadata import write
from edgeinfer.errors import MetadataError, ModelError
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.metadata import Normalization, Rescaling, Resize, read

PICTURE = TensorFacts("photo", (1, 8, 8, 3), "float32")


# ImageNet's mean and deviation of each channel, for an input of 0..1 and for one of 0..255 (from PyTorch's
# torchvision documentation, and 255 times that).
MEANS, DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OF_0_TO_1 = tuple(Leading(1 / std, -mean / std) for mean, std in zip(MEANS, DEVIATIONS, strict=True))
OF_PIXELS = tuple(Leading(one.scale / 255, one.offset) for one in OF_0_TO_1)


def facts(
    *inputs: TensorFacts,
    leading: Leading | None = None,
    staying: tuple[Leading, ...] = (),
    outputs: Any = ((1, 4),),
) -> ModelFacts:
    return ModelFacts(
        "birds",
        "keras",
        inputs or (PICTURE,),
        tuple(TensorFacts(f"out{number}", shape, "float32") for number, shape in enumerate(outputs)),
        leading=leading,
        staying=staying,
    )


# --- pixel -> own input ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leading", "staying", "card", "own", "tensor"),
    [
        (Leading(1 / 255, 0.0), (), Card(), (0, 1), (0, 255)),
        (Leading(1 / 127.5, -1.0), (), Card(), (0, 1), (127.5, 127.5)),
        (Leading(1 / 127.5, -1.0), (), Card(normalization=(0, 1)), (0, 1), (127.5, 127.5)),
        (None, (), Card(normalization=(127.5, 127.5)), (127.5, 127.5), (127.5, 127.5)),
        (None, (), Card(normalization=(0, 255)), (0, 255), (0, 255)),
        (None, OF_PIXELS, Card(), (0, 1), (0, 1)),
        (None, OF_0_TO_1, Card(normalization=(0, 255)), (0, 255), (0, 255)),
        (Leading(1 / 255, 0.0), OF_0_TO_1, Card(), (0, 1), (0, 255)),
        (Leading(2.0, -1.0), (), Card(normalization=(0, 255)), (0, 255), (127.5, 127.5)),
    ],
    ids=[
        "Rescaling(1/255)",
        "Rescaling(1/127.5, -1)",
        "a card of (0, 1) with a layer",
        "a card of (127.5, 127.5) without a layer",
        "a card of (0, 255) without a layer",
        "a layer per channel for pixels that stays",
        "a card of (0, 255) before a layer per channel for 0..1",
        "Rescaling(1/255) before a layer per channel that stays",
        "a card of (0, 255) before Rescaling(2, -1)",
    ],
)
def test_the_normalizations_are_those_worked_out_by_hand(
    leading: Leading | None, staying: tuple[Leading, ...], card: Card, own: Any, tensor: Any
) -> None:
    (spec,) = own_inputs(facts(leading=leading, staying=staying), card)
    assert spec.normalization == Normalization(*own)
    found = tensor_normalization(spec.normalization, leading)
    assert found is not None
    assert (found.mean, found.std) == pytest.approx(tensor, rel=1e-12)


def test_without_a_layer_and_without_a_card_nobody_says_how_to_normalize() -> None:
    (spec,) = own_inputs(facts(), Card())
    assert spec.normalization is None
    assert tensor_normalization(None, None) is None


# The comment is what becomes of the pixels 0 and 255.
FRONTS = {
    "Rescaling(1/255)": ((Leading(1 / 255, 0.0),), True),  # 0, 1
    "Rescaling(1/127.5, -1)": ((Leading(1 / 127.5, -1.0),), True),  # -1, 1
    "Rescaling(-1/255, 1)": ((Leading(-1 / 255, 1.0),), True),  # 1, 0
    "Rescaling(1, -127.5)": ((Leading(1.0, -127.5),), True),  # -127.5, 127.5, and shifted only
    "mean subtraction per channel": ((Leading(1.0, -123.7), Leading(1.0, -103.9)), True),  # -123.7, 151.1
    "Normalization(123.7.., 58..)": (OF_PIXELS, True),  # -2.1, 2.6
    "Normalization(.485.., .229..)": (OF_0_TO_1, False),  # -2.1, 1136
    "Rescaling(2, -1)": ((Leading(2.0, -1.0),), False),  # -1, 509
    "Rescaling(1, -0.5)": ((Leading(1.0, -0.5),), False),  # -0.5, 254.5
    "Rescaling(1)": ((Leading(1.0, 0.0),), False),  # 0, 255
    "Rescaling(1/65535)": ((Leading(1 / 65535, 0.0),), False),  # 0, 0.004: made for 16 bit
    "Normalization(300, 25)": ((Leading(1 / 5, -60.0),), False),  # -60, -9: made for kelvins
    "Rescaling(0)": ((Leading(0.0, 1.0),), False),  # 1, 1
    "nothing": ((), False),
}


@pytest.mark.parametrize(("front", "pixels"), FRONTS.values(), ids=FRONTS)
def test_a_front_layer_was_made_for_pixels_if_it_makes_a_small_range_of_them(
    front: tuple[Leading, ...], pixels: bool
) -> None:
    assert takes_pixels(front) == pixels
    (spec,) = own_inputs(facts(staying=front), Card())
    assert spec.normalization == (Normalization(0, 1) if pixels else None)


# The comment is what becomes of the pixels 0 and 255 in the end.
PAIRS = {
    "0..1 into Rescaling(1/255)": ((0, 255), (Leading(1 / 255, 0.0),), True),  # 0, 0.004
    "-1..1 into Rescaling(1/255)": ((127.5, 127.5), (Leading(1 / 255, 0.0),), True),  # -0.004, 0.004
    "0..1 into Rescaling(1/127.5, -1)": ((0, 255), (Leading(1 / 127.5, -1.0),), True),  # -1, -0.992
    "0..1 into Normalization(123.7.., 58..)": ((0, 255), (OF_PIXELS[0],), True),  # -2.118, -2.101
    "-1..1 into Normalization(123.7.., 58..)": ((127.5, 127.5), (OF_PIXELS[0],), True),  # -2.135, -2.101
    "0..1 into Rescaling(1, -127.5)": ((0, 255), (Leading(1.0, -127.5),), True),  # -127.5, -126.5
    "0..1 into Normalization(.485.., .229..)": ((0, 255), OF_0_TO_1, False),  # -2.1, 2.6
    "0..1 into Rescaling(2, -1)": ((0, 255), (Leading(2.0, -1.0),), False),  # -1, 1
    "0..1 into Rescaling(1, -0.5)": ((0, 255), (Leading(1.0, -0.5),), False),  # -0.5, 0.5
    "0..255 into Rescaling(1/255)": ((0, 1), (Leading(1 / 255, 0.0),), False),  # 0, 1
    "0..255 into Rescaling(1, -0.5)": ((0, 1), (Leading(1.0, -0.5),), False),  # -0.5, 254.5: the card has the word
    "0..65535 into Rescaling(1/65535)": ((0, 1 / 257), (Leading(1 / 65535, 0.0),), False),  # 0, 1
    "0..1 into nothing": ((0, 255), (), False),
}


@pytest.mark.parametrize(("card", "front", "twice"), PAIRS.values(), ids=PAIRS)
def test_a_card_is_refused_if_little_is_left_of_the_pixels_behind_the_front_layer(
    card: tuple[float, float], front: tuple[Leading, ...], twice: bool
) -> None:
    assert normalizes_twice(Normalization(*card), front) == twice
    if twice:
        with pytest.raises(CalibrationError, match="does so again") as caught:
            own_inputs(facts(staying=front), Card(normalization=card))
        assert caught.value.exit_code == 2
        assert caught.value.next_step
    else:
        (spec,) = own_inputs(facts(staying=front), Card(normalization=card))
        assert spec.normalization == Normalization(*card)


def test_channels_of_different_means_do_not_hide_that_a_card_normalizes_twice() -> None:
    # Each channel comes out as one value: -2.12, -2.04 and -1.80.
    with pytest.raises(CalibrationError, match="does so again"):
        own_inputs(facts(staying=OF_PIXELS), Card(normalization=(0, 255)))


def test_pictures_get_colours_and_the_cards_resize_and_other_inputs_do_not() -> None:
    card = Card(normalization=(0, 255), resize="crop")
    grey, row = TensorFacts("grey", (1, 8, 8, 1), "float32"), TensorFacts("row", (1, 5), "float32")
    colour, one, numbers = own_inputs(facts(PICTURE, grey, row), card)
    assert (colour.colour, one.colour, numbers.colour) == ("rgb", "grayscale", None)
    assert colour.resize == one.resize == Resize("crop")
    assert numbers.normalization is None


@given(
    mean=st.floats(-300, 300),
    std=st.floats(0.01, 300),
    scale=st.floats(1e-3, 100),
    offset=st.floats(-100, 100),
    pixel=st.integers(0, 255),
)
def test_both_steps_at_once_are_both_steps_after_each_other(
    mean: float, std: float, scale: float, offset: float, pixel: int
) -> None:
    folded = tensor_normalization(Normalization(mean, std), Leading(scale, offset))
    assert folded is not None
    after_each_other = (pixel - mean) / std * scale + offset
    # Cancellation: the terms are as large as what the two ends of the pixel range and the offset come to.
    size = (255 + abs(mean)) / std * scale + abs(offset)
    assert (pixel - folded.mean) / folded.std == pytest.approx(after_each_other, abs=1e-12 * size)


# --- what the file says of itself -----------------------------------------------------------------


def test_the_description_holds_the_model_the_card_and_the_folded_layer() -> None:
    tflite = tiny_models.classifier(input_range=(-1.0, 1.0))
    card = Card(
        labels=("red", "green", "blue", "dark"),
        resize="letterbox",
        pad=114,
        description="Colours.",
        version="2",
        author="A. Person",
        license="MIT",
    )
    said = describe(tflite, facts(leading=Leading(1 / 127.5, -1.0)), card, {"recipe": "none"})
    (spec,) = said.inputs
    assert (spec.shape, spec.dtype, spec.colour) == ((1, 8, 8, 3), "int8", "rgb")
    assert spec.scale == pytest.approx(2 / 255)
    assert spec.normalization == Normalization(127.5, 127.5)
    assert spec.rescaling == Rescaling(1 / 127.5, -1.0)
    assert spec.resize == Resize("letterbox", "bilinear", 114)
    assert said.task == "classification"
    assert said.outputs[0].labels == ("red", "green", "blue", "dark")
    assert (said.name, said.description, said.version) == ("birds", "Colours.", "2")
    assert (said.author, said.license) == ("A. Person", "MIT")
    assert said.made == {"recipe": "none"}


def test_the_cards_name_beats_the_models() -> None:
    assert describe(tiny_models.classifier(), facts(), Card(name="Garden birds"), {}).name == "Garden birds"


@pytest.mark.parametrize(
    ("activation", "card", "task"),
    [
        ("softmax", Card(), "classification"),
        ("none", Card(), "tensors"),
        ("none", Card(labels=("a", "b", "c", "d")), "classification"),
        ("softmax", Card(task="tensors"), "tensors"),
    ],
    ids=["softmax is a classification", "logits alone are not", "labels make one", "the card has the last word"],
)
def test_the_task_follows_the_card_the_labels_and_the_output(activation: str, card: Card, task: str) -> None:
    assert describe(tiny_models.classifier(activation=activation), facts(), card, {}).task == task


def test_what_was_described_is_what_a_device_reads() -> None:
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: metadata is written on workstations")
    tflite = tiny_models.classifier()
    said = describe(tflite, facts(leading=Leading(1 / 256, 0.0)), Card(labels=("a", "b", "c", "d")), {"seed": 1})
    assert read(write(tflite, said)) == said


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [(((1, 4),), 4), (((1, 1),), 2), (((1, 7), (1, 4)), 4), (((1, -1),), 9), (((1, 4),), 0), (((1, 4), (1, 4)), 4)],
    ids=[
        "one a class",
        "two for one probability",
        "the second output",
        "a size that is not known",
        "no labels",
        "two alike",
    ],
)
def test_labels_that_fit_an_output_pass(outputs: Any, labels: int) -> None:
    check_labels(facts(outputs=outputs), Card(labels=[str(one) for one in range(labels)]))


@pytest.mark.parametrize("count", [3, 5], ids=["fewer", "more"])
def test_labels_that_fit_no_output_are_refused_before_anything_is_converted(count: int) -> None:
    with pytest.raises(MetadataError, match="labels") as caught:
        check_labels(facts(), Card(labels=[str(one) for one in range(count)]))
    assert f"{count} labels" in caught.value.received
    assert "4" in caught.value.expected


# --- tasks beyond a row of classes ----------------------------------------------------------------

YOLO = DetectionHead("yolo", channels="first", objectness=False, unit="share")


def answering(*shapes: tuple[int, ...], dtype: str = "float32") -> bytes:
    """A file with these outputs; it only has to be read."""
    tensors = [tiny_models.TensorSpec("photo", (1, 8, 8, 3))]
    tensors += [tiny_models.TensorSpec(f"out{place}", shape, dtype) for place, shape in enumerate(shapes)]
    operators = [tiny_models.OperatorSpec(tiny_models.RESHAPE, (0,), (place + 1,)) for place in range(len(shapes))]
    return tiny_models.model(tensors, operators, inputs=[0], outputs=range(1, len(shapes) + 1))


def test_a_yolo_model_counts_its_classes_behind_the_box() -> None:
    card = Card(head=YOLO, labels=("cat", "dog", "cow"))
    known = facts(outputs=((1, 7, 84),))
    check_labels(known, card)
    said = describe(answering((1, 7, 84)), known, card, {})
    assert (said.task, said.head) == ("detection", YOLO)
    assert (said.outputs[0].role, said.outputs[0].labels) == ("predictions", ("cat", "dog", "cow"))
    with pytest.raises(MetadataError, match="labels fit no output"):
        check_labels(known, Card(head=YOLO, labels=("cat", "dog")))


def test_a_head_whose_outputs_the_model_has_not_is_refused_before_anything_is_converted() -> None:
    with pytest.raises(MetadataError, match='head of kind "heatmap"'):
        check_labels(facts(outputs=((1, 8, 8, 4), (1, 8, 8, 2))), Card(head=DetectionHead("heatmap")))


def test_the_roles_of_the_card_are_the_roles_of_the_outputs() -> None:
    shapes = ((1, 8, 8, 4), (1, 8, 8, 2), (1, 8, 8, 2))
    card = Card(head=DetectionHead("heatmap"), roles=("heatmap", "sizes", "offsets"), labels=tuple("abcd"))
    said = describe(answering(*shapes), facts(outputs=shapes), card, {})
    assert [(one.role, one.labels) for one in said.outputs] == [
        ("heatmap", tuple("abcd")),
        ("sizes", ()),
        ("offsets", ()),
    ]


def test_labels_of_a_map_make_a_segmentation() -> None:
    card = Card(labels=("sky", "sea", "land", "ship"))
    said = describe(answering((1, 8, 8, 4)), facts(outputs=((1, 8, 8, 4),)), card, {})
    assert (said.task, said.outputs[0].labels) == ("segmentation", ("sky", "sea", "land", "ship"))


@pytest.mark.parametrize("task", ["embedding", "tensors"])
def test_what_the_card_calls_a_row_of_numbers_is_what_it_is(task: Any) -> None:
    assert describe(tiny_models.classifier(activation="none"), facts(), Card(task=task), {}).task == task


def test_an_embedding_takes_no_labels() -> None:
    with pytest.raises(MetadataError, match="labels fit no output"):
        check_labels(facts(), Card(task="embedding", labels=tuple("abcd")))


def test_the_names_of_points_are_counted_as_points() -> None:
    known = facts(outputs=((1, 1, 17, 3),))
    check_labels(known, Card(task="pose", labels=[f"point {place}" for place in range(17)]))
    with pytest.raises(MetadataError, match="names fit no output"):
        check_labels(known, Card(task="pose", labels=("nose",)))


def test_an_argmax_in_the_graph_is_a_map_of_classes_with_the_labels_of_the_model() -> None:
    tflite = answering((1, 8, 8), dtype="int32")
    said = describe(tflite, facts(outputs=((1, 8, 8, 2),)), Card(labels=("sky", "sea")), {}, "argmax")
    assert (said.task, said.outputs[0].role, said.outputs[0].labels) == ("segmentation", "classmap", ("sky", "sea"))


def test_a_top_k_in_the_graph_has_its_labels_at_the_classes() -> None:
    tflite = answering((1, 2), (1, 2))
    said = describe(tflite, facts(), Card(labels=tuple("abcd")), {}, "top-k")
    assert said.task == "classification"
    assert [(one.role, one.labels) for one in said.outputs] == [("scores", ()), ("classes", tuple("abcd"))]


def test_a_task_whose_own_constructor_would_refuse_the_file_is_refused() -> None:
    with pytest.raises(ModelError, match="`answer`"):
        describe(tiny_models.classifier(), facts(), Card(task="pose", normalization=(0, 255)), {})
