"""An argmax or a top-k in the graph answers as the same model without it, in every scheme and in both engines."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters import Card, Quantize, Recipe, Verify, convert
from converters.errors import ConversionError, RecipeError
from edgeinfer.model.metadata import read
from edgeinfer.model.ops import ceilings
from edgeinfer.model.schema import parse
from edgeinfer.pipeline import Pipeline
from edgeinfer.postprocess.classify import classification_post
from edgeinfer.preprocess.tensor import Preprocessor
from edgeinfer.results import Classifications
from edgeinfer.runtime.runtime import Runtime

pytestmark = pytest.mark.tensorflow

LABELS = tuple("abcdefg")


@pytest.fixture(scope="module")
def networks(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A map of 7 classes, and rows of 7: probabilities and logits of the same numbers."""
    layers = keras.layers
    keras.utils.set_random_seed(2)
    folder = tmp_path_factory.mktemp("endings")
    photo = keras.Input((16, 16, 3), name="photo")
    values = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.Rescaling(1 / 127.5, offset=-1)(photo))
    pooled = layers.Flatten()(layers.Conv2D(8, 4, strides=4, activation="relu")(values))
    row = layers.Dense(7, name="row")(pooled)
    models = {
        "map": keras.Model(photo, layers.Conv2D(7, 1, name="map")(values)),
        "logits": keras.Model(photo, row),
        "softmax": keras.Model(photo, layers.Softmax(name="chance")(row)),
        "two": keras.Model(photo, [row, pooled]),
    }
    paths = {}
    for name, model in models.items():
        paths[name] = folder / f"{name}.keras"
        model.save(paths[name])
    return paths


@pytest.fixture(scope="module")
def photos() -> NDArray[np.uint8]:
    array = np.random.default_rng(1).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    array[0, 0, 0] = (0, 128, 255)
    return array


def answering(tflite: bytes) -> Pipeline[Classifications]:
    runtime = Runtime(tflite)
    return Pipeline(runtime, pre=Preprocessor(runtime.input), post=classification_post(runtime.metadata, top_k=3))


def made(path: Path, photos: NDArray[np.uint8], **quantize: Any) -> bytes:
    recipe = Recipe((Quantize(**quantize), Verify(min_agreement=0.5)), target="raspberrypi-tflite")
    return convert(path, photos, recipe=recipe, card=Card(labels=LABELS)).tflite


@pytest.mark.usefixtures("shared_child")
@pytest.mark.parametrize("scheme", ["int8", "float16", "float32"])
def test_an_argmax_is_that_of_the_scores(networks: dict[str, Path], photos: NDArray[np.uint8], scheme: str) -> None:
    bare, ended = (made(networks["map"], photos, scheme=scheme, ending=one) for one in (None, "argmax"))
    said = read(ended)
    assert (said.task, said.outputs[0].role, said.outputs[0].labels) == ("segmentation", "classmap", LABELS)
    assert (said.outputs[0].shape, said.outputs[0].dtype) == ((1, 16, 16), "int32")
    scores, classes = Runtime(bare), Runtime(ended)
    for photo in photos.astype(np.float32):
        for runtime in (scores, classes):
            runtime.set_input(photo)
            runtime.invoke()
        np.testing.assert_array_equal(classes.tensors.raw(0), np.argmax(scores.tensors.raw(0), axis=-1))


@pytest.mark.usefixtures("shared_child")
@pytest.mark.parametrize("network", ["softmax", "logits"])
@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_the_best_three_are_those_of_all_scores_with_the_same_confidences(
    networks: dict[str, Path], photos: NDArray[np.uint8], network: str, io: str
) -> None:
    ended = made(networks[network], photos, io=io, ending="top-k", top_k=3)
    # Of logits nobody can make confidences once they are three: the ending puts a softmax in front.
    whole = answering(made(networks["softmax"], photos, io=io))
    said = read(ended)
    assert said.task == "classification"
    assert [(one.role, one.shape, one.dtype) for one in said.outputs] == [
        ("scores", (1, 3), io),
        ("classes", (1, 3), "int32"),
    ]
    assert said.outputs[1].labels == LABELS
    ranked = answering(ended)
    for photo in photos:
        found, expected = ranked(photo), whole(photo)
        np.testing.assert_allclose(found.confidence, expected.confidence, atol=1.01 / 256)
        assert [LABELS[one] for one in found.class_id] == list(found.labels)


@pytest.mark.usefixtures("shared_child")
def test_the_ops_are_in_reach_of_the_older_engine(networks: dict[str, Path], photos: NDArray[np.uint8]) -> None:
    limits = ceilings("tflite-runtime").versions
    for network, ending, op in (("map", "argmax", "ARG_MAX"), ("softmax", "top-k", "TOPK_V2")):
        (operator,) = [
            one for one in parse(made(networks[network], photos, ending=ending)).main.operators if one.op == op
        ]
        assert operator.version <= limits[op]


@pytest.mark.usefixtures("shared_child")
def test_tflite_runtime_answers_as_litert(networks: dict[str, Path], photos: NDArray[np.uint8], tmp_path: Path) -> None:
    python = os.environ.get("EDGEINFER_DEVICE_PYTHON")
    if not python:
        pytest.skip("EDGEINFER_DEVICE_PYTHON names no interpreter with tflite-runtime")
    program = (
        "import sys, numpy as np\n"
        "from edgeinfer.runtime.runtime import Runtime\n"
        "runtime, photos = Runtime(sys.argv[1]), np.load(sys.argv[2]).astype(np.float32)\n"
        "found = []\n"
        "for photo in photos:\n"
        "    runtime.set_input(photo)\n"
        "    runtime.invoke()\n"
        "    found.append(runtime.tensors.raw(int(sys.argv[3])))\n"
        "np.save(sys.argv[4], np.concatenate(found))\n"
    )
    np.save(tmp_path / "photos.npy", photos)
    for network, ending, place in (("map", "argmax", 0), ("softmax", "top-k", 1)):
        path = tmp_path / f"{network}.tflite"
        path.write_bytes(made(networks[network], photos, ending=ending))
        words = [path, tmp_path / "photos.npy", place, tmp_path / "found.npy"]
        subprocess.run([python, "-c", program, *map(str, words)], check=True)
        runtime, here = Runtime(path), []
        for photo in photos.astype(np.float32):
            runtime.set_input(photo)
            runtime.invoke()
            here.append(runtime.tensors.raw(place))
        # 8 bits have ties, and the engines round their sums differently.
        assert (np.load(tmp_path / "found.npy") == np.concatenate(here)).mean() >= 0.95


@pytest.mark.usefixtures("shared_child")
@pytest.mark.parametrize(
    ("network", "settings", "words"),
    [
        ("softmax", {"ending": "argmax"}, "needs a map"),
        ("map", {"ending": "top-k"}, "needs a row"),
        ("softmax", {"ending": "top-k", "top_k": 8}, "needs a row"),
        ("two", {"ending": "top-k"}, "one output"),
    ],
    ids=["argmax of a row", "top-k of a map", "more than there are", "two outputs"],
)
def test_an_ending_that_does_not_fit_the_model_is_refused(
    networks: dict[str, Path], photos: NDArray[np.uint8], network: str, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConversionError, match=words):
        convert(networks[network], photos, recipe=Recipe((Quantize(**settings),)))


def test_an_ending_without_a_kernel_is_refused_when_the_step_is_made() -> None:
    with pytest.raises(RecipeError, match="int16x8"):
        Quantize("int16x8", ending="argmax")
    with pytest.raises(RecipeError):
        Quantize(ending="largest")  # type: ignore[arg-type]
