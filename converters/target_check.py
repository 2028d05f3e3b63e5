"""A finished file held against a target: where each op would run, and why.

The processor's rows come from the op versions that engines accept (`edgeinfer.model.ops`), a GPU's from its delegate's
documentation (`converters.gpu_ops`), an Edge TPU's from rules that were held against compiled files
(`converters.edgetpu`). Whatever of the target's engines is installed here runs the file once.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from converters.edgetpu.check import predict
from converters.edgetpu.compiler import compiler_command
from converters.errors import ConversionError
from converters.facts import ModelFacts
from converters.file_check import FileCheck
from converters.file_form import ends_notes, wrong_form
from converters.gpu_ops import gpu_reasons
from converters.layers import operator_layer
from converters.targets import TARGETS, Target
from converters.tflite.gates import GateResult, try_engines
from converters.verdicts import Evidence, Verdict
from edgeinfer.errors import EdgeInferError, InputError, ModelError, UnsupportedOpError
from edgeinfer.model.attached import ENTRY_NAME
from edgeinfer.model.check import check
from edgeinfer.model.metadata import read
from edgeinfer.model.ops import EDGETPU_OP, ceilings
from edgeinfer.model.schema import ModelFile, Operator, Subgraph

__all__ = ["check_file", "judged"]

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_HYBRID_DENSE = 9
# Source: google-ai-edge/LiteRT#8 and tensorflow/tensorflow#96602 (where tensorflow-lite 2.17.0 is found aligned for
# arm64 and not for x86_64), developer.android.com/guide/practices/page-sizes.
_PAGES = (
    "Memory pages of 16 KB, which devices with Android 15 and later may have: build the app with LiteRT 1.4.0 or later "
    "(`com.google.ai.edge.litert:litert`); the libraries of TensorFlow Lite up to 2.17 are not all aligned to that "
    "(documented, not tried). The model file itself does not depend on it."
)
_GPU = (
    "By the GPU delegate's documentation and source; the delegate itself was not asked: the count is an upper bound. "
    "By default it takes one group of ops, the largest (`max_delegated_partitions` raises that); the rest runs on the "
    "processor, and each change between both costs time."
)

# What layers leave behind that `converters.graph.substitute` replaces in a Keras model.
_REPLACEABLE = ("ELU", "GELU", "HARD_SWISH", "LEAKY_RELU", "TILE")
_SAVE_AS_KERAS = "Hand in the Keras model itself, or a `.keras` or `.h5` file of it: its layers can be replaced."


def check_file(data: bytes, target: Target, *, path: Path | None = None, word: str = "", run: bool = True) -> FileCheck:
    """Say of every op where it would run on a target, and whether the target takes the file at all.

    Args:
        data: The whole file.
        target: See `converters.targets`.
        path: Of the file, for lines to type.
        word: What was typed behind `--target`, for the same: a name or a JSON file.
        run: Whether the target's engines that are installed here load and run the file once.

    Raises:
        DamagedModelError: It is no TFLite file, is damaged, or would be unsafe to load.
        UnsupportedOpError: The file's structure cannot be followed for an op.
        InputError: It is compiled for an Edge TPU already, and that is what the target has.
    """
    file = _read(data)
    if target.accelerator == "edgetpu" and any(code.op == EDGETPU_OP for code in file.op_codes):
        name = path or Path("model_edgetpu.tflite")
        raise InputError(
            "The file is compiled for an Edge TPU already: what runs there is decided.",
            received=f"the custom op `{EDGETPU_OP}`",
            expected="the file that it was compiled from: the same name without `_edgetpu`, as a rule",
            next_step=f"edgeinfer inspect {name}",
        )
    found = FileCheck(
        target.name, target.accelerator, True, tuple(_rows(file, target, word)), wrong=_elsewhere(file, target)
    )
    if target.accelerator == "edgetpu":
        found = _on_edgetpu(found, file, target, path)
    elif target.accelerator == "gpu":
        found = replace(found, verdicts=_on_gpu(found.verdicts, file.main), notes=(_GPU,))
    found = replace(found, wrong=found.wrong or wrong_form(file, target))
    if target.metadata:
        fits = not (found.refused or found.wrong)
        found = replace(found, notes=(*found.notes, *_app_notes(file, path, fits=fits)))
    if found.refused or found.wrong:
        return replace(found, loads=False)  # no engine needs to be asked
    return _tried(data, target, found) if run else found


def judged(tflite: bytes, facts: ModelFacts, target: Target) -> FileCheck:
    """Return what the target's check says of a converted file.

    Args:
        tflite: The finished file.
        facts: Of the model that it was made of.
        target: What it was made for.

    Raises:
        UnsupportedOpError: The target refuses the file, or an accelerator would get nothing of it.
    """
    found = check_file(tflite, target, run=False)  # the gates have run it
    saved = facts.kind == "savedmodel"
    if not found.good:
        raise UnsupportedOpError(
            f"The target `{target.name}` refuses the converted file.",
            received=found.reasons(),
            expected="ops that run there" + (", and at least one for the accelerator" if target.accelerator else ""),
            next_step=_SAVE_AS_KERAS if saved and target.replaces_layers else "Replace the layer, see the reason.",
        )
    left = [one for one in found.verdicts if one.op in _REPLACEABLE and one.runs_on == "cpu"]
    if saved and target.replaces_layers and left:
        raise UnsupportedOpError(
            f"The target `{target.name}` lacks an op of this SavedModel, whose layers are not known.",
            received=f"{left[0].op} version {left[0].version}" + (f" in `{left[0].layer}`" if left[0].layer else ""),
            expected="ops that run there",
            next_step=_SAVE_AS_KERAS,
        )
    return found


def _read(data: bytes) -> ModelFile:
    """Read the file and check its structure only: op versions and custom ops get their rows."""
    lenient = ceilings("tensorflow")
    return check(data, replace(lenient, exact=False, custom=lenient.custom | {EDGETPU_OP}))


def _tried(data: bytes, target: Target, found: FileCheck) -> FileCheck:
    """Add what the engines say that are installed here."""
    try:
        rows = try_engines(data, target)
    except (ModelError, ConversionError) as error:
        return replace(
            found, loads=False, wrong=f"{error.message} ({error.received})" if error.received else str(error)
        )
    said = (f"Run here: {row.detail}." if row.ok else _not_run(row) for row in rows)
    return replace(found, notes=(*found.notes, *said))


def _not_run(row: GateResult) -> str:
    engine = row.name.removeprefix("runs in ")
    return f"Not run in {engine}: {row.detail.removeprefix('not tried here: ').rstrip('.')}."


def _rows(file: ModelFile, target: Target, word: str) -> Iterator[Verdict]:
    asked = shlex.quote(word or (target.name if target in TARGETS else f"{target.name}.json"))
    evidence: Evidence = "tried" if target.tried else "documented"
    engines = " and ".join(f"{name} {ceilings(name).version}" for name in target.engines)
    graph = file.main
    for operator in graph.operators:
        why = _why_not(graph, operator, target, asked)
        yield Verdict(
            index=operator.index,
            op=operator.op,
            version=operator.version,
            layer=operator_layer(graph, operator),
            runs_on="refused" if why else "cpu",
            reason=why or f"{engines} {'takes' if len(target.engines) == 1 else 'take'} this version",
            evidence=evidence,
        )


def _why_not(graph: Subgraph, operator: Operator, target: Target, asked: str) -> str:
    """Return why none of the target's engines runs an op, "" where all do."""
    if operator.op == EDGETPU_OP:
        return "compiled for an Edge TPU: take the file that it was compiled from"
    if operator.custom:
        if all(operator.op in ceilings(name).custom for name in target.engines):
            return ""
        if operator.op.startswith("Flex"):
            return "an op of TensorFlow itself, which no small engine has: replace the layer"
        return "a custom op without a kernel there: convert without it"
    highest, who = target.highest(operator.op)
    if not highest:
        return f"{who} has no such op: replace the layer"
    hybrid = target.per_tensor_dense and _hybrid_per_channel(graph, operator)
    if operator.version > highest:
        # With one scale for the whole tensor it is version 9; no other version is lowered by a conversion.
        lowered = hybrid and highest >= _HYBRID_DENSE
        cure = f"convert with --target {asked}" if lowered else _newer(operator)
        return f"{who} takes version {highest} at most: {cure}"
    if hybrid:
        what = "dense weights with one scale per channel and float activations"
        return f"{what}: convert in full int8, or with --target {asked}"
    if target.static_shapes and operator.op == "SHAPE":
        return "a shape that is computed while the model runs: give the model's Input a full shape"
    ends = [graph.tensors[index] for index in (*operator.inputs[:1], *operator.outputs) if index >= 0]
    if not target.floats and target.accelerator != "edgetpu" and any(one.dtype in _FLOATS for one in ends):
        return "computes in floats, which the target does not have: convert in full int8"
    return ""


def _newer(operator: Operator) -> str:
    return f"replace the layer, or use a runtime that takes version {operator.version}"


def _hybrid_per_channel(graph: Subgraph, operator: Operator) -> bool:
    if operator.op != "FULLY_CONNECTED" or len(operator.inputs) < 2 or min(operator.inputs[:2]) < 0:
        return False
    values, weights = (graph.tensors[index] for index in operator.inputs[:2])
    return values.dtype == "float32" and weights.dtype in ("int8", "uint8") and len(weights.scale) > 1


def _elsewhere(file: ModelFile, target: Target) -> str:
    """Return what is wrong with ops that stand outside the main graph; an engine needs a kernel for them too."""
    used = {(one.op, one.version) for one in file.main.operators}
    for code in file.op_codes:
        highest, who = target.highest(code.op)
        custom = code.custom and not all(code.op in ceilings(name).custom for name in target.engines)
        if (code.op, code.version) not in used and (custom or (not code.custom and code.version > highest)):
            return f"{code.op} in version {code.version} stands outside the main graph, " + (
                f"and {who} takes version {highest} at most." if highest else "and the target has no such op."
            )
    return ""


def _on_edgetpu(found: FileCheck, file: ModelFile, target: Target, path: Path | None) -> FileCheck:
    """Put what the compiler would do in the place of the processor's rows, but for ops that no engine has."""
    prediction = predict(file)
    rows = zip(found.verdicts, prediction.verdicts, strict=True)
    # The file that was compiled stays beside the compiled one and runs where there is no chip: every op needs a kernel.
    verdicts = tuple(engine if engine.runs_on == "refused" else chip for engine, chip in rows)
    notes = (*prediction.notes, *ends_notes(file, target))
    wrong = found.wrong or prediction.wrong or wrong_form(file, target)
    found = replace(found, verdicts=verdicts, wrong=wrong, notes=notes)
    if not prediction.mapped or not found.good:
        return found
    notes = (*found.notes, prediction.memory.words, "To run there the file must be compiled, on x86-64 Linux.")
    return replace(found, notes=notes, command=compiler_command(str(path or "model.tflite")))


def _on_gpu(verdicts: Sequence[Verdict], graph: Subgraph) -> tuple[Verdict, ...]:
    return tuple(
        verdict
        if verdict.runs_on == "refused"
        else replace(
            verdict,
            runs_on="cpu" if why else "gpu",
            reason=why or "among the GPU delegate's ops",
            evidence="documented",
        )
        for verdict, why in zip(verdicts, gpu_reasons(graph), strict=True)
    )


def _app_notes(file: ModelFile, path: Path | None, *, fits: bool) -> Iterator[str]:
    """Say what an app on Android needs beside the ops; what to write into the file only where it is for the target."""
    if ENTRY_NAME in file.metadata:
        yield "The file carries TFLite Metadata, which MediaPipe Tasks needs."
    else:
        refused = "The file carries no TFLite Metadata, and MediaPipe Tasks refuses it."
        yield f"{refused} Write it: `{_annotation(file, path)}`." if fits else refused
    if any(file.main.tensors[index].dtype == "int8" for index in file.main.inputs):
        yield "MediaPipe Tasks takes no int8 input (LiteRT does): convert with --io uint8 for it."
    yield _PAGES


def _annotation(file: ModelFile, path: Path | None) -> str:
    """Return the line that writes TFLite Metadata; words in capitals are the reader's to fill in."""
    try:
        task = read(file).task
    except EdgeInferError:
        task = "tensors"  # what the file says of itself cannot be read
    said = ["--task", "TASK" if task == "tensors" else task]
    labels = ["--labels", "labels.txt"] if task in ("classification", "detection", "segmentation") else []
    name = shlex.quote(str(path or "model.tflite"))
    return " ".join(["edgeinfer-convert annotate", name, *said, *labels, "--normalization MEAN STD"])
