"""Builtin ops by code, and the highest version of each that an engine accepts.

The versions were read off the engines themselves (`benchmarks/op_version_ceilings.py`): a file that
declares an op and has no operator is accepted or refused by the engine's resolver alone.

Source: names and codes from enum BuiltinOperator, `schema.fbs` version 3 of tensorflow/tensorflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from edgeinfer.frozen import dataclass

Engine = Literal["litert", "tflite-runtime", "tensorflow"]

CUSTOM_CODE = 32
# The op that Google's compiler for the Edge TPU puts in the place of those that it has taken.
EDGETPU_OP = "edgetpu-custom-op"
MEASURED = MappingProxyType({"tflite-runtime": "2.14.0", "litert": "2.3.0", "tensorflow": "2.21.0"})

# Custom ops that have a kernel in each engine's Python wheel.
_EVERYWHERE = frozenset({"TFLite_Detection_PostProcess", "AudioSpectrogram", "Mfcc", "NumericVerify"})
_CUSTOM = MappingProxyType(
    {
        "tflite-runtime": _EVERYWHERE,
        "litert": _EVERYWHERE | {"odml.scaled_dot_product_attention"},
        "tensorflow": _EVERYWHERE | {"odml.scaled_dot_product_attention"},
    }
)

# Code by code: name, then the highest version in tflite-runtime, LiteRT and TensorFlow, in the versions
# of `MEASURED`; 0 where the engine does not know the op.
BUILTINS: tuple[tuple[str, int, int, int], ...] = (
    ("ADD", 5, 6, 5),
    ("AVERAGE_POOL_2D", 3, 3, 3),
    ("CONCATENATION", 4, 7, 5),
    ("CONV_2D", 7, 8, 8),
    ("DEPTHWISE_CONV_2D", 7, 7, 7),
    ("DEPTH_TO_SPACE", 2, 2, 2),
    ("DEQUANTIZE", 5, 9, 7),
    ("EMBEDDING_LOOKUP", 3, 5, 5),
    ("FLOOR", 1, 1, 1),
    ("FULLY_CONNECTED", 10, 14, 14),
    ("HASHTABLE_LOOKUP", 1, 1, 1),
    ("L2_NORMALIZATION", 2, 2, 2),
    ("L2_POOL_2D", 1, 1, 1),
    ("LOCAL_RESPONSE_NORMALIZATION", 1, 1, 1),
    ("LOGISTIC", 3, 3, 3),
    ("LSH_PROJECTION", 1, 1, 1),
    ("LSTM", 4, 4, 4),
    ("MAX_POOL_2D", 3, 3, 3),
    ("MUL", 7, 8, 7),
    ("RELU", 3, 3, 3),
    ("RELU_N1_TO_1", 1, 1, 1),
    ("RELU6", 3, 3, 3),
    ("RESHAPE", 1, 1, 1),
    ("RESIZE_BILINEAR", 4, 4, 4),
    ("RNN", 3, 3, 3),
    ("SOFTMAX", 3, 4, 3),
    ("SPACE_TO_DEPTH", 2, 2, 2),
    ("SVDF", 4, 4, 4),
    ("TANH", 3, 3, 3),
    ("CONCAT_EMBEDDINGS", 0, 0, 0),
    ("SKIP_GRAM", 1, 1, 1),
    ("CALL", 0, 0, 0),
    ("CUSTOM", 0, 0, 0),
    ("EMBEDDING_LOOKUP_SPARSE", 1, 1, 1),
    ("PAD", 4, 6, 5),
    ("UNIDIRECTIONAL_SEQUENCE_RNN", 3, 3, 3),
    ("GATHER", 6, 8, 7),
    ("BATCH_TO_SPACE_ND", 4, 4, 4),
    ("SPACE_TO_BATCH_ND", 4, 4, 4),
    ("TRANSPOSE", 6, 9, 7),
    ("MEAN", 3, 3, 3),
    ("SUB", 5, 5, 5),
    ("DIV", 2, 2, 2),
    ("SQUEEZE", 2, 2, 2),
    ("UNIDIRECTIONAL_SEQUENCE_LSTM", 4, 4, 4),
    ("STRIDED_SLICE", 8, 8, 8),
    ("BIDIRECTIONAL_SEQUENCE_RNN", 3, 3, 3),
    ("EXP", 2, 2, 2),
    ("TOPK_V2", 3, 3, 3),
    ("SPLIT", 4, 5, 4),
    ("LOG_SOFTMAX", 2, 2, 2),
    ("DELEGATE", 0, 0, 0),
    ("BIDIRECTIONAL_SEQUENCE_LSTM", 3, 3, 3),
    ("CAST", 5, 9, 8),
    ("PRELU", 1, 1, 1),
    ("MAXIMUM", 4, 4, 4),
    ("ARG_MAX", 3, 3, 3),
    ("MINIMUM", 4, 4, 4),
    ("LESS", 3, 3, 3),
    ("NEG", 1, 1, 1),
    ("PADV2", 4, 6, 5),
    ("GREATER", 2, 2, 2),
    ("GREATER_EQUAL", 3, 3, 3),
    ("LESS_EQUAL", 2, 2, 2),
    ("SELECT", 4, 4, 4),
    ("SLICE", 6, 8, 7),
    ("SIN", 1, 2, 1),
    ("TRANSPOSE_CONV", 4, 5, 5),
    ("SPARSE_TO_DENSE", 3, 3, 3),
    ("TILE", 3, 3, 3),
    ("EXPAND_DIMS", 1, 1, 1),
    ("EQUAL", 4, 5, 5),
    ("NOT_EQUAL", 3, 4, 4),
    ("LOG", 1, 2, 2),
    ("SUM", 2, 2, 2),
    ("SQRT", 1, 2, 2),
    ("RSQRT", 2, 3, 3),
    ("SHAPE", 1, 1, 1),
    ("POW", 1, 1, 1),
    ("ARG_MIN", 3, 3, 3),
    ("FAKE_QUANT", 2, 2, 2),
    ("REDUCE_PROD", 2, 2, 2),
    ("REDUCE_MAX", 3, 3, 3),
    ("PACK", 4, 5, 4),
    ("LOGICAL_OR", 1, 1, 1),
    ("ONE_HOT", 1, 1, 1),
    ("LOGICAL_AND", 1, 1, 1),
    ("LOGICAL_NOT", 1, 1, 1),
    ("UNPACK", 4, 6, 4),
    ("REDUCE_MIN", 3, 3, 3),
    ("FLOOR_DIV", 3, 3, 3),
    ("REDUCE_ANY", 1, 1, 1),
    ("SQUARE", 1, 1, 1),
    ("ZEROS_LIKE", 1, 1, 1),
    ("FILL", 4, 5, 4),
    ("FLOOR_MOD", 2, 2, 2),
    ("RANGE", 2, 2, 2),
    ("RESIZE_NEAREST_NEIGHBOR", 4, 4, 4),
    ("LEAKY_RELU", 2, 2, 2),
    ("SQUARED_DIFFERENCE", 2, 2, 2),
    ("MIRROR_PAD", 3, 3, 3),
    ("ABS", 5, 5, 5),
    ("SPLIT_V", 2, 3, 2),
    ("UNIQUE", 1, 1, 1),
    ("CEIL", 1, 1, 1),
    ("REVERSE_V2", 3, 4, 3),
    ("ADD_N", 1, 1, 1),
    ("GATHER_ND", 4, 6, 5),
    ("COS", 1, 2, 1),
    ("WHERE", 2, 2, 2),
    ("RANK", 1, 1, 1),
    ("ELU", 1, 1, 1),
    ("REVERSE_SEQUENCE", 1, 1, 1),
    ("MATRIX_DIAG", 1, 1, 1),
    ("QUANTIZE", 3, 6, 4),
    ("MATRIX_SET_DIAG", 1, 1, 1),
    ("ROUND", 1, 1, 1),
    ("HARD_SWISH", 1, 1, 1),
    ("IF", 1, 1, 1),
    ("WHILE", 1, 1, 1),
    ("NON_MAX_SUPPRESSION_V4", 1, 1, 1),
    ("NON_MAX_SUPPRESSION_V5", 1, 1, 1),
    ("SCATTER_ND", 1, 1, 1),
    ("SELECT_V2", 2, 2, 2),
    ("DENSIFY", 1, 1, 1),
    ("SEGMENT_SUM", 1, 1, 1),
    ("BATCH_MATMUL", 4, 4, 4),
    ("PLACEHOLDER_FOR_GREATER_OP_CODES", 0, 0, 0),
    ("CUMSUM", 1, 1, 1),
    ("CALL_ONCE", 1, 1, 1),
    ("BROADCAST_TO", 3, 4, 3),
    ("RFFT2D", 1, 1, 1),
    ("CONV_3D", 1, 1, 1),
    ("IMAG", 1, 1, 1),
    ("REAL", 1, 1, 1),
    ("COMPLEX_ABS", 1, 1, 1),
    ("HASHTABLE", 1, 1, 1),
    ("HASHTABLE_FIND", 1, 1, 1),
    ("HASHTABLE_IMPORT", 1, 1, 1),
    ("HASHTABLE_SIZE", 1, 1, 1),
    ("REDUCE_ALL", 1, 1, 1),
    ("CONV_3D_TRANSPOSE", 1, 1, 1),
    ("VAR_HANDLE", 1, 1, 1),
    ("READ_VARIABLE", 1, 1, 1),
    ("ASSIGN_VARIABLE", 1, 1, 1),
    ("BROADCAST_ARGS", 1, 1, 1),
    ("RANDOM_STANDARD_NORMAL", 1, 1, 1),
    ("BUCKETIZE", 1, 1, 1),
    ("RANDOM_UNIFORM", 1, 1, 1),
    ("MULTINOMIAL", 1, 1, 1),
    ("GELU", 2, 3, 2),
    ("DYNAMIC_UPDATE_SLICE", 1, 6, 5),
    ("RELU_0_TO_1", 1, 1, 1),
    ("UNSORTED_SEGMENT_PROD", 1, 1, 1),
    ("UNSORTED_SEGMENT_MAX", 1, 1, 1),
    ("UNSORTED_SEGMENT_SUM", 1, 1, 1),
    ("ATAN2", 1, 1, 1),
    ("UNSORTED_SEGMENT_MIN", 1, 1, 1),
    ("SIGN", 2, 2, 2),
    ("BITCAST", 1, 1, 1),
    ("BITWISE_XOR", 1, 1, 1),
    ("RIGHT_SHIFT", 1, 1, 1),
    ("STABLEHLO_LOGISTIC", 0, 0, 0),
    ("STABLEHLO_ADD", 0, 1, 1),
    ("STABLEHLO_DIVIDE", 0, 0, 0),
    ("STABLEHLO_MULTIPLY", 0, 1, 1),
    ("STABLEHLO_MAXIMUM", 0, 1, 1),
    ("STABLEHLO_RESHAPE", 0, 0, 0),
    ("STABLEHLO_CLAMP", 0, 0, 0),
    ("STABLEHLO_CONCATENATE", 0, 0, 0),
    ("STABLEHLO_BROADCAST_IN_DIM", 0, 0, 0),
    ("STABLEHLO_CONVOLUTION", 0, 0, 0),
    ("STABLEHLO_SLICE", 0, 0, 0),
    ("STABLEHLO_CUSTOM_CALL", 0, 0, 0),
    ("STABLEHLO_REDUCE", 0, 0, 0),
    ("STABLEHLO_ABS", 0, 0, 0),
    ("STABLEHLO_AND", 0, 1, 1),
    ("STABLEHLO_COSINE", 0, 0, 0),
    ("STABLEHLO_EXPONENTIAL", 0, 0, 0),
    ("STABLEHLO_FLOOR", 0, 0, 0),
    ("STABLEHLO_LOG", 0, 0, 0),
    ("STABLEHLO_MINIMUM", 0, 1, 1),
    ("STABLEHLO_NEGATE", 0, 0, 0),
    ("STABLEHLO_OR", 0, 0, 0),
    ("STABLEHLO_POWER", 0, 0, 0),
    ("STABLEHLO_REMAINDER", 0, 0, 0),
    ("STABLEHLO_RSQRT", 0, 0, 0),
    ("STABLEHLO_SELECT", 0, 0, 0),
    ("STABLEHLO_SUBTRACT", 0, 0, 0),
    ("STABLEHLO_TANH", 0, 0, 0),
    ("STABLEHLO_SCATTER", 0, 1, 1),
    ("STABLEHLO_COMPARE", 0, 0, 0),
    ("STABLEHLO_CONVERT", 0, 0, 0),
    ("STABLEHLO_DYNAMIC_SLICE", 0, 0, 0),
    ("STABLEHLO_DYNAMIC_UPDATE_SLICE", 0, 0, 0),
    ("STABLEHLO_PAD", 0, 1, 1),
    ("STABLEHLO_IOTA", 0, 0, 0),
    ("STABLEHLO_DOT_GENERAL", 0, 0, 0),
    ("STABLEHLO_REDUCE_WINDOW", 0, 1, 1),
    ("STABLEHLO_SORT", 0, 0, 0),
    ("STABLEHLO_WHILE", 0, 0, 0),
    ("STABLEHLO_GATHER", 0, 1, 1),
    ("STABLEHLO_TRANSPOSE", 0, 0, 0),
    ("DILATE", 0, 1, 1),
    ("STABLEHLO_RNG_BIT_GENERATOR", 0, 1, 1),
    ("REDUCE_WINDOW", 0, 1, 1),
    ("STABLEHLO_COMPOSITE", 0, 1, 1),
    ("STABLEHLO_SHIFT_LEFT", 0, 1, 1),
    ("STABLEHLO_CBRT", 0, 0, 0),
    ("STABLEHLO_CASE", 0, 1, 1),
)


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What an engine accepts.

    Attributes:
        engine: Which one.
        version: Of the engine.
        exact: True when the table speaks for this version: the measured one or an older one, whose ceilings are never
            higher. A newer engine may accept more, so `check` leaves the versions to the engine itself.
        versions: Highest version by op name; an op that is absent is unknown to the engine.
        custom: Custom ops that the engine has.
    """

    engine: Engine
    version: str
    exact: bool
    versions: Mapping[str, int]
    custom: frozenset[str]


def builtin_name(code: int) -> str:
    """Return the name of a builtin op, or `BUILTIN_<code>` for one newer than this table."""
    return BUILTINS[code][0] if code < len(BUILTINS) else f"BUILTIN_{code}"


def ceilings(engine: Engine, version: str | None = None) -> Ceilings:
    """Return what an engine accepts.

    Args:
        engine: Which one.
        version: Of the engine that is installed, e.g. "2.14.0"; None means the one that was measured.
    """
    measured = MEASURED[engine]
    version = measured if version is None else version
    column = 1 + tuple(MEASURED).index(engine)
    found = {row[0]: int(row[column]) for row in BUILTINS if row[column]}
    numbers = _numbers(version)
    exact = bool(numbers) and numbers <= _numbers(measured)  # a version that nobody knows may be a newer one
    return Ceilings(engine, version, exact, MappingProxyType(found), _CUSTOM[engine])


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of "2.14.0.post1" as (2, 14, 0), for comparing."""
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
