"""Make edgeinfer/preprocess/golden.json: expected values from TensorFlow, none from the code that they check.

Run it in the workstation environment: `python benchmarks/make_golden.py`. It takes about ten seconds.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.preprocess.golden import golden_picture

GOLDEN = Path(__file__).parents[1] / "edgeinfer" / "preprocess" / "golden.json"
METHODS = {
    "nearest": ("nearest", False),
    "bilinear": ("bilinear", False),
    "bilinear-antialias": ("bilinear", True),
    "bicubic-antialias": ("bicubic", True),
    "lanczos-antialias": ("lanczos3", True),
}
ROUNDED = "each library rounds a weighted mean of pixels in its own way"
EXACT = "whole pixels and the rounding of TFLite's kernel: nothing is left to choose"
LUMA = np.array([0.299, 0.587, 0.114])


def resize(image: NDArray[Any], size: tuple[int, int], filter_name: str) -> NDArray[np.float64]:
    """Return `tf.image.resize` of (height, width, 3) pixels to (width, height), rounded, as float64.

    The antialiased filters go over the columns first and over the rows then, with pixels in between, as in
    Pillow: a filter with negative lobes leaves 0..255, and where it is cut off changes a rough picture by up
    to 12 grey levels.
    """
    import tensorflow as tf

    method, antialias = METHODS[filter_name]
    shapes = [(image.shape[0], size[0]), size[::-1]] if antialias else [size[::-1]]
    pixels = image.astype(np.float64)
    for shape in shapes:
        resized = tf.image.resize(pixels.astype(np.float32), shape, method=method, antialias=antialias).numpy()
        pixels = np.clip(np.rint(resized.astype(np.float64)), 0, 255)
    return pixels


def quantize_kernel(low: float, high: float) -> Any:
    """Return TFLite's own QUANTIZE kernel for low..high (values -> stored), its scale and its zero point."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    length = 256
    model = tf.keras.Sequential([tf.keras.Input((length,)), tf.keras.layers.Dense(1)])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([np.linspace(low, high, length, dtype=np.float32)[None]] for _ in "a")
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    interpreter = Interpreter(
        model_content=converter.convert(),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    first = interpreter._get_ops_details()[0]
    if first["op_name"] != "QUANTIZE":
        raise RuntimeError(f"the model begins with {first['op_name']}, not with QUANTIZE")
    stored = int(first["outputs"][0])
    details = next(one for one in interpreter.get_tensor_details() if one["index"] == stored)
    scale, zero_point = details["quantization"]

    def run(values: NDArray[Any]) -> NDArray[np.int8]:
        flat = values.astype(np.float32).ravel()
        padded = np.zeros((1, length), dtype=np.float32)
        padded[0, : flat.size] = flat
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], padded)
        interpreter.invoke()
        result: NDArray[np.int8] = interpreter.get_tensor(stored)[0, : flat.size]
        return result

    return run, float(scale), int(zero_point)


def case(name: str, expected: NDArray[Any], allowed: float, reason: str, **settings: Any) -> dict[str, Any]:
    """Return one golden vector as it is stored."""
    flat = expected.ravel()
    numbers = flat.tolist() if flat.dtype == np.float32 else [int(value) for value in flat]
    return {"name": name, **settings, "allowed": allowed, "reason": reason, "expected": numbers}


def tensor_case(name: str, expected: NDArray[Any], allowed: float, reason: str, **settings: Any) -> dict[str, Any]:
    """Return one golden tensor; settings that are not named have the value that changes nothing."""
    usual = {
        "mode": "stretch",
        "pad": 0,
        "dtype": "uint8",
        "scale": 0.0,
        "zero_point": 0,
        "normalization": None,
    }
    return case(name, expected, allowed, reason, **{**usual, **settings})


def tensors(kernel: Any) -> list[dict[str, Any]]:
    """Return each filter and mode as pixels, and each kind of tensor."""
    picture = golden_picture()
    cases = []
    for filter_name in METHODS:
        allowed, reason = (0, EXACT) if filter_name == "nearest" else (1, ROUNDED)
        for width, height in ((5, 4), (17, 11)):
            cases.append(
                tensor_case(
                    f"stretch {filter_name} to {width}x{height}",
                    resize(picture, (width, height), filter_name), allowed, reason, filter=filter_name,
                    shape=[1, height, width, 3],
                )
            )  # fmt: skip
    # By hand: 13x9 into 6x6 is scaled by 6/13, so 6 x 4.15 -> 6x4, one row of bar above and one below.
    boxed = np.full((6, 6, 3), 114.0)
    boxed[1:5] = resize(picture, (6, 4), "bilinear")
    cases.append(
        tensor_case("letterbox bilinear to 6x6", boxed, 1, ROUNDED,
                    mode="letterbox", pad=114, filter="bilinear", shape=[1, 6, 6, 3])
    )  # fmt: skip
    # By hand: the largest square in 13x9 is 9x9, two columns from the left.
    square = picture[:, 2:11]
    cases.append(
        tensor_case("crop bilinear to 6x6", resize(square, (6, 6), "bilinear"), 1, ROUNDED,
                    mode="crop", filter="bilinear", shape=[1, 6, 6, 3])
    )  # fmt: skip
    nearest = resize(picture, (5, 4), "nearest")
    cases.append(
        tensor_case("grey nearest to 5x4", np.rint(nearest @ LUMA), 1, "OpenCV's weights have 15 bits",
                    filter="nearest", shape=[1, 4, 5, 1])
    )  # fmt: skip
    whole = {"filter": "nearest", "shape": [1, 4, 5, 3]}
    cases.append(
        tensor_case("int8 by flipping the top bit", nearest - 128, 0, EXACT, dtype="int8",
                    scale=1 / 255, zero_point=-128, normalization=[0, 255], **whole)
    )  # fmt: skip
    run, scale, zero_point = kernel
    cases.append(
        tensor_case("int8 by table", run((nearest - 127.5) / 100), 0, EXACT, dtype="int8",
                    scale=scale, zero_point=zero_point, normalization=[127.5, 100], **whole)
    )  # fmt: skip
    cases.append(
        tensor_case("float32", ((nearest - 127.5) / 127.5).astype(np.float32), 2.4e-7,
                    "two roundings of float32", dtype="float32", normalization=[127.5, 127.5], **whole)
    )  # fmt: skip
    return cases


def decoded() -> list[dict[str, Any]]:
    """Return a JPEG file with halved colour channels, and its pixels."""
    import tensorflow as tf

    y, x = np.mgrid[0:12, 0:16]
    smooth = np.stack([15 * x, 20 * y, 255 - 7 * (x + y)], axis=2).astype(np.uint8)
    file = tf.io.encode_jpeg(smooth, quality=90, chroma_downsampling=True).numpy()
    pixels = tf.io.decode_jpeg(file, dct_method="INTEGER_ACCURATE").numpy()
    reason = "the JPEG standard leaves the last bit of the transform to the library"
    return [case("decode JPEG", pixels, 1, reason, file=base64.b64encode(file).decode("ascii"))]


def main() -> None:
    """Write the file."""
    import ai_edge_litert
    import tensorflow as tf

    tf.keras.utils.set_random_seed(1)
    kernel = quantize_kernel(-1.0, 1.0)
    run, scale, zero_point = kernel
    # Past both ends, and the middle between two steps, where the rounding shows.
    values = (np.arange(-128, 128) * np.float32(scale) * np.float32(1.125)).astype(np.float32)
    halves = ((np.arange(-20, 20) + np.float32(0.5)) * np.float32(scale)).astype(np.float32)
    values = np.concatenate([values[::4], halves])
    golden = {
        "origin": f"tensorflow {tf.__version__}, ai-edge-litert {ai_edge_litert.__version__}: "
        "tf.image.resize, tf.io.decode_jpeg, QUANTIZE of the reference resolver",
        "decode": decoded(),
        "tensors": tensors(kernel),
        "quantization": [
            {
                **case(
                    "quantize to int8",
                    run(values),
                    0,
                    EXACT,
                    dtype="int8",
                    scale=scale,
                    zero_point=zero_point,
                ),
                "values": values.tolist(),
            }
        ],
    }
    lines = json.dumps(golden).replace('{"name"', '\n{"name"')
    GOLDEN.write_text(lines + "\n", encoding="utf-8")
    print(f"{GOLDEN.name}: {GOLDEN.stat().st_size} bytes, {golden['origin']}")


if __name__ == "__main__":
    main()
