"""The tests' own small models are honest: both engines load them and give the answer that can be said by hand."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny_models
from tiny_flatbuffer import Scalar, Table, Vector, flatbuffer

Run = Callable[[bytes, Any], Any]


@pytest.fixture(scope="module")
def run() -> Run:
    """Run a model on stored numbers and return real numbers."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter

    def invoke(data: bytes, stored: Any) -> Any:
        interpreter = Interpreter(model_content=data)
        interpreter.allocate_tensors()
        source = interpreter.get_input_details()[0]
        interpreter.set_tensor(source["index"], stored.astype(source["dtype"]))
        interpreter.invoke()
        target = interpreter.get_output_details()[0]
        scale, zero_point = target["quantization"]
        raw = interpreter.get_tensor(target["index"])
        return (raw.astype(np.float64) - zero_point) * scale if scale else raw

    return invoke


@pytest.mark.parametrize(("dtype", "low", "high"), [("int8", -128, 127), ("uint8", 0, 255), ("float32", 0.0, 1.0)])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_the_class_is_the_strongest_channel(run: Run, dtype: str, low: float, high: float, channel: int) -> None:
    picture = np.full((1, 6, 8, 3), low)
    picture[..., channel] = high
    answer = run(tiny_models.classifier(dtype=dtype, size=(8, 6)), picture)
    assert answer.argmax() == channel
    assert answer[0, channel] > 0.99


def test_a_black_picture_is_dark_with_the_probability_worked_out_by_hand(run: Run) -> None:
    answer = run(tiny_models.classifier(dtype="float32"), np.zeros((1, 8, 8, 3)))
    assert answer[0, 3] == pytest.approx(np.exp(2) / (np.exp(2) + 3), abs=1e-5)


def test_dense_adds_up_its_inputs(run: Run) -> None:
    answer = run(tiny_models.dense(shape=(1, 6), outputs=2), np.arange(6.0)[None])
    np.testing.assert_allclose(answer, [[15.0, 30.0]])


def test_the_writer_makes_the_bytes_of_the_format_description() -> None:
    # One table with an int32 5 in slot 0 and no vector: root offset, identifier, vtable (6 bytes), table.
    data = flatbuffer(Table({0: Scalar("i", 5)}), b"ABCD")
    (root,) = struct.unpack_from("<I", data)
    (back,) = struct.unpack_from("<i", data, root)
    assert data[4:8] == b"ABCD"
    assert struct.unpack_from("<HHH", data, root - back) == (6, 8, 4)
    assert struct.unpack_from("<i", data, root + 4) == (5,)


def test_the_writer_aligns_the_first_element_of_a_vector() -> None:
    data = flatbuffer(Table({0: Vector("B", b"weights!", align=16)}), b"ABCD")
    assert data.index(b"weights!") % 16 == 0


def test_a_model_is_the_same_bytes_at_any_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    # Else the library tries each anew, in a child process, because it knows a file by its hash.
    now = tiny_models.classifier(labels=("red", "green", "blue", "dark"))
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert tiny_models.classifier(labels=("red", "green", "blue", "dark")) == now
