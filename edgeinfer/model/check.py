"""Is this file safe to load, and can this engine run it?

`parse` has checked that the file is well formed. Here stands what an engine takes for granted and does not look at:
that a tensor has a value before it is read, that nothing writes over a constant, and that an op has the tensors and
options that its kernel reaches for (`op_rules`). Each rule is here because a file that broke it ended tflite-runtime by
a signal, or could (`benchmarks/mutations.py`).
"""

from __future__ import annotations

from edgeinfer.errors import DamagedModelError, UnsupportedOpError
from edgeinfer.model.op_rules import check_operator
from edgeinfer.model.ops import EDGETPU_OP, Ceilings
from edgeinfer.model.schema import ModelFile, OpCode, Operator, Subgraph, parse
from edgeinfer.model.tensors import Tensor

# Options that name another subgraph; a missing one is subgraph 0.
_SUBGRAPH_OPTIONS = ("then_subgraph", "else_subgraph", "condition_subgraph", "body_subgraph", "subgraph")
_CALLS = frozenset({"IF", "WHILE", "CALL_ONCE", "CALL"})


def check(data: bytes, ceilings: Ceilings) -> ModelFile:
    """Return the file, read and found safe for an engine.

    Args:
        data: The whole file.
        ceilings: What the engine accepts, `edgeinfer.model.ops.ceilings(engine, version)`. For an engine newer than
            the one that was measured, op versions are left to the engine itself.

    Raises:
        DamagedModelError: It is no TFLite file, is damaged, or would be unsafe to run.
        UnsupportedOpError: The engine does not have an op of it, or not in this version.
    """
    model = parse(data)
    for index, code in enumerate(model.op_codes):
        _check_support(model, index, code, ceilings)
    for subgraph in model.subgraphs:
        _check_order(subgraph)
        for operator in subgraph.operators:
            check_operator(subgraph, operator)
    _check_calls(model)
    return model


def _check_support(model: ModelFile, index: int, code: OpCode, ceilings: Ceilings) -> None:
    """Refuse an op that the engine lacks; an engine resolves every declared op, used or not."""
    engine = f"{ceilings.engine} {ceilings.version}"
    if code.custom:
        _check_custom(code.op, engine, ceilings)
        return
    highest = ceilings.versions.get(code.op, 0)
    if not ceilings.exact or code.version <= highest:
        return
    raise UnsupportedOpError(
        f"{engine} cannot run {code.op} version {code.version}.",
        received=_place(model, code) or f"op code {index}, which no operator uses",
        expected=f"version {highest} or lower" if highest else "an op that this engine has",
        next_step="Convert the model again with `--target raspberrypi-tflite`"
        + (", or install LiteRT: `pip install ai-edge-litert`." if ceilings.engine == "tflite-runtime" else "."),
    )


def _place(model: ModelFile, code: OpCode) -> str:
    """Say which operator uses an op, by the tensor that it makes."""
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            if (operator.op, operator.version) == (code.op, code.version) and operator.outputs:
                return f"operator {operator.index}, which makes `{subgraph.tensors[operator.outputs[0]].name}`"
    return ""


def _check_custom(op: str, engine: str, ceilings: Ceilings) -> None:
    if op == EDGETPU_OP:
        if op not in ceilings.custom:
            raise UnsupportedOpError(
                "The file was compiled for an Edge TPU and runs on one only.",
                received=f"custom op `{op}`",
                next_step='Pass `device="edgetpu"`, or use the file that it was compiled from: the same name without '
                "`_edgetpu`, as a rule.",
            )
    elif op.startswith("Flex") and len(op) > len("Flex"):
        # TensorFlow's own interpreter brings these kernels; no small engine does.
        if ceilings.engine != "tensorflow":
            raise UnsupportedOpError(
                f"The model needs the TensorFlow op `{op.removeprefix('Flex')}`, which {engine} does not have.",
                received=f"custom op `{op}` (Select TF ops)",
                expected="builtin ops",
                next_step="Replace the layer that makes it, and convert again without Select TF ops.",
            )
    elif ceilings.exact and op not in ceilings.custom:
        raise UnsupportedOpError(
            f"{engine} has no kernel for the custom op `{op}`.",
            received=f"custom op `{op}`",
            expected=", ".join(sorted(ceilings.custom)) or "no custom op",
            next_step="Convert the model again without custom ops.",
        )


def _check_order(subgraph: Subgraph) -> None:
    """Refuse a graph that reads what nothing has made, or writes where nothing may be written.

    An engine gives memory to a tensor when an op makes it. Reading another one follows a null pointer, and a
    constant may lie in read-only memory.
    """
    tensors = subgraph.tensors
    for index in subgraph.inputs:
        if tensors[index].constant is not None:
            raise _unsafe(subgraph, f"input `{tensors[index].name}` is a constant")
    # Empty tensors need no memory, and variables have theirs from the start.
    ready = {
        tensor.index for tensor in tensors if tensor.constant is not None or tensor.is_variable or not tensor.elements
    }
    ready.update(subgraph.inputs)
    for operator in subgraph.operators:
        for index in operator.inputs:
            if index >= 0 and index not in ready:
                raise _unsafe(subgraph, f"{_name(operator)} reads `{tensors[index].name}` before it is made")
        for index in operator.outputs:
            if not _writable(tensors[index], index in ready):
                raise _unsafe(subgraph, f"{_name(operator)} writes over `{tensors[index].name}`")
        ready.update(operator.outputs)
    for index in subgraph.outputs:
        if index not in ready:
            raise _unsafe(subgraph, f"nothing makes the output `{tensors[index].name}`")


def _writable(tensor: Tensor, is_ready: bool) -> bool:
    return not is_ready or (tensor.constant is None and not tensor.elements)


def _name(operator: Operator) -> str:
    return f"operator {operator.index} ({operator.op})"


def _unsafe(subgraph: Subgraph, why: str) -> DamagedModelError:
    return DamagedModelError(f"The model file is damaged: {why}.", received=f"subgraph {subgraph.index}")


def _check_calls(model: ModelFile) -> None:
    """Refuse subgraphs that are not there and subgraphs that call themselves, which would never end."""
    calls: dict[int, set[int]] = {subgraph.index: set() for subgraph in model.subgraphs}
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            if operator.op not in _CALLS:
                continue
            for option in _SUBGRAPH_OPTIONS:
                target = operator.options.get(option)
                if isinstance(target, int):
                    if target not in calls:
                        raise _unsafe(subgraph, f"{_name(operator)} calls subgraph {target}, which is not there")
                    calls[subgraph.index].add(target)
    # Take away those that call nothing that is left; what can never be taken away is a circle.
    while calls:
        free = [index for index, targets in calls.items() if not targets & calls.keys()]
        if not free:
            raise DamagedModelError(
                "The model file is damaged: its subgraphs call one another in a circle.", received=f"{sorted(calls)}"
            )
        for index in free:
            del calls[index]
