"""Targets: what is known of devices, targets of one's own, and what a wrong name or setting is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters import Quantize, Recipe
from converters.errors import RecipeError
from converters.target_file import target_of_word
from converters.targets import TARGETS, EngineName, Io, Scheme, Target, target
from edgeinfer.errors import InputFileError
from edgeinfer.model.ops import BUILTINS, ceilings


def test_every_target_is_found_by_its_name() -> None:
    assert [target(one.name) for one in TARGETS] == list(TARGETS)


def test_the_names_are_all_different() -> None:
    assert len({one.name for one in TARGETS}) == len(TARGETS)


def test_a_64_bit_raspberry_pi_has_litert_and_a_32_bit_one_has_not() -> None:
    # LiteRT has wheels for aarch64 and none for 32-bit ARM.
    assert target("raspberrypi").engines == ("litert",)
    assert target("raspberrypi32").engines == target("raspberrypi-tflite").engines == ("tflite-runtime",)


def test_dense_weights_have_one_scale_exactly_where_an_engine_refuses_the_other_form() -> None:
    # TensorFlow 2.21 writes FULLY_CONNECTED version 12 for dynamic range Dense with one scale per channel.
    for one in TARGETS:
        refused = any(ceilings(engine).versions["FULLY_CONNECTED"] < 12 for engine in one.engines)
        assert one.per_tensor_dense == refused, one.name


def test_every_target_says_where_its_facts_come_from() -> None:
    assert all(one.description and one.source for one in TARGETS)


def test_android_gets_uint8_because_mediapipe_refuses_int8() -> None:
    assert target("android").io == target("android-gpu").io == "uint8"


def test_an_edge_tpu_takes_full_integers_only() -> None:
    chip = target("edgetpu")
    assert (chip.schemes, chip.floats, chip.io) == (("int8",), False, "int8")
    assert "float32" not in chip.ios


def test_of_two_engines_the_lower_ceiling_counts() -> None:
    # benchmarks/op_version_ceilings.py: FULLY_CONNECTED is 14 in LiteRT 2.3.0 and 10 in tflite-runtime 2.14.0.
    assert target("raspberrypi").highest("FULLY_CONNECTED") == (14, "litert 2.3.0")
    assert target("edgetpu").highest("FULLY_CONNECTED") == (10, "tflite-runtime 2.14.0")


def test_a_device_that_lacks_an_op_lowers_the_ceiling_to_0() -> None:
    own = Target("board", ("litert",), op_versions=(("CONV_2D", 3), ("TILE", 0)))
    assert own.highest("CONV_2D") == (3, "board")
    assert own.highest("TILE") == (0, "board")
    assert own.highest("ADD")[1] == "litert 2.3.0"


@st.composite
def targets(draw: st.DrawFn) -> Target:
    names = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1).map(lambda text: f"own-{text}")
    ops = st.dictionaries(st.sampled_from([row[0] for row in BUILTINS]), st.integers(0, 20), max_size=4)
    floats = draw(st.booleans())
    schemes = get_args(Scheme) if floats else ("int8", "int16x8")
    ios = get_args(Io) if floats else ("int8", "uint8")
    some = {
        "engines": draw(st.lists(st.sampled_from(get_args(EngineName)), min_size=1, unique=True)),
        "schemes": draw(st.lists(st.sampled_from(schemes), min_size=1, unique=True)),
        "ios": draw(st.lists(st.sampled_from(ios), min_size=1, unique=True)),
        "op_versions": tuple(draw(ops).items()),
        "floats": floats,
        "accelerator": draw(st.sampled_from(["", "edgetpu", "gpu"])),
        "description": draw(st.text(max_size=9)),
    }
    return Target(draw(names), **some)  # type: ignore[arg-type]


@given(targets())
def test_a_target_survives_json(own: Target) -> None:
    again = Target.from_json(json.loads(json.dumps(own.to_json())))
    assert again == own
    assert hash(again) == hash(own)


@given(targets())
def test_a_recipe_with_a_target_of_ones_own_survives_json(own: Target) -> None:
    scheme = own.schemes[0]
    recipe = Recipe((Quantize(scheme),), target=own)
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_a_known_target_as_a_value_is_the_same_recipe_as_its_name() -> None:
    assert Recipe((Quantize(),), target=target("edgetpu")) == Recipe((Quantize(),), target="edgetpu")


def test_name_and_engines_are_all_that_a_target_needs() -> None:
    own = Target.from_json({"name": "board", "engines": ["tflite-runtime"]})
    assert (own.engines, own.schemes, own.io) == (("tflite-runtime",), get_args(Scheme), "int8")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"name": "b"}, "engines"),
        ({"engines": ["litert"]}, "name"),
        ({"name": "b", "engines": []}, "at least one"),
        ({"name": "b", "engines": "litert"}, "engines"),
        ({"name": "b", "engines": ["onnx"]}, '"litert"'),
        ({"name": "b", "engines": ["litert"], "engine": 1}, "`engines`"),
        ({"name": "b c", "engines": ["litert"]}, "letters, digits"),
        ({"name": 3, "engines": ["litert"]}, "name"),
        ({"name": "b", "engines": ["litert"], "op_versions": {"CONV2D": 3}}, "CONV_2D"),
        ({"name": "b", "engines": ["litert"], "op_versions": {"CONV_2D": "3"}}, "version"),
        ({"name": "b", "engines": ["litert"], "op_versions": 3}, "op_versions"),
        ({"name": "b", "engines": ["litert"], "floats": "no"}, "true or false"),
        ({"name": "b", "engines": ["litert"], "accelerator": "npu"}, "edgetpu"),
        ({"name": "b", "engines": ["litert"], "floats": False, "schemes": ["float32"]}, "without floats"),
        ({"name": "b", "engines": ["litert"], "floats": False, "schemes": ["int8", "dynamic"]}, '"int16x8"'),
        ({"name": "b", "engines": ["litert"], "floats": False, "ios": ["int8", "float32"]}, '"uint8"'),
    ],
)
def test_a_target_that_cannot_be_is_refused(data: Any, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Target.from_json(data)
    assert said in str(caught.value)


def test_a_target_without_floats_has_what_is_left() -> None:
    own = Target("board", ("litert",), floats=False)
    assert (own.schemes, own.ios) == (("int8", "int16x8"), ("int8", "uint8"))


def test_what_is_said_twice_counts_once() -> None:
    own = Target.from_json({"name": "b", "engines": ["litert", "litert"], "schemes": ["int8", "int8"]})
    assert (own.engines, own.schemes) == (("litert",), ("int8",))


def test_a_target_of_ones_own_needs_a_name_of_its_own() -> None:
    with pytest.raises(RecipeError, match="name of its own") as caught:
        Recipe((Quantize(),), target=Target("edgetpu", ("litert",)))
    assert "my-edgetpu" in caught.value.next_step


def test_an_unknown_name_is_told_all_names_and_the_closest_one() -> None:
    with pytest.raises(RecipeError, match='"cpu", "raspberrypi"') as caught:
        target("Raspberry-Pi")
    assert caught.value.next_step == 'Did you mean "raspberrypi"?'


def test_a_name_like_no_other_gets_no_guess() -> None:
    with pytest.raises(RecipeError) as caught:
        target("toaster")
    assert caught.value.next_step == ""


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("edgetpu", {"scheme": "dynamic"}, 'scheme="int8"'),
        ("edgetpu", {"io": "float32"}, 'io="int8" or io="uint8"'),
        ("edgetpu", {"fallback": (("stem", "float32"),)}, "integers only"),
        ("android-gpu", {"scheme": "int16x8"}, 'scheme="int8"'),
    ],
)
def test_a_recipe_that_its_target_cannot_run_is_refused_when_it_is_made(
    name: str, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe((Quantize(**settings),), target=name)
    assert said in str(caught.value)


# --- a target as a word of a command line -----------------------------------------------------------


def test_a_word_is_a_name_or_a_json_file(tmp_path: Path) -> None:
    own = Target("board", ("tflite-runtime",), op_versions=(("CONV_2D", 3),))
    (tmp_path / "board.JSON").write_text(json.dumps(own.to_json()))
    assert target_of_word(str(tmp_path / "board.JSON")) == own
    assert target_of_word("edgetpu") == target("edgetpu")


@pytest.mark.parametrize("text", ["{", "[1]", "3", "[" * 100_000, '{"name": "x"}', "\x00"])
def test_a_file_that_is_no_target_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "board.json"
    path.write_text(text)
    with pytest.raises(RecipeError):
        target_of_word(str(path))


def test_a_target_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError):
        target_of_word(str(tmp_path / "board.json"))
