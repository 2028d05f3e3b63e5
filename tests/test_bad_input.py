"""What people hand over by mistake, at the level of both command lines: the exit code and the words for each.

And what only looks like a mistake: pictures that lie on their side, in other colours or depths, are read, and read the
same with OpenCV and without.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from tiny_flatbuffer import Scalar, Vector
from tiny_models import FULLY_CONNECTED, RESHAPE, SOFTMAX, OperatorSpec, TensorSpec

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {"edgeinfer": "edgeinfer.cli", "edgeinfer-convert": "converters.cli"}
CORNERS = ("top left", "top right", "bottom left", "bottom right")


# --- files ----------------------------------------------------------------------------------------


def corners(*, dense_version: int = 1, dense_op: int = FULLY_CONNECTED, custom: str = "") -> bytes:
    """A model that names the brightest corner: input (1, 2, 2, 3) floats 0..1, one logit per pixel, softmax."""
    weights = [float(column // 3 == row) for row in range(4) for column in range(12)]
    tensors = [
        TensorSpec("image", (1, 2, 2, 3)),
        TensorSpec("flat", (2,), "int32", values=[1, 12]),
        TensorSpec("row", (1, 12)),
        TensorSpec("weights", (4, 12), values=weights),
        TensorSpec("logits", (1, 4)),
        TensorSpec("corner", (1, 4)),
    ]
    operators = [
        OperatorSpec(RESHAPE, (0, 1), (2,), 17, {0: Vector("i", [1, 12])}),
        OperatorSpec(
            dense_op, (2, 3, -1), (4,), 0 if custom else 8, {0: Scalar("b", 0)}, dense_version, custom_code=custom
        ),
        OperatorSpec(SOFTMAX, (4,), (5,), 9, {0: Scalar("f", 1.0)}),
    ]
    notes = tiny_models.tflite_metadata(normalization=([0.0], [255.0]), colour=1, labels_file="labels.txt")
    return tiny_models.model(
        tensors,
        operators,
        inputs=[0],
        outputs=[5],
        metadata={"TFLITE_METADATA": notes},
        files={"labels.txt": "\n".join(CORNERS).encode()},
    )


def bomb() -> bytes:
    """A PNG of 200 megapixels in 25 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 20_000, 10_000, 1, 0, 0, 0, 0)  # 1 bit of grey
    rows = zlib.compress(bytes(10_000 * (1 + 20_000 // 8)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def bright(corner: int) -> Any:
    """A black picture with one white quarter: (32, 32, 3) uint8."""
    picture = np.zeros((32, 32, 3), np.uint8)
    row, column = divmod(corner, 2)
    picture[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 255
    return picture


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that is wrong, each under a name that says how."""
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    folder = tmp_path_factory.mktemp("bad")
    good = corners()
    models = {
        "good.tflite": good,
        "text.tflite": b"This is not a model at all.",
        "empty.tflite": b"",
        "cut.tflite": good[: len(good) // 3],
        "newer.tflite": corners(dense_version=99),
        "custom.tflite": corners(dense_op=tiny_models.CUSTOM, custom="MyOp"),
        "silent.tflite": tiny_models.classifier(dtype="float32"),
        "rows.tflite": tiny_models.dense(),
        "text.keras": b"no model either",
    }
    for name, data in models.items():
        (folder / name).write_bytes(data)
    pillow.fromarray(bright(0)).save(folder / "photo.png")
    photo = (folder / "photo.png").read_bytes()
    pictures = {"empty.png": b"", "cut.png": photo[: len(photo) // 2], "text.jpg": b"hello", "bomb.png": bomb()}
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    floats, truth = np.random.default_rng(0).random((12, 2, 2, 3), np.float32), np.arange(12) % 4
    broken = floats.copy()
    broken[5, 0, 0, 0] = np.nan
    arrays: dict[str, dict[str, Any]] = {
        "good": {"x": floats, "y": truth},
        "shape": {"x": np.ones((12, 3, 3, 3), np.float32), "y": truth},
        "dtype": {"x": np.ones((12, 2, 2, 3), np.int32), "y": truth},
        "nan": {"x": broken, "y": truth},
        "other": {"pictures": floats},
        "unlabelled": {"x": floats},
        "classes": {"x": floats, "y": truth + 1},
        "uneven": {"x": floats, "y": truth[:7]},
        "none": {"x": floats[:0]},
        "constant": {"x": np.full((12, 2, 2, 3), 9, np.uint8)},
        "0..255": {"x": 255 * floats},
        "pixels": {"x": (255 * floats).astype(np.uint8)},
    }
    for name, content in arrays.items():
        np.savez(folder / f"{name}.npz", **content)
    (folder / "cut.npz").write_bytes((folder / "good.npz").read_bytes()[:300])
    (folder / "nothing").mkdir()
    (folder / "three.txt").write_text("a\nb\nc\n")
    (folder / "five.txt").write_text("a\nb\nc\nd\ne\n")
    (folder / "cut.keras").write_bytes(b"PK\x03\x04 half of a zip")
    (folder / "order.json").write_text('{"steps": [{"step": "verify"}, {"step": "quantize"}]}')
    (folder / "trains.json").write_text('{"steps": [{"step": "finetune"}, {"step": "quantize"}]}')
    (folder / "taught.json").write_text('{"steps": [{"step": "distill"}, {"step": "quantize"}]}')
    (folder / "step.json").write_text('{"steps": [{"step": "quantise"}]}')
    return folder


def run(words: str, folder: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a command line in a process of its own, in `folder`."""
    name, *rest = words.split()
    return subprocess.run(
        [sys.executable, "-m", COMMANDS[name], *rest],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **settings,
    )


# --- in real processes ----------------------------------------------------------------------------

BAD = [
    ("model that is not there", "edgeinfer run none.tflite photo.png", 2, "does not exist"),
    ("model that is text", "edgeinfer run text.tflite photo.png", 4, "not a TFLite model"),
    ("model that is empty", "edgeinfer run empty.tflite photo.png", 2, "empty"),
    ("model that was cut off", "edgeinfer run cut.tflite photo.png", 4, "damaged"),
    ("op version above the engine's", "edgeinfer run newer.tflite photo.png", 5, "FULLY_CONNECTED version 99"),
    ("custom op", "edgeinfer run custom.tflite photo.png", 5, "MyOp"),
    ("float model without normalization", "edgeinfer run silent.tflite photo.png", 2, "how to normalize"),
    ("model that takes no pictures", "edgeinfer run rows.tflite photo.png", 2, "(1, 6)"),
    ("labels fewer than classes", "edgeinfer run good.tflite photo.png --labels three.txt", 2, "3 labels"),
    ("labels more than classes", "edgeinfer run good.tflite photo.png --labels five.txt", 2, "5 labels"),
    ("picture that is not there", "edgeinfer run good.tflite none.png", 2, "none.png"),
    ("picture of zero bytes", "edgeinfer run good.tflite empty.png", 2, "is empty"),
    ("picture that was cut off", "edgeinfer run good.tflite cut.png", 2, "cannot be read"),
    ("picture that is text", "edgeinfer run good.tflite text.jpg", 2, "cannot be read"),
    ("picture of 200 megapixels", "edgeinfer run good.tflite bomb.png", 2, "too many pixels"),
    ("inspect what is no model", "edgeinfer inspect text.tflite", 4, "not a TFLite model"),
    ("bench what is no model", "edgeinfer bench cut.tflite", 4, "damaged"),
    ("array of the wrong shape", "edgeinfer evaluate good.tflite shape.npz", 2, "(3, 3, 3)"),
    ("array of the wrong type", "edgeinfer evaluate good.tflite dtype.npz", 2, "int32"),
    ("array with NaN", "edgeinfer evaluate good.tflite nan.npz", 2, "not finite"),
    ("array under another name", "edgeinfer evaluate good.tflite other.npz", 2, "none of the known arrays"),
    ("array without labels", "edgeinfer evaluate good.tflite unlabelled.npz", 2, "no labels"),
    ("classes that the model has not", "edgeinfer evaluate good.tflite classes.npz", 2, "classes 1 to 4"),
    ("labels of another length", "edgeinfer evaluate good.tflite uneven.npz", 2, "do not fit its samples"),
    ("npz that was cut off", "edgeinfer evaluate good.tflite cut.npz", 2, "cannot be read"),
    ("folder without pictures", "edgeinfer evaluate good.tflite nothing", 2, "holds no samples"),
    ("data that is not there", "edgeinfer evaluate good.tflite missing.npz", 2, "no such file"),
    ("unknown command", "edgeinfer classify good.tflite", 2, "invalid choice"),
    ("device that nothing runs on", "edgeinfer run good.tflite photo.png --device gpu", 3, "or on an Edge TPU"),
    ("file that was not compiled", "edgeinfer run good.tflite photo.png --device edgetpu", 5, "is not compiled"),
    ("number of a device that is none", "edgeinfer run good.tflite photo.png --device edgetpu:x", 2, "no address"),
    ("fallback on the CPU", "edgeinfer run good.tflite photo.png --fallback good.tflite", 2, "for a model on an Edge"),
    ("calibration that is not there", "edgeinfer-convert m.keras --calibration none -o x.tflite", 2, "no data here"),
    ("calibration without samples", "edgeinfer-convert m.keras --calibration nothing -o x.tflite", 2, "no samples"),
    ("calibration array without samples", "edgeinfer-convert m.keras --calibration none.npz -o x.tflite", 2, "sample"),
    ("calibration of no known type", "edgeinfer-convert m.keras --calibration dtype.npz -o x.tflite", 2, "int32"),
    ("no calibration", "edgeinfer-convert m.keras -o x.tflite", 2, "needs calibration data"),
    (
        "validation without labels",
        "edgeinfer-convert m.keras --calibration good.npz --validation unlabelled.npz -o x.tflite",
        2,
        "no labels",
    ),
    ("recipe in an impossible order", "edgeinfer-convert m.keras --recipe order.json -o x.tflite", 2, "Verify stands"),
    ("recipe with an unknown step", "edgeinfer-convert m.keras --recipe step.json -o x.tflite", 2, "`quantize`"),
    (
        "training without data",
        "edgeinfer-convert m.keras --calibration good.npz --recipe trains.json -o x.tflite",
        2,
        "--train DATA",
    ),
    (
        "training data without labels",
        "edgeinfer-convert m.keras --calibration good.npz --train unlabelled.npz --recipe trains.json -o x.tflite",
        2,
        "training data has no labels",
    ),
    (
        "training data that is not there",
        "edgeinfer-convert m.keras --calibration good.npz --train none --recipe trains.json -o x.tflite",
        2,
        "no data here",
    ),
    (
        "test data without labels",
        "edgeinfer-convert m.keras --calibration good.npz --test unlabelled.npz -o x.tflite",
        2,
        "test data has no labels",
    ),
    (
        "distillation without a teacher",
        "edgeinfer-convert m.keras --calibration good.npz --train good.npz --recipe taught.json -o x.tflite",
        2,
        "--teacher FILE",
    ),
    (
        "teacher that is not there",
        "edgeinfer-convert m.keras --calibration good.npz --train good.npz --recipe taught.json --teacher t -o x",
        2,
        "teacher does not exist",
    ),
    (
        "teacher whom nobody asks",
        "edgeinfer-convert m.keras --calibration good.npz --teacher text.keras -o x.tflite",
        2,
        "no step asks it",
    ),
    ("output that has no folder", "edgeinfer-convert m.keras -o none/x.tflite", 2, "mkdir -p none"),
    ("annotate what is no model", "edgeinfer-convert annotate text.tflite --task tensors", 4, "not a TFLite model"),
    (
        "model to convert that was cut off",
        "edgeinfer-convert cut.keras --calibration good.npz -o x.tflite",
        4,
        "cut off",
    ),
    ("misspelt engine", "edgeinfer run good.tflite photo.png --engine litret", 2, "Did you mean `litert`?"),
    ("misspelt option", "edgeinfer run good.tflite photo.png --enigne litert", 2, "Did you mean `--engine`?"),
    ("misspelt option of the converter", "edgeinfer-convert m.keras --calibraton x -o x", 2, "Did you mean `--calibra"),
    ("misspelt command", "edgeinfer benhc good.tflite", 2, "Did you mean `bench`?"),
    ("labels file without a byte", "edgeinfer run good.tflite photo.png --labels empty.png", 2, "one class a line"),
    ("folder for a picture", "edgeinfer run good.tflite nothing", 2, "is a folder, not a picture"),
    ("annotate with too few labels", "edgeinfer-convert annotate good.tflite --labels three.txt", 2, "3 labels"),
]


@pytest.mark.parametrize(("words", "code", "said"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_mistake_has_its_exit_code_and_its_words(place: Path, words: str, code: int, said: str) -> None:
    before = sorted(path.name for path in place.iterdir())
    done = run(words, place)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(path.name for path in place.iterdir()) == before


@pytest.mark.parametrize("words", [BAD[1][1], BAD[33][1], "edgeinfer evaluate good.tflite nan.npz"])
def test_a_mistake_under_json_is_an_object(place: Path, words: str) -> None:
    done = run(f"{words} --json", place)
    error = json.loads(done.stdout)["error"]
    assert error.keys() == {"type", "message", "received", "expected", "next"}
    assert done.stderr == ""
    assert done.returncode in (2, 4)


def test_one_bad_picture_does_not_cost_the_answers_for_the_others(place: Path) -> None:
    done = run("edgeinfer run good.tflite photo.png empty.png photo.png", place)
    assert done.returncode == 2
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == ["photo.png", "photo.png"]
    assert "empty.png" in done.stderr


# --- calibration, with a stand-in for the child that has TensorFlow -------------------------------


class StandIn:
    """Says what the model is, and fails the test when it is asked to convert."""

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def load(self, path: Path) -> Any:
        from converters.facts import ModelFacts, TensorFacts
        from converters.graph.leading import Leading

        image, corner = TensorFacts("image", (1, 2, 2, 3), "float32"), TensorFacts("corner", (1, 4), "float32")
        leading = Leading(1 / 255, 0.0) if "rescaled" in path.name else None
        return ModelFacts("m", "keras", (image,), (corner,), leading=leading)

    def convert(self, _request: object) -> None:
        pytest.fail("the mistake was not seen before the conversion")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("m.keras --calibration constant.npz --normalization 0 255", "one colour value"),
        ("m.keras --calibration shape.npz", "wrong shape"),
        ("m.keras --calibration 0..255.npz --normalization 0 255", "not what the model was trained on"),
        ("rescaled.keras --calibration good.npz", "not what the model was trained on"),
        ("m.keras --calibration nan.npz", "not finite"),
        ("m.keras --calibration pixels.npz", "Give `Card(normalization=(mean, std))`"),
        ("rescaled.keras --calibration pixels.npz --normalization 127.5 127.5", "does so again"),
        ("m.keras --calibration good.npz --labels three.txt", "3 labels"),
        ("m.keras --calibration good.npz --labels five.txt", "5 labels"),
    ],
    ids=[
        "constant",
        "wrong shape",
        "0..255 where 0..1 is declared",
        "0..1 where 0..255 is declared",
        "NaN",
        "pixels without normalization",
        "normalized twice",
        "labels fewer",
        "labels more",
    ],
)
def test_bad_calibration_is_refused_before_it_is_converted_with(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: metadata is written on workstations")
    from converters.cli import main

    monkeypatch.setattr(import_module("converters.convert"), "ConverterProcess", StandIn)
    monkeypatch.chdir(place)
    assert main([*words.split(), "-o", "x.tflite"]) == 2
    assert said in capsys.readouterr().err
    assert not (place / "x.tflite").exists()


# --- models that cannot be converted --------------------------------------------------------------


@pytest.fixture(scope="module")
def keras_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with "lambda.keras", whose layer is Python code, and "open.keras", whose height is None."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    keras = pytest.importorskip("keras")
    folder = tmp_path_factory.mktemp("keras")
    layers = keras.layers
    keras.Sequential([keras.Input((2, 2, 3)), layers.Lambda(lambda x: x * 2.0), layers.Flatten()]).save(
        folder / "lambda.keras"
    )
    keras.Sequential([keras.Input((None, 8, 3)), layers.Conv2D(2, 3), layers.GlobalAveragePooling2D()]).save(
        folder / "open.keras"
    )
    (folder / "text.keras").write_text("no model")
    np.savez(folder / "good.npz", x=np.random.default_rng(0).random((12, 2, 2, 3), np.float32))
    return folder


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("model", "code", "said"),
    [
        ("lambda.keras", 3, "Lambda"),
        ("open.keras", 3, "no fixed shape"),
        ("text.keras", 3, "no Keras model"),
        ("none.keras", 2, "cannot be read"),
    ],
    ids=["Lambda layer", "None height", "text", "not there"],
)
def test_a_model_that_cannot_be_converted_is_refused_with_the_reason(
    keras_models: Path, model: str, code: int, said: str
) -> None:
    done = run(f"edgeinfer-convert {model} --calibration good.npz -o x.tflite", keras_models)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (keras_models / "x.tflite").exists()


# --- full disk ------------------------------------------------------------------------------------


def limit_file_size(size_bytes: int) -> Callable[[], None]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))

    return limit


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB, where this machine lets us have one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk cannot be mounted here: that takes root, outside of most containers")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def assert_nothing_changed(folder: Path, done: subprocess.CompletedProcess[str], before: bytes) -> None:
    assert done.returncode == 3
    assert "OutputError: The file cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in folder.iterdir()] == ["m.tflite"]
    assert (folder / "m.tflite").read_bytes() == before


def test_a_file_that_may_not_grow_is_exit_code_3_and_the_old_one_stays(tmp_path: Path) -> None:
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: metadata is written on workstations")
    before = corners()
    (tmp_path / "m.tflite").write_bytes(before)
    words = "edgeinfer-convert annotate m.tflite --resize crop"
    done = run(words, tmp_path, preexec_fn=limit_file_size(len(before) // 2))
    assert_nothing_changed(tmp_path, done, before)


def test_a_full_disk_is_exit_code_3_and_the_old_file_stays(small_disk: Path) -> None:
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: metadata is written on workstations")
    before = tiny_models.with_files(corners(), {"filling.bin": "x" * 40_000})
    (small_disk / "m.tflite").write_bytes(before)
    labels = small_disk.parent / "long.txt"
    labels.write_text("".join(f"{number}{'-' * 12_000}\n" for number in range(4)))
    done = run(f"edgeinfer-convert annotate m.tflite --labels {labels}", small_disk)
    assert "No space left" in done.stderr
    assert_nothing_changed(small_disk, done, before)


def test_a_reader_that_goes_away_is_no_error(place: Path) -> None:
    words = [sys.executable, "-m", "edgeinfer.cli", "run", "good.tflite", *["photo.png"] * 200, "--json"]
    with subprocess.Popen(
        words,
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"{")
        process.stdout.close()
        assert (process.stderr.read(), process.wait(timeout=60)) == (b"", 0)


# --- Ctrl-C ---------------------------------------------------------------------------------------


def test_ctrl_c_is_exit_code_130_without_a_traceback(place: Path, tmp_path: Path) -> None:
    # The second picture is a pipe that nobody writes to: the command waits in the middle of its work.
    os.mkfifo(tmp_path / "pipe.png")
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeinfer.cli", "run", "good.tflite", "photo.png", str(tmp_path / "pipe.png")],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("photo.png")
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out, err.strip()) == (130, "", "Interrupted.")


# --- what is no mistake ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd_pictures(place: Path) -> dict[str, str]:
    """File name to the corner that is white when the picture is looked at."""
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    folder = place / "odd"
    folder.mkdir()
    # Exif 2.32, tag 274, value 6: row 0 is the right side, column 0 the top. So the stored top left is seen top right.
    exif = pillow.Exif()
    exif[274] = 6
    pillow.fromarray(bright(0)).save(folder / "rotated.jpg", exif=exif, quality=95)
    pillow.fromarray(bright(0)).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    pillow.fromarray(bright(2)[..., 0].astype(np.uint16) * 257).save(folder / "sixteen.png")
    pillow.fromarray(bright(3)).save(folder / "palette.gif")
    see_through = np.full((32, 32, 4), 255, np.uint8)
    see_through[..., 3] = bright(1)[..., 0]
    pillow.fromarray(see_through).save(folder / "alpha.png")
    pillow.fromarray(bright(2)[..., 0]).save(folder / "grey.jpg", quality=95)
    return {
        "rotated.jpg": "top right",
        "cmyk.jpg": "top left",
        "sixteen.png": "bottom left",
        "palette.gif": "bottom right",
        "alpha.png": "top right",
        "grey.jpg": "bottom left",
    }


_WITHOUT_OPENCV = "import sys; sys.modules['cv2'] = None; from edgeinfer.cli import main; sys.exit(main())"


def test_odd_pictures_are_read_and_read_the_same_with_opencv_and_without(
    place: Path, odd_pictures: dict[str, str]
) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed: there is one reader only")
    pictures = [f"odd/{name}" for name in odd_pictures]
    with_both = run(f"edgeinfer run good.tflite {' '.join(pictures)} --json", place)
    with_pillow = subprocess.run(
        [sys.executable, "-c", _WITHOUT_OPENCV, "run", "good.tflite", *pictures, "--json"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    answers = []
    for done in (with_both, with_pillow):
        assert (done.returncode, done.stderr) == (0, "")
        answers.append([json.loads(line)["results"] for line in done.stdout.splitlines()])
    assert answers[0] == answers[1]
    found = {name: rows[0]["label"] for name, rows in zip(odd_pictures, answers[0], strict=True)}
    assert found == odd_pictures
    # Three channels of 1 against three corners of 0: e^3 / (e^3 + 3) = 0.87.
    assert all(rows[0]["confidence"] == pytest.approx(0.870, abs=0.01) for rows in answers[0])
