from __future__ import annotations

import pytest
import tiny_models

from converters.edgetpu.check import predict
from converters.edgetpu.log import CompilerLog, compare, parse_log
from edgeinfer.model.schema import parse

# s123600g/asr_edgetpu_demo, tflite_model/fm1_log.txt: compiler 1.0, with `-s`.
ALL_MAPPED = """\
Edge TPU Compiler version 1.0.249710469

Model compiled successfully in 95 ms.

Input model: ASR_Model.tflite
Input size: 102.77KiB
Output model: ASR_Model_edgetpu.tflite
Output size: 172.56KiB
On-chip memory available for caching model parameters: 7.96MiB
On-chip memory used for caching model parameters: 106.50KiB
Off-chip memory used for streaming uncached model parameters: 3.00KiB
Number of Edge TPU subgraphs: 1
Total number of operations: 12
Operation log: ASR_Model_edgetpu.log

Operator                       Count      Status

ADD                            2          Mapped to Edge TPU
MAX_POOL_2D                    2          Mapped to Edge TPU
MUL                            2          Mapped to Edge TPU
CONV_2D                        2          Mapped to Edge TPU
DEPTHWISE_CONV_2D              1          Mapped to Edge TPU
SOFTMAX                        1          Mapped to Edge TPU
FULLY_CONNECTED                2          Mapped to Edge TPU
"""
# A YOLOv3-tiny compiled with version 15.0, as its author printed it.
PARTLY = """\
Edge TPU Compiler version 15.0.340273435

Model compiled successfully in 170 ms.

Input model: yolov3-tiny_int8.tflite
Input size: 8.58MiB
Output model: yolov3-tiny_int8_edgetpu.tflite
Output size: 8.70MiB
On-chip memory used for caching model parameters: 3.00KiB
On-chip memory remaining for caching model parameters: 7.67MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 36
Operation log: yolov3-tiny_int8_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will \
instead run on the CPU, which is slower. If possible, consider updating your model to use only operations supported \
by the Edge TPU. For details, visit g.co/coral/model-reqs.
Number of operations that will run on Edge TPU: 2
Number of operations that will run on CPU: 34

Operator                       Count      Status

MAX_POOL_2D                    6          More than one subgraph is not supported
QUANTIZE                       2          Operation is otherwise supported, but not mapped due to some unspecified \
limitation
QUANTIZE                       1          Mapped to Edge TPU
QUANTIZE                       1          More than one subgraph is not supported
CONV_2D                        1          Mapped to Edge TPU
CONV_2D                        12         More than one subgraph is not supported
RESIZE_NEAREST_NEIGHBOR        1          Operation version not supported
LEAKY_RELU                     11         Operation not supported
CONCATENATION                  1          More than one subgraph is not supported
"""
# The log file of zye1996/facemesh_EdgeTPU, models/cocompile: no sizes, only the table.
LOG_FILE = """\
Edge TPU Compiler version 15.0.340273435
Input: face_detection_front_128_full_integer_quant.tflite
Output: cocompile/face_detection_front_128_full_integer_quant_edgetpu.tflite

Operator                       Count      Status

RESHAPE                        4          Mapped to Edge TPU
PAD                            11         Mapped to Edge TPU
CONCATENATION                  2          Mapped to Edge TPU
ADD                            16         Mapped to Edge TPU
MAX_POOL_2D                    3          Mapped to Edge TPU
DEQUANTIZE                     2          Operation is working on an unsupported data type
QUANTIZE                       1          Operation is otherwise supported, but not mapped due to some unspecified \
limitation
QUANTIZE                       2          Mapped to Edge TPU
DEPTHWISE_CONV_2D              16         Mapped to Edge TPU
CONV_2D                        21         Mapped to Edge TPU
"""


def test_a_model_that_maps_whole_is_read_line_by_line() -> None:
    found = parse_log(ALL_MAPPED)
    assert (found.version, found.failure) == ("1.0.249710469", "")
    assert (found.total, found.mapped, found.subgraphs) == (12, 12, 1)
    # 106.50 KiB, 7.96 MiB and 3.00 KiB.
    assert (found.on_chip_bytes, found.on_chip_free_bytes, found.off_chip_bytes) == (109056, 8346665, 3072)
    assert found.table[0] == ("ADD", 2, "Mapped to Edge TPU")
    assert len(found.table) == 7


def test_a_model_that_maps_in_part_says_what_stayed_and_why() -> None:
    found = parse_log(PARTLY)
    assert (found.total, found.mapped, found.failure) == (36, 2, "")
    assert sum(count for _, count, _ in found.table) == 36
    assert ("LEAKY_RELU", 11, "Operation not supported") in found.table
    assert found.on_chip_free_bytes == round(7.67 * 2**20)


def test_a_log_file_alone_gives_the_counts() -> None:
    found = parse_log(LOG_FILE)
    assert (found.total, found.mapped, found.on_chip_bytes) == (78, 75, None)


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        # google-coral/edgetpu#189
        (
            "Edge TPU Compiler version 14.1.317412892\n\nInternal compiler error. Aborting! \n",
            "Internal compiler error. Aborting!",
        ),
        # google-coral/edgetpu#313
        (
            "Edge TPU Compiler version 15.0.340273435\nInvalid model: mobilenet.tflite\nModel not quantized\n",
            "Invalid model: mobilenet.tflite Model not quantized",
        ),
        # google-coral/edgetpu#829
        (
            "Edge TPU Compiler version 16.0.384591198\nStarted a compilation timeout timer of 180 seconds.\n"
            "ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that has "
            "dynamic-sized tensors.\nCompilation failed: Model failed in Tflite interpreter. Please ensure model can "
            "be loaded/run in Tflite interpreter.\nCompilation child process completed within timeout period.\n"
            "Compilation failed! \n",
            "ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that has "
            "dynamic-sized tensors. Compilation failed: Model failed in Tflite interpreter. Please ensure model can "
            "be loaded/run in Tflite interpreter.",
        ),
        # google-coral/edgetpu#686
        (
            "Started a compilation timeout timer of 180 seconds.\nCompilation timeout. This is usually caused by "
            "large activations.\nCompilation failed! \n",
            "Compilation timeout. This is usually caused by large activations.",
        ),
        # google-coral/edgetpu#728
        (
            "libc++abi: terminating with uncaught exception of type std::out_of_range: vector\nCompilation failed! \n",
            "libc++abi: terminating with uncaught exception of type std::out_of_range: vector",
        ),
    ],
    ids=["internal", "not quantized", "dynamic", "timeout", "exception"],
)
def test_a_failure_is_found_in_the_compilers_own_words(text: str, failure: str) -> None:
    assert parse_log(text).failure == failure


def test_tries_that_failed_before_one_that_worked_are_no_failure() -> None:
    # mathieugalle/edgetpu-compiler-pad-fail: with `-a -d` the compiler tries smaller and smaller parts.
    text = "Try to compile segment with 135 ops\nCompilation failed! \nTry to compile segment with 101 ops\n"
    assert parse_log(text + "Compilation succeeded! \n").failure == ""


@pytest.mark.parametrize("text", ["", "banana", "\0\0", "Total number of operations: many\n"])
def test_what_is_no_log_gives_nothing(text: str) -> None:
    assert parse_log(text) == CompilerLog("", (), None, None, None, None, None, None, "")


# --- against a prediction ---------------------------------------------------------------------------

CLASSIFIER = predict(parse(tiny_models.classifier()))  # MEAN, FULLY_CONNECTED, SOFTMAX: all on the chip
ROWS = "MEAN 1 Mapped to Edge TPU\nFULLY_CONNECTED 1 Mapped to Edge TPU\n"


def test_a_log_that_says_the_same_has_no_difference() -> None:
    assert compare(CLASSIFIER, parse_log(ROWS + "SOFTMAX 1 Mapped to Edge TPU\n")) == ()


def test_a_difference_names_op_counts_and_the_compilers_reason() -> None:
    assert compare(CLASSIFIER, parse_log(ROWS + "SOFTMAX 1 Operation version not supported\n")) == (
        "SOFTMAX: 1 predicted on the chip, 0 mapped (Operation version not supported)",
    )
