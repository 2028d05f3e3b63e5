"""Small runnable `.tflite` files, made from nothing but `struct`, so that every environment can have them.

`classifier()` is the one that most tests want: MEAN over height and width, FULLY_CONNECTED with an identity,
SOFTMAX. So its answer can be said by hand: **class k is the strongest colour channel k**; class `channels`
means "dark" (no channel's mean lies above a quarter of the range), and classes beyond that never win.

`model()` builds any graph out of `TensorSpec` and `OperatorSpec`; `tiny_flatbuffer` is the bare format, for
tests that need a file that is wrong on purpose.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tiny_flatbuffer import Field, Scalar, Table, Vector, flatbuffer

# --- TFLite: schema.fbs version 3 of tensorflow/tensorflow ----------------------------------------

DTYPES = {
    "float32": (0, "f"),
    "float16": (1, "e"),
    "int32": (2, "i"),
    "uint8": (3, "B"),
    "int64": (4, "q"),
    "string": (5, "B"),
    "bool": (6, "?"),
    "int16": (7, "h"),
    "int8": (9, "b"),
}
ADD, CONV_2D, DEPTHWISE_CONV_2D, DEQUANTIZE, FULLY_CONNECTED, LOGISTIC = 0, 3, 4, 6, 9, 14
MAX_POOL_2D, RESHAPE, SOFTMAX, CUSTOM, PAD, MEAN, SQUEEZE, QUANTIZE = 17, 22, 25, 32, 34, 40, 43, 114


@dataclass(frozen=True)
class TensorSpec:
    """One tensor; `values` makes it a constant, `data` does so with raw bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    scale: float | Sequence[float] | None = None
    zero_point: int | Sequence[int] = 0
    quantized_dimension: int = 0
    values: Sequence[float] | None = None
    data: bytes | None = None
    shape_signature: tuple[int, ...] | None = None
    is_variable: bool = False

    @property
    def bytes(self) -> bytes | None:
        if self.values is None:
            return self.data
        return struct.pack(f"<{len(self.values)}{DTYPES[self.dtype][1]}", *self.values)


@dataclass(frozen=True)
class OperatorSpec:
    """One operator; `options` are the fields of the builtin options, `options_type` says which options."""

    op: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options_type: int = 0
    options: Mapping[int, Field] = field(default_factory=dict)
    version: int = 1
    custom_code: str = ""
    custom_options: bytes | None = None


def _tensor_table(tensor: TensorSpec, buffer: int) -> Table:
    fields: dict[int, Field] = {
        0: Vector("i", tensor.shape),
        1: Scalar("b", DTYPES[tensor.dtype][0]),
        2: Scalar("I", buffer),
        3: tensor.name,
    }
    if tensor.scale is not None:
        scales = [tensor.scale] if isinstance(tensor.scale, (int, float)) else list(tensor.scale)
        zeros = [tensor.zero_point] if isinstance(tensor.zero_point, int) else list(tensor.zero_point)
        if len(zeros) == 1:
            zeros *= len(scales)
        fields[4] = Table(
            {
                2: Vector("f", scales),
                3: Vector("q", zeros, align=8),
                6: Scalar("i", tensor.quantized_dimension),
            }
        )
    if tensor.is_variable:
        fields[5] = Scalar("b", 1)
    if tensor.shape_signature is not None:
        fields[7] = Vector("i", tensor.shape_signature)
    return Table(fields)


def _operator_table(operator: OperatorSpec, code: int) -> Table:
    fields: dict[int, Field] = {
        0: Scalar("I", code),
        1: Vector("i", operator.inputs),
        2: Vector("i", operator.outputs),
    }
    if operator.options_type:
        fields[3] = Scalar("B", operator.options_type)
        fields[4] = Table(operator.options)
    if operator.custom_options is not None:
        fields[5] = Vector("B", operator.custom_options, align=16)
    return Table(fields)


def _code_table(op: int, version: int, custom_code: str) -> Table:
    fields: dict[int, Field] = {0: Scalar("b", min(op, 127)), 2: Scalar("i", version), 3: Scalar("i", op)}
    if custom_code:
        fields[1] = custom_code
    return Table(fields)


# What CALL_ONCE may call: it takes nothing, makes nothing and does nothing.
EMPTY_SUBGRAPH = Table({0: [], 1: Vector("i", []), 2: Vector("i", []), 3: [], 4: "none"})


def model(
    tensors: Sequence[TensorSpec],
    operators: Sequence[OperatorSpec],
    *,
    inputs: Sequence[int],
    outputs: Sequence[int],
    metadata: Mapping[str, bytes] | None = None,
    files: Mapping[str, bytes] | None = None,
    changes: Mapping[int, Field] | None = None,
    subgraphs: Sequence[Table] = (),
) -> bytes:
    """A whole file with one subgraph, and those that its operators call.

    Args:
        tensors: In the order of their indices.
        operators: In the order in which they run.
        inputs: Tensor indices.
        outputs: Tensor indices.
        metadata: Named buffers, e.g. {"TFLITE_METADATA": ..., "min_runtime_version": b"1.14.0"}.
        files: Appended as a zip, e.g. {"labels.txt": b"red"}.
        changes: Fields of the root table to replace, for files that are wrong on purpose.
        subgraphs: More of them, number 1 and on, e.g. `EMPTY_SUBGRAPH`.
    """
    buffers = [Table()]
    tensor_tables = []
    for tensor in tensors:
        data = tensor.bytes
        if data is None:
            tensor_tables.append(_tensor_table(tensor, 0))
        else:
            tensor_tables.append(_tensor_table(tensor, len(buffers)))
            buffers.append(Table({0: Vector("B", data, align=16)}))
    entries = []
    for name, value in ({} if metadata is None else metadata).items():
        entries.append(Table({0: name, 1: Scalar("I", len(buffers))}))
        buffers.append(Table({0: Vector("B", value, align=16)}))
    codes = sorted({(one.op, one.version, one.custom_code) for one in operators})
    operator_tables = [_operator_table(one, codes.index((one.op, one.version, one.custom_code))) for one in operators]
    subgraph = Table(
        {
            0: tensor_tables,
            1: Vector("i", list(inputs)),
            2: Vector("i", list(outputs)),
            3: operator_tables,
            4: "main",
        }
    )
    root: dict[int, Field] = {
        0: Scalar("I", 3),
        1: [_code_table(*code) for code in codes],
        2: [subgraph, *subgraphs],
        3: "made by tiny_models",
        4: buffers,
        6: entries,
    }
    root.update({} if changes is None else changes)
    data = flatbuffer(Table(root), b"TFL3")
    return with_files(data, files) if files else data


def with_files(data: bytes, files: Mapping[str, bytes | str]) -> bytes:
    """The model with a zip behind it, as TFLite Metadata appends label files."""
    out = io.BytesIO()
    out.write(data)
    with zipfile.ZipFile(out, "a") as archive:
        for name, content in files.items():
            # Without the time of day: the same model has the same hash, and is tried once.
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


# --- TFLite Metadata: metadata_schema.fbs of tensorflow/tflite-support ----------------------------


def tflite_metadata(
    *,
    name: str = "tiny",
    normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    colour: int | None = None,
    labels_file: str | None = None,
    input_name: str = "image",
    output_name: str = "probability",
    author: str = "",
) -> bytes:
    """A `TFLITE_METADATA` buffer for one input and one output.

    Args:
        name: Of the model.
        normalization: Means and stds, each of one value or one per channel, in pixel units.
        colour: 1 is RGB, 2 is GRAYSCALE, 0 is UNKNOWN, None leaves ImageProperties out.
        labels_file: Name of the file in the zip.
        input_name: Of the input, for people.
        output_name: Of the output, for people.
        author: Of the model.
    """
    source: dict[int, Field] = {0: input_name}
    if colour is not None:
        source[3] = Table({0: Scalar("B", 2), 1: Table({0: Scalar("b", colour)})})
    if normalization is not None:
        options = Table({0: Vector("f", normalization[0]), 1: Vector("f", normalization[1])})
        source[4] = [Table({0: Scalar("B", 1), 1: options})]
    target: dict[int, Field] = {0: output_name}
    if labels_file is not None:
        target[6] = [Table({0: labels_file, 2: Scalar("b", 2)})]
    subgraph = Table({2: [Table(source)], 3: [Table(target)]})
    root: dict[int, Field] = {0: name, 1: "a tiny model", 2: "v1", 3: [subgraph], 5: "Apache-2.0", 7: "1.0.0"}
    if author:
        root[4] = author
    return flatbuffer(Table(root), b"M001")


# --- models whose answer can be said by hand ------------------------------------------------------

_LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
_SOFTMAX_SCALE = {"int8": (1 / 256, -128), "uint8": (1 / 256, 0), "int16": (1 / 32768, 0)}


def _span(dtype: str, low: float, high: float) -> tuple[float, int]:
    """Scale and zero point, so that the dtype's ends mean `low` and `high` (int16 is symmetric)."""
    first, last = _LIMITS[dtype]
    if dtype == "int16":
        return max(abs(low), abs(high)) / last, 0
    scale = (high - low) / (last - first)
    return scale, round(first - low / scale)


def classifier(
    *,
    dtype: str = "int8",
    size: tuple[int, int] = (8, 8),
    channels: int = 3,
    classes: int = 4,
    activation: str = "softmax",
    input_range: tuple[float, float] = (0.0, 1.0),
    labels: Sequence[str] = (),
    normalization: tuple[float, float] | None = None,
    record: Mapping[str, object] | None = None,
    metadata: Mapping[str, bytes] | None = None,
) -> bytes:
    """A picture classifier: class k wins where colour channel k is the strongest.

    Logits are `8 / (high - low) * mean of channel k`, with (low, high) the input range. A picture whose red
    is `high` everywhere and whose green and blue are `low` has logits that lie 8 apart: softmax gives class 0
    more than 0.99. A black picture of 3 channels and 4 classes gives "dark" e^2 / (e^2 + 3) = 0.71.

    Args:
        dtype: Of input and output: "int8", "uint8", "int16" or "float32".
        size: (width, height).
        channels: Colour channels.
        classes: Class `channels` is "dark", later ones never win.
        activation: "softmax", "sigmoid" or "none".
        input_range: The real values that pixels 0 and 255 become.
        labels: Written into the zip as `labels.txt` and named in the TFLite Metadata.
        normalization: (mean, std) written into the TFLite Metadata; None writes none.
        record: Written into the zip as `edgeinfer.json`.
        metadata: Further named buffers, or other contents for `TFLITE_METADATA`.

    Returns:
        Input (1, height, width, channels); output (1, classes).
    """
    width, height = size
    low, high = input_range
    gain = 8 / (high - low)
    shown = (1, height, width, channels)
    weights = [float(row == column) for row in range(classes) for column in range(channels)]
    dark = gain * (low + (high - low) / 4)
    never = gain * low - 4.0
    bias = [0.0] * min(classes, channels) + [dark] * (classes > channels) + [never] * (classes - channels - 1)
    axes = TensorSpec("axes", (2,), "int32", values=[1, 2])
    if dtype == "float32":
        tensors = [
            TensorSpec("image", shown),
            axes,
            TensorSpec("mean", (1, channels)),
            TensorSpec("weights", (classes, channels), values=[gain * one for one in weights]),
            TensorSpec("bias", (classes,), values=bias),
            TensorSpec("logits", (1, classes)),
            TensorSpec("answer", (1, classes)),
        ]
        versions = (1, 1, 1)
    else:
        scale, zero = _span(dtype, low, high)
        weight_dtype = "uint8" if dtype == "uint8" else "int8"
        weight_zero = 128 if dtype == "uint8" else 0
        weight_scale = gain / 127
        bias_dtype = "int64" if dtype == "int16" else "int32"
        logit_scale, logit_zero = _span(dtype, gain * low - 4.0, gain * high)
        answer_scale, answer_zero = (logit_scale, logit_zero) if activation == "none" else _SOFTMAX_SCALE[dtype]
        tensors = [
            TensorSpec("image", shown, dtype, scale, zero),
            axes,
            TensorSpec("mean", (1, channels), dtype, scale, zero),
            TensorSpec(
                "weights",
                (classes, channels),
                weight_dtype,
                weight_scale,
                weight_zero,
                values=[int(127 * one) + weight_zero for one in weights],
            ),
            TensorSpec(
                "bias",
                (classes,),
                bias_dtype,
                scale * weight_scale,
                values=[round(one / (scale * weight_scale)) for one in bias],
            ),
            TensorSpec("logits", (1, classes), dtype, logit_scale, logit_zero),
            TensorSpec("answer", (1, classes), dtype, answer_scale, answer_zero),
        ]
        versions = {"int8": (2, 4, 2), "uint8": (1, 1, 1), "int16": (3, 4, 3)}[dtype]
    last = 5 if activation == "none" else 6
    operators = [
        OperatorSpec(MEAN, (0, 1), (2,), 27, {0: Scalar("b", 0)}, versions[0]),
        OperatorSpec(FULLY_CONNECTED, (2, 3, 4), (5,), 8, {0: Scalar("b", 0)}, versions[1]),
    ]
    if activation == "softmax":
        operators.append(OperatorSpec(SOFTMAX, (5,), (6,), 9, {0: Scalar("f", 1.0)}, versions[2]))
    elif activation == "sigmoid":
        operators.append(OperatorSpec(LOGISTIC, (5,), (6,), version=versions[2]))
    entries: dict[str, bytes] = {"min_runtime_version": b"1.14.0".ljust(16, b"\0")}
    files: dict[str, bytes] = {}
    if labels or normalization is not None:
        entries["TFLITE_METADATA"] = tflite_metadata(
            normalization=None if normalization is None else ([normalization[0]], [normalization[1]]),
            colour={1: 2, 3: 1}.get(channels, 0),
            labels_file="labels.txt" if labels else None,
        )
    if labels:
        files["labels.txt"] = "\n".join(labels).encode() + b"\n"
    if record is not None:
        files["edgeinfer.json"] = json.dumps(record).encode()
    entries.update({} if metadata is None else metadata)
    return model(tensors[: last + 1], operators, inputs=[0], outputs=[last], metadata=entries, files=files or None)


def dense(*, dtype: str = "float32", shape: tuple[int, ...] = (1, 6), outputs: int = 2) -> bytes:
    """A model that takes no picture: output k is the sum of all inputs times (k + 1); no activation.

    Args:
        dtype: "float32" only, or "int8" with input scale 1/128 (real -1..127/128).
        shape: Of the input, with the batch; it is flattened by RESHAPE.
        outputs: Length of the output, (1, outputs).
    """
    size = 1
    for length in shape[1:]:
        size *= length
    rows = [float(row + 1) for row in range(outputs) for _ in range(size)]
    steps = [round(row * 127 / outputs) for row in rows]
    flat = TensorSpec("flat", (2,), "int32", values=[1, size])
    if dtype == "float32":
        tensors = [
            TensorSpec("features", shape),
            flat,
            TensorSpec("row", (1, size)),
            TensorSpec("weights", (outputs, size), values=rows),
            TensorSpec("answer", (1, outputs)),
        ]
        version = 1
    else:
        scale = 1 / 128
        tensors = [
            TensorSpec("features", shape, "int8", scale, 0),
            flat,
            TensorSpec("row", (1, size), "int8", scale, 0),
            TensorSpec(
                "weights",
                (outputs, size),
                "int8",
                outputs / 127,
                0,
                values=steps,
            ),
            TensorSpec("answer", (1, outputs), "int8", size * outputs / 127, 0),
        ]
        version = 4
    operators = [
        OperatorSpec(RESHAPE, (0, 1), (2,), 17, {0: Vector("i", [1, size])}),
        OperatorSpec(FULLY_CONNECTED, (2, 3, -1), (4,), 8, {0: Scalar("b", 0)}, version),
    ]
    return model(tensors, operators, inputs=[0], outputs=[4])
