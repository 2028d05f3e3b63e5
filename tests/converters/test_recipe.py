"""Recipes: values that can be compared, saved and sent; wrong ones are refused when they are made."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.errors import RecipeError
from converters.recipe import Distill, FineTune, Fit, Prune, Quantize, Recipe, Verify
from edgeinfer.errors import InputError, InputFileError, OutputError

SHARES = st.floats(0, 1)
QUANTIZES = st.one_of(
    st.builds(Quantize, st.just("int8"), st.sampled_from(["int8", "uint8", "float32", None]), st.integers(1, 10**6)),
    st.builds(
        Quantize,
        st.sampled_from(["int16x8", "float16", "dynamic", "float32"]),
        st.sampled_from(["float32", None]),
        st.integers(1, 10**6),
    ),
)
RECIPES = st.builds(
    lambda quantize, verifies, name, seed: Recipe((quantize, *verifies), target=name, seed=seed),
    QUANTIZES,
    st.lists(st.builds(Verify, SHARES, SHARES), max_size=3),
    st.sampled_from(["cpu", "raspberrypi"]),
    st.integers(0, 2**63),
)


# --- values ---------------------------------------------------------------------------------------


def test_equal_settings_are_equal_recipes_with_equal_hashes() -> None:
    first = Recipe((Quantize("int8", samples=100), Verify(max_drop=0.02)), target="raspberrypi", seed=3)
    second = Recipe((Quantize("int8", samples=100), Verify(max_drop=0.02)), target="raspberrypi", seed=3)
    assert first == second
    assert len({first, second}) == 1
    assert first != Recipe((Quantize("int8", samples=101), Verify(max_drop=0.02)), target="raspberrypi", seed=3)


def test_a_list_of_steps_is_the_same_recipe_as_a_tuple() -> None:
    assert Recipe([Quantize()]) == Recipe((Quantize(),))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [Quantize(), Verify(), Recipe.int8()], ids=["Quantize", "Verify", "Recipe"])
def test_nothing_can_be_changed_afterwards(value: Any) -> None:
    name = "samples" if isinstance(value, Quantize) else "seed" if isinstance(value, Recipe) else "max_drop"
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, 1)


def test_the_default_is_full_int8_and_a_check() -> None:
    assert Recipe.int8() == Recipe((Quantize("int8"), Verify()), target="cpu", seed=0)
    assert Recipe.int8(verify=False).steps == (Quantize("int8"),)
    assert Recipe.int8().order == "Quantize, Verify"


@pytest.mark.parametrize(
    ("quantize", "ends"),
    [
        (Quantize("int8"), "uint8"),
        (Quantize("int8", io="float32"), "float32"),
        (Quantize("float16"), "float32"),
        (Quantize("int16x8"), "float32"),
    ],
    ids=["the target's choice", "the recipe's choice", "float16 has floats", "int16x8 has floats"],
)
def test_the_ends_follow_the_recipe_and_else_the_target(quantize: Quantize, ends: str) -> None:
    assert quantize.ends("uint8") == ends


# --- JSON -----------------------------------------------------------------------------------------


@given(RECIPES)
def test_any_recipe_comes_back_from_json(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_json_says_the_schema_the_target_and_every_setting() -> None:
    said = Recipe((Quantize("int8", io="uint8", samples=64), Verify(max_drop=0.5)), seed=9).to_json()
    assert said == {
        "schema": 1,
        "target": "cpu",
        "seed": 9,
        "fit": {"batch_size": 128, "schedule": "cosine", "augment": []},
        "steps": [
            {
                "step": "quantize",
                "scheme": "int8",
                "io": "uint8",
                "samples": 64,
                "epochs": 0,
                "learning_rate": 1e-4,
                "ranges": "minmax",
                "equalize": False,
                "correct_bias": False,
                "fallback": {},
                "ending": None,
                "top_k": 5,
            },
            {"step": "verify", "max_drop": 0.5, "min_agreement": None, "max_error": 0.5},
        ],
    }


def test_patterns_of_layers_are_an_object_in_json() -> None:
    recipe = Recipe((Prune(sparsity=0.5, layers={"block_3*": 0.25}, skip=("stem",)), Quantize()))
    said = json.loads(json.dumps(recipe.to_json()))
    assert (said["steps"][0]["layers"], said["steps"][0]["skip"]) == ({"block_3*": 0.25}, ["stem"])
    assert Recipe.from_json(said) == recipe


def test_what_all_training_steps_share_travels_with_the_recipe() -> None:
    recipe = Recipe((FineTune(), Quantize()), fit=Fit(batch_size=32, augment=("flip",)))
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_settings_that_json_leaves_out_have_their_defaults() -> None:
    assert Recipe.from_json({"steps": [{"step": "quantize"}]}) == Recipe((Quantize(),))


def test_a_saved_recipe_is_loaded_as_it_was(tmp_path: Path) -> None:
    recipe = Recipe((Quantize("dynamic"), Verify(0.1, 0.2)), target="raspberrypi", seed=4)
    recipe.save(tmp_path / "birds.recipe.json")
    assert Recipe.load(tmp_path / "birds.recipe.json") == recipe
    assert json.loads((tmp_path / "birds.recipe.json").read_text()) == recipe.to_json()


def test_saving_into_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        Recipe.int8().save(tmp_path / "none" / "r.json")


def test_loading_what_is_not_there_is_an_input_file_error(tmp_path: Path) -> None:
    with pytest.raises(InputFileError):
        Recipe.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{'steps': []}", "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[1, 2]", "is no recipe"),
        (b'"quantize"', "is no recipe"),
        (b"{}", "`steps` is a list"),
        (b'{"steps": "quantize"}', "`steps` is a list"),
        (b'{"steps": ["quantize"]}', "A step has a name"),
        (b'{"steps": [{"scheme": "int8"}]}', "A step has a name"),
        (b'{"schema": 2, "steps": [{"step": "quantize"}]}', "written by another version"),
        (b'{"target": "edgepu", "steps": [{"step": "quantize"}]}', "target is not known"),
        (b'{"seed": "1", "steps": [{"step": "quantize"}]}', "`seed` is a whole number"),
        (b'{"steps": [{"step": "quantize", "samples": 2.5}]}', "`samples` counts samples"),
        (b'{"steps": [{"step": "quantize", "samples": true}]}', "`samples` counts samples"),
        (b'{"steps": [{"step": "quantize", "scheme": ["int8"]}]}', "`scheme` has a value that is not known"),
        (b'{"steps": [{"step": "quantize"}, {"step": "verify", "max_drop": NaN}]}', "`max_drop` is a share"),
    ],
    ids=[
        "single quotes",
        "not text",
        "nested too deep",
        "a list",
        "a text",
        "nothing in it",
        "steps is a text",
        "a step is a text",
        "a step without a name",
        "a newer schema",
        "an unknown target",
        "a seed in quotes",
        "half a sample",
        "samples: true",
        "a list for a scheme",
        "NaN",
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(RecipeError, match=words):
        Recipe.load(tmp_path / "r.json")


def test_a_recipe_file_that_is_too_large_is_not_called_bad_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(path: Path) -> bytes:
        raise InputError("The file is too large.", received="9 bytes")

    monkeypatch.setattr("converters.recipe.read_bytes", too_large)
    with pytest.raises(InputError, match="too large"):
        Recipe.load(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("data", "message", "close"),
    [
        ({"steps": [{"step": "quantise"}]}, "The step `quantise` is not known", "Did you mean `quantize`?"),
        (
            {"steps": [{"step": "quantize", "sample": 9}]},
            "The step `quantize` has no setting `sample`",
            "Did you mean `samples`?",
        ),
        ({"step_list": [{"step": "quantize"}]}, "The recipe has no setting `step_list`", "Did you mean `steps`?"),
        (
            {"steps": [{"step": "quantize", "scheme": "int16"}]},
            "`scheme` has a value that is not known",
            "Did you mean `int16x8`?",
        ),
        (
            {"target": "raspberry", "steps": [{"step": "quantize"}]},
            "target is not known",
            'Did you mean "raspberrypi"?',
        ),
    ],
    ids=["step", "setting of a step", "setting of the recipe", "value", "target"],
)
def test_a_wrong_word_is_answered_with_the_closest_one(data: dict[str, Any], message: str, close: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        Recipe.from_json(data)
    assert close in caught.value.next_step


def test_a_word_like_no_other_is_answered_with_all_that_are_known() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_json({"steps": [{"step": "zzz"}]})
    assert (caught.value.expected, caught.value.next_step) == ("prune, finetune, distill, quantize, verify", "")


@pytest.mark.parametrize("data", [{"scheme": "int8"}, {"step": "prune", "macs": 0.5}], ids=["a setting", "a step"])
def test_one_step_in_the_place_of_a_recipe_is_called_so(data: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="list of steps") as caught:
        Recipe.from_json(data)
    assert '{"steps": [' in caught.value.expected


# --- what is refused when it is made --------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Quantize("int4"),  # type: ignore[arg-type]
        lambda: Quantize(io="int16"),  # type: ignore[arg-type]
        lambda: Quantize(samples=0),
        lambda: Quantize(samples=1_000_001),
        lambda: Quantize(samples="200"),  # type: ignore[arg-type]
        lambda: Quantize(samples=True),
        lambda: Verify(max_drop=-0.01),
        lambda: Verify(max_drop=1.5),
        lambda: Verify(max_drop="0.1"),  # type: ignore[arg-type]
        lambda: Verify(max_drop=True),
        lambda: Verify(min_agreement=float("nan")),
        lambda: Recipe((Quantize(),), seed=-1),
        lambda: Recipe((Quantize(),), seed=0.5),  # type: ignore[arg-type]
        lambda: Recipe((Quantize(),), seed=True),
        lambda: Recipe((Quantize(),), target="moon"),
        lambda: Recipe((Quantize(), "verify")),  # type: ignore[arg-type]
        lambda: Recipe(Quantize()),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_value_is_refused_when_it_is_made(make: Any) -> None:
    with pytest.raises(RecipeError):
        make()


@pytest.mark.parametrize("scheme", ["int16x8", "float16", "dynamic", "float32"])
@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_integer_ends_go_with_full_int8_only(scheme: Any, io: Any) -> None:
    with pytest.raises(RecipeError, match="keeps floats at both ends"):
        Quantize(scheme, io=io)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((), "quantizes exactly once"),
        ((Verify(),), "quantizes exactly once"),
        ((Quantize(), Quantize()), "quantizes exactly once"),
        ((Verify(), Quantize()), "Verify stands in front"),
        ((Quantize(), FineTune()), "FineTune stands behind Quantize"),
        ((Prune(macs=0.5), Quantize(), Distill()), "Distill stands behind Quantize"),
    ],
    ids=["empty", "Verify alone", "two Quantize", "Verify first", "FineTune last", "Distill last"],
)
def test_an_impossible_order_is_refused_and_said(steps: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        Recipe(steps)
    assert "Quantize" in caught.value.expected
    assert caught.value.exit_code == 2
