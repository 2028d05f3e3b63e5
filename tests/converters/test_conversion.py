"""A conversion for a target, all the way: what is saved, by which names, and what is refused before that."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_compiled
from numpy.typing import NDArray

from converters import Card, Conversion, Quantize, Recipe, Verify, cli, convert, run
from converters.conversion import check_name
from converters.errors import AccuracyDropError, ConversionError
from converters.targets import Target
from edgeinfer.errors import InputError, OutputError, UnsupportedOpError
from edgeinfer.model.metadata import read
from edgeinfer.model.payload import is_compiled
from edgeinfer.model.schema import parse

CARD = Card(task="tensors")
PICTURES = np.random.default_rng(0).normal(0, 1, (24, 8, 8, 3)).astype(np.float32)
# In the words of a log of version 16.0: what the compiler prints with `-s`.
LOG = """\
Edge TPU Compiler version 16.0.384591198

Model compiled successfully in 95 ms.

Number of Edge TPU subgraphs: 1
Total number of operations: {total}

Operator                       Count      Status

CONV_2D                        {total}          Mapped to Edge TPU
"""


def small(keras: Any, *layers: Any) -> Any:
    return keras.Sequential([keras.Input((8, 8, 3)), *layers], name="small")


@pytest.fixture
def model(keras: Any, tmp_path: Path) -> Path:
    keras.utils.set_random_seed(0)
    path = tmp_path / "small.keras"
    small(keras, keras.layers.Conv2D(4, 3, activation="relu", name="stem")).save(path)
    return path


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in the place of Google's compiler, which cannot be had here: it writes a compiled file made by hand."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "output").write_bytes(tiny_compiled.compiled())
    (folder / "log").write_text(LOG.format(total=1))
    script = folder / "edgetpu_compiler"
    script.write_text(
        f"#!{sys.executable}\n"
        "import shutil, sys\nfrom pathlib import Path\n"
        "own, words = Path(__file__).parent, sys.argv[1:]\n"
        "print((own / 'log').read_text())\n"
        "out = Path(words[words.index('-o') + 1]) / (Path(words[-1]).stem + '_edgetpu.tflite')\n"
        "if (own / 'output').is_file(): shutil.copy(own / 'output', out)\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def converted(source: Any, target: str | Target, data: NDArray[Any] = PICTURES, **quantize: Any) -> Conversion:
    return convert(source, data, recipe=Recipe((Quantize(**quantize),), target=target), card=CARD)


pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.usefixtures("shared_child"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_one_file_is_written_and_the_line_to_type_said(model: Path, tmp_path: Path) -> None:
    made = converted(model, "edgetpu")
    assert made.compiled is None
    assert "edgetpu_compiler -s -m 14" in str(made.report)
    assert "1 op: 1 on the Edge TPU" in str(made.report)
    assert made.save(tmp_path / "small.tflite") == (tmp_path / "small.tflite",)
    assert not is_compiled(parse((tmp_path / "small.tflite").read_bytes()))


def test_with_one_the_compiled_file_stands_beside_the_plain_one(model: Path, tmp_path: Path, compiler: Path) -> None:
    made = converted(model, "edgetpu")
    assert "Compiled by version 16.0.384591198: 1 of 1 ops on the chip, as predicted." in str(made.report)
    written = made.save(tmp_path / "birds.tflite")
    assert [path.name for path in written] == [
        "birds.tflite",
        "birds_edgetpu.tflite",
        "birds_edgetpu.log",
        "birds_edgetpu.json",
    ]
    assert not is_compiled(parse(written[0].read_bytes()))
    assert is_compiled(parse(written[1].read_bytes()))
    assert "version 16.0" in written[2].read_text()
    assert set(json.loads(written[3].read_text())) >= {"compiler", "prediction", "differences"}


def test_a_compiler_that_fails_costs_the_compiled_file_and_not_the_plain_one(
    model: Path, tmp_path: Path, compiler: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "data.npy", PICTURES)
    (compiler / "output").unlink()
    words = ["--calibration", str(tmp_path / "data.npy"), "--target", "edgetpu", "--no-verify", "--task", "tensors"]
    assert cli.main([str(model), *words, "-o", str(tmp_path / "birds.tflite"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["written"] == [str(tmp_path / "birds.tflite")]
    assert said["compiler"].startswith("Not compiled: The Edge TPU compiler")
    assert said["compiler"] in said["warnings"]
    assert said["check"]["command"] == f"edgetpu_compiler -s -m 14 -o {tmp_path} {tmp_path / 'birds.tflite'}"
    assert [path.name for path in tmp_path.glob("birds*")] == ["birds.tflite"]


def test_what_a_gate_refuses_is_not_compiled(model: Path, compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "judge", lambda *_arguments: AccuracyDropError("The accuracy fell."))
    recipe = Recipe((Quantize(), Verify()), target="edgetpu")
    with pytest.raises(AccuracyDropError) as caught:
        convert(model, PICTURES, recipe=recipe, card=CARD)
    assert isinstance(caught.value.conversion, Conversion)
    assert caught.value.conversion.compiled is None


def test_the_compiled_file_of_an_earlier_conversion_is_warned_of(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = replace(converted(model, "edgetpu"), compiled=None)
    (tmp_path / "birds_edgetpu.tflite").write_bytes(tiny_compiled.compiled())
    made.save(tmp_path / "birds.tflite")
    assert "`birds_edgetpu.tflite` is of an earlier conversion" in caplog.text


def test_of_several_files_all_are_written_or_none(model: Path, tmp_path: Path, compiler: Path) -> None:
    made = converted(model, "edgetpu")
    (tmp_path / "birds.tflite").write_bytes(b"what stood there before")
    (tmp_path / "birds_edgetpu.tflite").mkdir()
    with pytest.raises(OutputError):
        made.save(tmp_path / "birds.tflite")
    assert (tmp_path / "birds.tflite").read_bytes() == b"what stood there before"
    assert sorted(path.name for path in tmp_path.glob("*birds*")) == ["birds.tflite", "birds_edgetpu.tflite"]


def test_no_other_target_is_compiled(model: Path, compiler: Path) -> None:
    made = converted(model, "cpu")
    assert (made.compiled, made.report.compiler) == (None, "")


@pytest.mark.parametrize("name", ["android", "android-gpu"])
def test_android_gets_uint8_at_both_ends_and_metadata(model: Path, name: str) -> None:
    made = converted(model, name)
    said = read(made.tflite)
    assert (said.inputs[0].dtype, said.outputs[0].dtype) == ("uint8", "uint8")
    assert made.report.check is not None
    assert any("carries TFLite Metadata" in note for note in made.report.check.notes)
    assert made.report.to_json()["io"] == "uint8"


def test_a_target_of_ones_own_is_held_to_its_ops(keras: Any, tmp_path: Path) -> None:
    small(keras, keras.layers.Conv2D(4, 3, name="stem"), keras.layers.Softmax(name="last")).save(tmp_path / "m.keras")
    own = Target("board", ("litert",), op_versions=(("SOFTMAX", 0),))
    with pytest.raises(UnsupportedOpError, match="`board` cannot run SOFTMAX") as caught:
        converted(tmp_path / "m.keras", own)
    assert "`last`" in caught.value.received


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.slow
def test_chosen_ranges_hold_where_layers_are_replaced(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    stem = layers.Conv2D(4, 3, groups=2, activation="hard_swish", name="stem")
    inputs = keras.Input((8, 8, 4))
    values = layers.UpSampling2D(2, name="up")(layers.LeakyReLU(0.1, name="leaky")(stem(inputs)))
    keras.Model(inputs, layers.GlobalAveragePooling2D()(values)).save(tmp_path / "m.keras")
    pictures = np.random.default_rng(0).normal(0, 1, (24, 8, 8, 4)).astype(np.float32)
    made = converted(tmp_path / "m.keras", "edgetpu", pictures, ranges="percentile")
    assert len(made.report.replaced) == 3
    assert made.report.check is not None
    assert set(made.report.check.counts) == {"edgetpu"}


def test_a_float_op_is_refused_with_layer_op_and_version(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    minus = layers.Lambda(lambda x: -x, name="minus")
    small(keras, layers.Conv2D(4, 3), minus, layers.Conv2D(2, 1)).export(tmp_path / "m", verbose=False)
    with pytest.raises(ConversionError, match="float32 tensor is left") as caught:
        converted(tmp_path / "m", "edgetpu")
    assert "NEG version 1" in caught.value.received
    assert "minus" in caught.value.received
    assert "dynamic" not in caught.value.next_step


def test_a_layer_without_replacement_is_refused_with_its_name(keras: Any, tmp_path: Path) -> None:
    small(keras, keras.layers.Conv2D(4, 3), keras.layers.Activation("gelu", name="odd")).save(tmp_path / "m.keras")
    with pytest.raises(UnsupportedOpError, match="`odd`") as caught:
        converted(tmp_path / "m.keras", "edgetpu")
    assert "ReLU6" in caught.value.next_step
    assert converted(tmp_path / "m.keras", "cpu").tflite


def test_a_saved_model_whose_layers_would_be_replaced_is_refused(keras: Any, tmp_path: Path) -> None:
    plain = small(keras, keras.layers.Conv2D(4, 3, activation="relu"))
    leaky = small(keras, keras.layers.Conv2D(4, 3), keras.layers.Activation("hard_swish"))
    for name, one in (("plain", plain), ("leaky", leaky)):
        one.export(tmp_path / name, verbose=False)
    assert converted(tmp_path / "plain", "edgetpu").tflite
    with pytest.raises(UnsupportedOpError, match="SavedModel") as caught:
        converted(tmp_path / "leaky", "edgetpu")
    assert "HARD_SWISH" in caught.value.received
    assert "`.keras`" in caught.value.next_step


def test_a_model_without_any_op_for_the_chip_is_refused(keras: Any, tmp_path: Path) -> None:
    inputs = keras.Input((8, 8, 3))
    keras.Model(inputs, keras.ops.floor(inputs)).save(tmp_path / "m.keras")
    with pytest.raises(ConversionError, match="float32 tensor is left"):
        converted(tmp_path / "m.keras", "edgetpu")


@pytest.mark.parametrize("name", ["birds_edgetpu.tflite", "_edgetpu.tflite"])
def test_the_name_of_a_compiled_file_is_refused_for_another(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="_edgetpu") as caught:
        check_name(tmp_path / name)
    assert "_edgetpu" not in caught.value.next_step
    assert cli.main([str(tmp_path / "m.keras"), "-o", str(tmp_path / name), "--target", "edgetpu"]) == 2
    check_name(tmp_path / "birds.tflite")
