"""What Google's Edge TPU compiler places on the chip, as data: ops, versions, and where each fact comes from.

The compiler is closed and knows its rules alone. These were gathered from 178 pairs of original and compiled file in
public repositories, from compiler logs and issue threads that are public, and from Coral's table of supported
operations. `benchmarks/edgetpu_pairs.py` holds them against the pairs again, and says which rules a pair has exercised:
the rest is text that nobody here has seen at work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = [
    "CURES",
    "FATAL_THREAD",
    "FATAL_VERSIONS",
    "FLOAT_ENDS",
    "MAX_RESIZE",
    "MAX_SOFTMAX",
    "MEAN_POSITIONS",
    "MEAN_THREAD",
    "NOT_SUPPORTED",
    "RESHAPE_ELEMENTS",
    "ROW_ELEMENTS",
    "RULES",
    "SHAPE_INPUTS",
    "SHAPE_THREADS",
    "STATIC_BATCH",
    "TRANSPOSE_ELEMENTS",
    "UNSUPPORTED_THREADS",
    "Fact",
    "OpRule",
    "Source",
    "Status",
]

# pair: seen in an original and its compiled file; log: a compiler's log in a public repository; issue: a public thread
# of google-coral/edgetpu; table: Coral's supported operations; recalled: the same table, from memory and not read
# again; estimate: a value chosen between what was seen.
Source = Literal["pair", "log", "issue", "table", "recalled", "estimate"]

# The words that the compiler itself uses in its log.
Status = Literal[
    "Mapped to Edge TPU",
    "Operation not supported",
    "Operation is working on an unsupported data type",
    "Operation version not supported",
    "Operation is otherwise supported, but not mapped due to some unspecified limitation",
    "More than one subgraph is not supported",
]


@dataclass(frozen=True, slots=True)
class Fact:
    """A statement and where it comes from; `rule` names it where it is no limit of the op's own."""

    words: str
    source: Source
    rule: str = ""


@dataclass(frozen=True, slots=True)
class OpRule:
    """What is known of an op that the compiler places on the chip.

    Attributes:
        highest: Highest version that is taken for accepted.
        seen: Highest version that was mapped in a pair; 0 for an op that no pair has mapped.
        source: Where it comes from that the op is mapped at all.
        runtime: Lowest runtime version that the table names, 0 where it names none. A hint: LSTM and dilated
            depthwise convolutions are in files for runtime 12 though the table says 14 and 13.
    """

    highest: int
    seen: int
    source: Source
    runtime: int = 0


RULES: Mapping[str, OpRule] = MappingProxyType(
    {
        "ADD": OpRule(2, 2, "pair"),
        "AVERAGE_POOL_2D": OpRule(2, 2, "pair"),
        "CONCATENATION": OpRule(2, 2, "pair"),
        "CONV_2D": OpRule(5, 3, "pair"),
        "DEPTHWISE_CONV_2D": OpRule(6, 3, "pair"),
        "EXPAND_DIMS": OpRule(1, 0, "table", 13),
        "FULLY_CONNECTED": OpRule(9, 4, "pair"),
        "L2_NORMALIZATION": OpRule(2, 0, "log"),
        "LOGISTIC": OpRule(2, 2, "pair"),
        "MAXIMUM": OpRule(2, 2, "pair"),
        "MAX_POOL_2D": OpRule(2, 2, "pair"),
        "MEAN": OpRule(2, 2, "pair"),
        "MINIMUM": OpRule(2, 0, "table"),
        "MUL": OpRule(2, 2, "pair"),
        "PACK": OpRule(2, 0, "table", 13),
        "PAD": OpRule(2, 2, "pair"),
        "PADV2": OpRule(2, 0, "table"),
        "PRELU": OpRule(1, 1, "pair", 13),
        "QUANTIZE": OpRule(2, 2, "pair"),
        "REDUCE_MAX": OpRule(2, 0, "recalled", 14),
        "REDUCE_MIN": OpRule(2, 0, "recalled", 14),
        "RELU": OpRule(2, 2, "pair"),
        "RELU6": OpRule(2, 0, "table"),
        "RELU_N1_TO_1": OpRule(2, 0, "table"),
        "RESHAPE": OpRule(1, 1, "pair"),
        "RESIZE_BILINEAR": OpRule(3, 3, "pair"),
        "RESIZE_NEAREST_NEIGHBOR": OpRule(3, 3, "pair"),
        "RSQRT": OpRule(2, 0, "recalled", 14),
        "SLICE": OpRule(2, 0, "table"),
        "SOFTMAX": OpRule(2, 2, "pair"),
        "SPACE_TO_DEPTH": OpRule(2, 0, "table"),
        "SPLIT": OpRule(2, 2, "pair"),
        "SPLIT_V": OpRule(2, 0, "table"),
        "SQUARED_DIFFERENCE": OpRule(2, 0, "recalled", 14),
        "SQUEEZE": OpRule(1, 0, "table"),
        "STRIDED_SLICE": OpRule(2, 2, "pair"),
        "SUB": OpRule(2, 2, "pair"),
        "SUM": OpRule(2, 0, "log", 13),
        "TANH": OpRule(2, 2, "pair"),
        "TILE": OpRule(1, 1, "pair"),
        "TRANSPOSE": OpRule(2, 2, "pair", 14),
        "TRANSPOSE_CONV": OpRule(3, 0, "recalled", 13),
        "UNIDIRECTIONAL_SEQUENCE_LSTM": OpRule(3, 1, "pair"),
    }
)

# Ops that were left on the processor, and where. What is in neither list is in no table either.
NOT_SUPPORTED: Mapping[str, Source] = MappingProxyType(
    {
        **dict.fromkeys(
            ("ARG_MAX", "CAST", "DEQUANTIZE", "DIV", "FLOOR_DIV", "GATHER_ND", "SQRT", "UNPACK"),
            "pair",
        ),
        "GATHER": "log",
        "LEAKY_RELU": "log",
        "ELU": "issue",
    }
)
UNSUPPORTED_THREADS: Mapping[str, str] = MappingProxyType({"ELU": "google-coral/edgetpu#508"})

# From this version on the compiler stops instead of leaving the op on the processor: a CONV_2D with groups, made by
# TensorFlow 2.9.
FATAL_THREAD = "google-coral/edgetpu#631"
FATAL_VERSIONS: Mapping[str, int] = MappingProxyType({"CONV_2D": 6})

# Places of the inputs that say how large an output is. Computed while the model runs, they stop the compiler:
# "Attempting to use a delegate that only supports static-sized tensors".
SHAPE_THREADS = "google-coral/edgetpu#829, #831"
SHAPE_INPUTS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "BROADCAST_TO": (1,),
        "FILL": (0,),
        "PAD": (1,),
        "PADV2": (1,),
        "RANGE": (0, 1, 2),
        "RESHAPE": (1,),
        "RESIZE_BILINEAR": (1,),
        "RESIZE_NEAREST_NEIGHBOR": (1,),
        "SLICE": (1, 2),
        "SPLIT_V": (1,),
        "STRIDED_SLICE": (1, 2, 3),
        "TILE": (1,),
        "TRANSPOSE": (1,),
        "TRANSPOSE_CONV": (0,),
    }
)

# Twice the size is mapped, 15.5 times (33 to 513) and 1x1 to 33x33 are not: pairs. Where between them the border lies
# is not known; 8 is an estimate.
MAX_RESIZE = 8.0
# The table says 16,000; 16,384 is mapped in a pair.
MAX_SOFTMAX = 16384
# (highest mapped, cut, lowest left on the processor) in elements of a tensor, over the pairs; the cut is an estimate.
# A transposition of 57,600 is mapped and one of 104,000 is not; both are outputs of YOLOv8.
TRANSPOSE_ELEMENTS = (57_600, 80_000, 104_000)
# The same of YOLOv5; the table says that large ones may not be mapped.
RESHAPE_ELEMENTS = (408_000, 800_000, 1_632_000)
# Tensors without a height: 94,400 are mapped, logs call 176,400 supported, and 230,400 are not mapped, whatever the op.
ROW_ELEMENTS = (94_400, 200_000, 230_400)
# A mean over 256x128 positions was not mapped.
MEAN_THREAD = "google-coral/edgetpu#461"
MEAN_POSITIONS = 256 * 128

STATIC_BATCH = "Give the model's Input a static batch of 1."
FLOAT_ENDS = "Convert with `--io int8`, then there are no floats at the ends."
_ACTIVATION = "Use ReLU, ReLU6 or silu as the activation."
# What to do about an op, wherever it stands.
CURES: Mapping[str, str] = MappingProxyType(
    {
        "ARG_MAX": "Leave the argmax out of the model: the device takes the largest output anyway.",
        "CONV_2D": "Use several convolutions and Concatenate, or DepthwiseConv2D, instead of `groups`.",
        "ELU": _ACTIVATION,
        "GELU": _ACTIVATION,
        "HARD_SWISH": _ACTIVATION,
        "LEAKY_RELU": _ACTIVATION,
        "NEG": "Use BatchNormalization instead of LayerNormalization.",
        "TILE": 'Use `Resizing(interpolation="nearest")` instead of UpSampling2D.',
    }
)
