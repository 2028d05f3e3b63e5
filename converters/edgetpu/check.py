"""What Google's compiler would place on the Edge TPU, said before it runs: per op, with the reason and its source.

Only the compiler decides. This is a prediction from rules that were gathered from public files (`rules.py`); how often
it was right, and which rules nothing has tried, stands in `benchmarks/results/edgetpu-pairs-public-repositories.csv`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from converters.edgetpu.conditions import beyond_seen, broken_condition
from converters.edgetpu.rules import (
    CURES,
    FATAL_THREAD,
    FATAL_VERSIONS,
    FLOAT_ENDS,
    NOT_SUPPORTED,
    RULES,
    SHAPE_INPUTS,
    SHAPE_THREADS,
    STATIC_BATCH,
    UNSUPPORTED_THREADS,
    Fact,
    Source,
    Status,
)
from converters.edgetpu.sram import Memory, estimate_memory
from converters.layers import operator_layer
from converters.partitions import groups
from converters.verdicts import Evidence, Verdict
from edgeinfer.model.payload import is_compiled
from edgeinfer.model.schema import ModelFile, Operator, Subgraph

__all__ = ["Finding", "Prediction", "predict"]

_QUANTIZED = ("int8", "uint8")
# A recurrent layer's cell state is int16 beside int8 (seen in a pair).
_STATE_OPS = ("UNIDIRECTIONAL_SEQUENCE_LSTM",)
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_MAPPED: Status = "Mapped to Edge TPU"
_DTYPE: Status = "Operation is working on an unsupported data type"
_UNSUPPORTED: Status = "Operation not supported"
_VERSION: Status = "Operation version not supported"
_LIMIT: Status = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
_SECOND: Status = "More than one subgraph is not supported"
_LOGGED = "by a public log of the compiler"
# Of each tensor: the ops that make or take it, in the order of running.
_Around = Mapping[int, Sequence[Operator]]


@dataclass(frozen=True, slots=True)
class Finding:
    """Why an op goes where it goes.

    Attributes:
        status: In the compiler's own words.
        rule: Name of the rule that decided, e.g. "data type"; "mapped" for an op on the chip.
        words: In words for a person, with a cure where there is one.
        source: Where the rule comes from.
        fatal: Whether the compiler stops at this op instead of leaving it on the processor.
    """

    status: Status
    rule: str
    words: str
    source: Source
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the compiler would do with a file.

    Attributes:
        verdicts: One row per op of the main graph, in the order of running.
        findings: Why, row by row.
        wrong: Why the compiler would refuse the whole file, "" where it would not.
        memory: What the mapped ops' parameters take on the chip.
        notes: Hints that decide nothing.
    """

    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...]
    wrong: str
    memory: Memory
    notes: tuple[str, ...]

    @property
    def mapped(self) -> int:
        """How many ops the chip would run; 0 where the compiler would refuse the file."""
        return 0 if self.wrong else sum(one.runs_on == "edgetpu" for one in self.verdicts)

    @property
    def ends_at(self) -> Verdict | None:
        """The first op that is not mapped although one before it is: there the chip hands over to the processor."""
        begun = False
        for one in self.verdicts:
            if begun and one.runs_on != "edgetpu":
                return one
            begun = begun or one.runs_on == "edgetpu"
        return None

    @property
    def table(self) -> dict[tuple[str, str], int]:
        """How many ops have which status: {(op, status): count}, as the compiler's log counts them."""
        return dict(Counter((one.op, why.status) for one, why in zip(self.verdicts, self.findings, strict=True)))

    def to_json(self) -> dict[str, object]:
        """Return the prediction as it is stored beside a compiled file."""
        return {
            "mapped": self.mapped,
            "ops": [one.to_json() for one in self.verdicts],
            "wrong": self.wrong,
            "memory": self.memory.to_json(),
            "notes": list(self.notes),
        }


def predict(file: ModelFile, *, all_groups: bool = False) -> Prediction:
    """Return what the Edge TPU compiler would do with a file.

    Args:
        file: A `.tflite` file that was read, e.g. by `edgeinfer.model.schema.parse`.
        all_groups: Predict for the compiler's experimental option `-a`, which maps later groups of ops too.

    Returns:
        A verdict per op: "edgetpu", "cpu", or "refused" where the compiler would stop.
    """
    graph = file.main
    around = _around(graph)
    judged = [_judge(graph, operator, around) for operator in graph.operators]
    fit = [why.rule == "mapped" for why in judged]
    group = frozenset(place for place, one in enumerate(fit) if one) if all_groups else _first_group(graph, fit)
    findings = tuple(
        _left_out(graph.operators, group) if why.rule == "mapped" and place not in group else why
        for place, why in enumerate(judged)
    )
    wrong = _wrong(file, findings)
    verdicts = tuple(_verdict(graph, operator, why) for operator, why in zip(graph.operators, findings, strict=True))
    return Prediction(verdicts, findings, wrong, estimate_memory(graph, group), _notes(graph, findings))


def _verdict(graph: Subgraph, operator: Operator, why: Finding) -> Verdict:
    return Verdict(
        index=operator.index,
        op=operator.op,
        version=operator.version,
        layer=operator_layer(graph, operator),
        runs_on="refused" if why.fatal else "edgetpu" if why.status == _MAPPED else "cpu",
        reason=f"{why.status}: {why.words}" if why.words else why.status,
        evidence=_evidence(why, operator),
    )


def _evidence(why: Finding, operator: Operator) -> Evidence:
    """Say "seen" only of what a pair has shown: this op in this version on the chip, or this rule at work."""
    above = why.rule == "mapped" and 0 < RULES[operator.op].seen < operator.version
    if above or why.source in ("estimate", "recalled"):
        return "estimated"
    return "seen" if why.source == "pair" else "documented"


def _judge(graph: Subgraph, operator: Operator, around: _Around) -> Finding:
    """Return why an op would be placed or not, as if it were alone; data types before ops, as the compiler does."""
    op, cure = operator.op, _cure(graph, operator)
    dynamic = _dynamic(graph, operator)
    if dynamic:
        return Finding(_LIMIT, "run-time shape", f"{dynamic} ({SHAPE_THREADS}). {STATIC_BATCH}", "issue", fatal=True)
    if operator.version >= FATAL_VERSIONS.get(op, operator.version + 1):
        known = RULES[op].highest
        words = f"version {operator.version} stops the compiler, which knows {known} ({FATAL_THREAD}). {cure}".rstrip()
        return Finding(_VERSION, "op version", words, "issue", fatal=True)
    foreign = _foreign_dtypes(graph, operator)
    if operator.custom:
        status = _DTYPE if foreign else _UNSUPPORTED
        return Finding(status, "custom op", "a custom op runs on the processor", "pair")
    if op == "QUANTIZE" and set(foreign) & set(_FLOATS):
        return Finding(
            _LIMIT, "float QUANTIZE", f"it takes floats. {_beside_floats(graph, operator, around)}".rstrip(), "pair"
        )
    if foreign:
        # The cure of an op that the chip has is for its versions and conditions, and no help against floats.
        cure = _beside_floats(graph, operator, around) if op == "DEQUANTIZE" else "" if op in RULES else cure
        return Finding(_DTYPE, "data type", f"{', '.join(foreign)} instead of int8 or uint8. {cure}".rstrip(), "pair")
    if op not in RULES:
        return Finding(_UNSUPPORTED, "unsupported op", *_unsupported(op, cure))
    if operator.version > RULES[op].highest:
        words = (
            f"version {operator.version}; {RULES[op].highest} is the highest known, the compiler may stop here. {cure}"
        )
        return Finding(_VERSION, "op version", words.rstrip(" ."), "pair")
    fact = broken_condition(graph, operator)
    if fact is not None:
        return _limit(operator, fact, around)
    beyond = beyond_seen(graph, operator)
    if beyond is not None:
        return Finding(_MAPPED, "mapped", beyond.words, beyond.source)
    return Finding(_MAPPED, "mapped", _LOGGED if RULES[op].source == "log" else "", RULES[op].source)


def _unsupported(op: str, cure: str) -> tuple[str, Source]:
    """Return in words that the chip has no such op, and where that stands."""
    source = NOT_SUPPORTED.get(op, "table")
    where = {"log": _LOGGED, "issue": UNSUPPORTED_THREADS.get(op, "")}.get(source, "")
    words = cure or "the chip has no such op"
    return (f"{words.rstrip('.')} ({where})" if where else words), source


def _cure(graph: Subgraph, operator: Operator) -> str:
    """Return what to do about an op, "" for nothing: an argmax can be left out only where the model ends."""
    if operator.op == "ARG_MAX" and not set(operator.outputs) & set(graph.outputs):
        return ""
    return CURES.get(operator.op, "")


def _limit(operator: Operator, fact: Fact, around: _Around) -> Finding:
    # UpSampling2D becomes RESHAPE and TILE with five lengths.
    upsampling = fact.rule == "rank" and any(one.op == "TILE" for one in _neighbours(operator, around))
    words = f"{fact.words}. {CURES['TILE']}" if upsampling else fact.words
    return Finding(_LIMIT, fact.rule or f"{operator.op} limit", words, fact.source)


def _around(graph: Subgraph) -> _Around:
    """Return for each tensor the ops that make or take it, in the order of running."""
    found: dict[int, list[Operator]] = {}
    for operator in graph.operators:
        for index in (*operator.inputs, *operator.outputs):
            found.setdefault(index, []).append(operator)
    return found


def _neighbours(operator: Operator, around: _Around) -> list[Operator]:
    """Return the ops that share a tensor with one, itself included."""
    return [one for index in (*operator.inputs, *operator.outputs) if index >= 0 for one in around[index]]


def _beside_floats(graph: Subgraph, operator: Operator, around: _Around) -> str:
    """Say what is to be done about a change from or to floats: another type at the ends, or another op between."""
    if set(operator.inputs) & set(graph.inputs) or set(operator.outputs) & set(graph.outputs):
        return FLOAT_ENDS
    beside = [one for one in _neighbours(operator, around) if one.op not in RULES and one.op != "DEQUANTIZE"]
    names = dict.fromkeys(one.op for one in beside)
    cures = dict.fromkeys(cure for cure in (_cure(graph, one) for one in beside) if cure)
    return " ".join([f"It stands beside {', '.join(names)}.", *cures]) if names else ""


def _dynamic(graph: Subgraph, operator: Operator) -> str:
    """Say which input makes the size of the op's output known only while it runs, "" for none."""
    for place in SHAPE_INPUTS.get(operator.op, ()):
        index = operator.inputs[place] if place < len(operator.inputs) else -1
        if index >= 0 and graph.tensors[index].constant is None:
            return f"its size `{graph.tensors[index].name}` is computed while the model runs"
    return ""


def _foreign_dtypes(graph: Subgraph, operator: Operator) -> list[str]:
    """Return the types of its tensors that the chip does not have, each once; constants may be int32."""
    allowed = (*_QUANTIZED, "int16") if operator.op in _STATE_OPS else _QUANTIZED
    found = []
    for index in (*operator.inputs, *operator.outputs):
        if index < 0:
            continue
        tensor = graph.tensors[index]
        fits = tensor.dtype in allowed or (tensor.constant is not None and tensor.dtype not in _FLOATS)
        if not fits:
            found.append(tensor.dtype)
    return list(dict.fromkeys(found))


def _first_group(graph: Subgraph, fit: Sequence[bool]) -> frozenset[int]:
    """Return the ops that are compiled: the first group of fitting ops that needs nothing but what stands before it.

    The compiler takes ops in turns: all that stay on the processor and whose inputs are there, then all that fit and
    whose inputs are there. The first turn with a fitting op is the group. By the order of running alone, 3 of the 27
    models of google-coral/test_data and google-coral/edgetpu would come out wrong, 1297 of 1310 ops right.
    """
    return next((taken for fits, taken in groups(graph, fit, first=False) if fits), frozenset())


def _left_out(operators: Sequence[Operator], group: frozenset[int]) -> Finding:
    last = operators[max(group)] if group else None
    behind = f"the chip takes one group of ops, which ends at op {last.index} ({last.op})" if last else ""
    return Finding(_SECOND, "one partition", behind, "pair")


def _wrong(file: ModelFile, findings: Sequence[Finding]) -> str:
    """Return why the compiler refuses the file as a whole, "" where it does not."""
    if is_compiled(file):
        return "The file is compiled for the Edge TPU already: take the original."
    if len(file.subgraphs) > 1:
        return f"The file has {len(file.subgraphs)} subgraphs (control flow); the compiler takes one."
    for operator, why in zip(file.main.operators, findings, strict=True):
        if why.fatal:
            return f"The compiler would stop at op {operator.index} ({operator.op}): {why.words}"
    dtypes = {
        file.main.tensors[index].dtype
        for one in file.main.operators
        for index in (*one.inputs, *one.outputs)
        if index >= 0
    }
    if not dtypes & set(_QUANTIZED):
        return "The model is not quantized: convert it in full integers, `--scheme int8`."
    return ""


def _notes(graph: Subgraph, findings: Sequence[Finding]) -> tuple[str, ...]:
    notes = ["A prediction from public compiled models; only the compiler decides."]
    newer: dict[int, list[str]] = {}
    for operator, why in zip(graph.operators, findings, strict=True):
        if why.rule == "mapped" and RULES[operator.op].runtime:
            newer.setdefault(RULES[operator.op].runtime, []).append(operator.op)
    for version in sorted(newer):
        ops = ", ".join(sorted(set(newer[version])))
        notes.append(f"{ops}: may need runtime version {version} or later, by Coral's table (not tried).")
    return tuple(notes)
