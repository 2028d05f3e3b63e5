"""Does `converters.edgetpu.check.predict` say what the Edge TPU compiler did? Originals against their compiled files.

    python benchmarks/edgetpu_pairs.py FOLDER ...

A folder holds pairs `NAME.tflite` and `NAME_edgetpu.tflite`, at any depth, as public repositories have them; a folder
`owner__name` above them is the repository. An op of the original that the compiler left to the processor keeps its
outputs' names in the compiled file; every other op is in the custom op. A compiler's log `NAME_edgetpu.log` beside them
is held against the predicted reasons.

One table has one row a pair, the other one row a rule and one row an op of `rules.py`. The figures are no test of the
rules on something new: they were made with the 27 pairs of the set "development"; the ops that stay on the processor in
the second set were known before the rules were whole, and six rules were corrected where they were too strict there.
`strict_agree` counts with these six taken back (`strict`): how well the rules did before on what they had not seen.
Three sets were fetched when the rules were finished: "third" changed no verdict; "fourth" brought the limits of
transpositions and of rows, "fifth" that of RESHAPE. What the rules said of them at first sight is `FIRST_LOOK`.

A compiled file with several custom ops was made with the compiler's experimental option `-a`; it is held against
`predict(..., all_groups=True)`, and `default_agree` counts without. Where one compiled file of a repository stands
beside several different originals, it cannot have been made from all of them, and these pairs are left out.
"""

from __future__ import annotations

import argparse
import collections
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from record import write_rows  # noqa: E402

from converters.edgetpu import check  # noqa: E402
from converters.edgetpu.check import Finding, Prediction, predict  # noqa: E402
from converters.edgetpu.log import parse_log  # noqa: E402
from converters.edgetpu.rules import RULES  # noqa: E402
from edgeinfer.errors import ModelError  # noqa: E402
from edgeinfer.files import sha256  # noqa: E402
from edgeinfer.model.ops import EDGETPU_OP  # noqa: E402
from edgeinfer.model.payload import is_compiled, payloads  # noqa: E402
from edgeinfer.model.schema import ModelFile, Operator, Subgraph, parse  # noqa: E402

SUFFIX = "_edgetpu.tflite"
DEVELOPMENT = ("google-coral/test_data", "google-coral/edgetpu")
LAST = ("s123600g/asr_edgetpu_demo", "evo4np/draft_models")
THIRD = (
    "JeongHwaSik/Edge-TPU-Scheduler",
    "ferhatyaman/Edge-TPU",
    "inSam/SR-GAN-Edge-TPU",
    "system-software-lab/nrf20",
)
FOURTH = (
    "G-aad-a/ddu-eksamen",
    "IanisRusitoru/CoralModel",
    "JannisWolf/evaluating-edge-accelerator",
    "MRezqalla/GoalBuddy",
    "MaxwellHogan/coral_wifi_webserver",
    "nerbivol/edgetpu_lite",
)
FIFTH = (
    "Sandhya1708/modelnew",
    "Sathishmahi/cricket-bat-key-point-detection",
    "XuesiChen/coralmicro",
    "pine-book/MyYolov5",
)
SETS = {
    **dict.fromkeys(DEVELOPMENT, "development"),
    **dict.fromkeys(LAST, "last"),
    **dict.fromkeys(THIRD, "third"),
    **dict.fromkeys(FOURTH, "fourth"),
    **dict.fromkeys(FIFTH, "fifth"),
}
# Ops that came out as predicted, of all, before anything was changed for them; 210 of the third without `-a` in mind.
FIRST_LOOK = {"third": "210 of 216", "fourth": "1211 of 1332", "fifth": "795 of 825"}
# Rules beside the limits of single ops. A shape computed while the model runs stops the compiler: no pair can show it.
RULE_NAMES = (
    "data type",
    "custom op",
    "float QUANTIZE",
    "unsupported op",
    "op version",
    "rank",
    "long row",
    "one partition",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """An original and what the compiler made of it.

    Attributes:
        repository: Where it is from.
        path: Of the original inside its folder.
        original: Bytes.
        compiled: Bytes.
        log: The compiler's, "" where there is none.
    """

    repository: str
    path: str
    original: bytes
    compiled: bytes
    log: str

    @property
    def set(self) -> str:
        """When it was fetched: before the rules were made, beside their making, last, or when they were finished."""
        return SETS.get(self.repository, "second")


def pairs(folder: Path) -> Iterator[Pair]:
    """Yield the pairs of a folder; an original that is compiled itself is no original."""
    for twin in sorted(folder.rglob("*" + SUFFIX)):
        original = twin.with_name(twin.name.removesuffix(SUFFIX) + ".tflite")
        if not original.is_file():
            continue
        first, *rest = parts = original.relative_to(folder).parts
        named = "__" in first and bool(rest)
        repository, path = (first.replace("__", "/", 1), "/".join(rest)) if named else ("", "/".join(parts))
        log = twin.with_suffix(".log")
        text = log.read_text(errors="replace") if log.is_file() else ""
        yield Pair(repository, path, original.read_bytes(), twin.read_bytes(), text)


def left_on_cpu(original: Subgraph, compiled: Subgraph) -> list[bool]:
    """Return for each op of the original whether the compiler left it to the processor.

    Raises:
        ValueError: An op of the compiled file is none of the original.
    """
    left = collections.Counter(_key(compiled, one) for one in compiled.operators if one.op != EDGETPU_OP)
    found = []
    for operator in original.operators:
        key = _key(original, operator)
        found.append(left[key] > 0)
        left[key] -= found[-1]
    if any(left.values()):
        raise ValueError(f"ops of the compiled file that the original does not have: {+left}")
    return found


def _key(graph: Subgraph, operator: Operator) -> tuple[str, tuple[str, ...]]:
    return operator.op, tuple(graph.tensors[index].name for index in operator.outputs)


def strict(file: ModelFile, *, all_groups: bool) -> Prediction:
    """Return the prediction without what was corrected after the development set.

    Softmax up to 16,000 only; the same dilation in x and y always; RESIZE_NEAREST_NEIGHBOR up to version 2; dense
    weights with one scale only; no open length in a signature; no SPLIT of the batch even into one part.
    """
    judge = check._judge

    def stricter(graph: Subgraph, operator: Operator, around: Mapping[int, Sequence[Operator]]) -> Finding:
        why = judge(graph, operator, around)
        return _corrected_later(graph, operator) or why if why.rule == "mapped" else why

    check._judge = stricter
    try:
        return predict(file, all_groups=all_groups)
    finally:
        check._judge = judge


def _corrected_later(graph: Subgraph, operator: Operator) -> Finding | None:
    tensors = [graph.tensors[index] for index in (*operator.inputs, *operator.outputs) if index >= 0]
    options = operator.options
    hit = (
        any(-1 in one.shape_signature for one in tensors)
        or (operator.op == "SOFTMAX" and tensors[0].shape[-1] > 16_000)
        or options.get("dilation_h") != options.get("dilation_w")
        or (operator.op == "RESIZE_NEAREST_NEIGHBOR" and operator.version > 2)
        or (operator.op == "FULLY_CONNECTED" and len(tensors[1].scale) > 1)
        or (operator.op == "SPLIT" and tensors[0].constant is not None and not any(tensors[0].constant))
    )
    if not hit:
        return None
    return Finding("Operation not supported", "corrected later", "", "estimate")


def row_of(pair: Pair, rules: dict[str, collections.Counter[str]], mapped: dict[str, int]) -> dict[str, object]:
    """Return the row of one pair; rules and the ops that were mapped are counted on the way."""
    original, compiled = parse(pair.original), parse(pair.compiled)
    truth = left_on_cpu(original.main, compiled.main)
    groups = sum(one.op == EDGETPU_OP for one in compiled.main.operators)
    default, without = predict(original), strict(original, all_groups=groups > 1)
    found = predict(original, all_groups=True) if groups > 1 else default
    confirmed: collections.Counter[str] = collections.Counter()
    false_cpu = missed = 0
    for verdict, why, on_cpu in zip(found.verdicts, found.findings, truth, strict=True):
        predicted = verdict.runs_on != "edgetpu"
        if predicted:
            rules[why.rule]["confirmed" if on_cpu else "false"] += 1
            confirmed[why.rule] += on_cpu
        if not on_cpu:
            mapped[verdict.op] = max(mapped.get(verdict.op, 0), verdict.version)
        false_cpu += predicted and not on_cpu
        missed += on_cpu and not predicted
    held = payloads(compiled)
    # Ops in their order: models that differ in weights alone try the rules only once.
    sequence = " ".join(f"{one.op}:{one.version}" for one in original.main.operators)
    parameters = sum(one.cached_bytes + one.streamed_bytes for one in held)
    return {
        "repository": pair.repository,
        "path": pair.path,
        "set": pair.set,
        "sha256": sha256(pair.original)[:16],
        "compiled_sha256": sha256(pair.compiled)[:16],
        "sequence": sha256(sequence.encode())[:8],
        "ops": len(truth),
        "on_cpu": sum(truth),
        "groups": groups,
        "agree": _agreeing(found, truth),
        "default_agree": _agreeing(default, truth),
        "false_cpu": false_cpu,
        "missed_cpu": missed,
        "refused": int(bool(found.wrong)),
        "strict_agree": _agreeing(without, truth),
        "confirmed": "; ".join(f"{name} {count}" for name, count in sorted(confirmed.items()) if count),
        "log": _against_log(found, pair.log),
        "min_runtime": max((one.min_runtime_version for one in held), default=0),
        "constant_bytes": found.memory.constant_bytes,
        "parameter_bytes": parameters,
        "in_estimate": int(found.memory.low_bytes <= parameters <= found.memory.high_bytes),
    }


def _agreeing(found: Prediction, truth: list[bool]) -> int:
    return sum((one.runs_on != "edgetpu") == on_cpu for one, on_cpu in zip(found.verdicts, truth, strict=True))


def _against_log(found: Prediction, text: str) -> str:
    """Say whether the log's table has the same ops with the same statuses."""
    table = parse_log(text).table
    if not table:
        return ""
    told: collections.Counter[tuple[str, str]] = collections.Counter()
    for op, count, status in table:
        told[op, status] += count
    return "same statuses" if told == collections.Counter(found.table) else "other statuses"


def sums(rows: list[dict[str, object]]) -> Iterator[dict[str, object]]:
    """Yield one row a set of pairs, and one for all."""
    names = (
        "ops",
        "on_cpu",
        "agree",
        "default_agree",
        "false_cpu",
        "missed_cpu",
        "refused",
        "strict_agree",
        "in_estimate",
    )
    for kind in ("development", "second", "last", "third", "fourth", "fifth", ""):
        chosen = [row for row in rows if not kind or row["set"] == kind]
        if chosen:
            total = {name: sum(int(str(row[name])) for row in chosen) for name in names}
            exact = sum(row["agree"] == row["ops"] for row in chosen)
            strictly = sum(row["strict_agree"] == row["ops"] for row in chosen)
            distinct = len({row["sequence"] for row in chosen})
            label = f"{len(chosen)} pairs, {distinct} op sequences; {exact} exact, {strictly} when strict"
            yield {
                "repository": "SUM",
                "path": label,
                "set": kind or "all",
                **total,
                "first_look": FIRST_LOOK.get(kind, ""),
            }


def main() -> int:
    """Compare every pair and write the three tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args()
    rules: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    mapped: dict[str, int] = {}
    rows: list[dict[str, object]] = []
    found = [pair for folder in options.folders for pair in pairs(folder)]
    for pair in found:
        if (
            len({one.original for one in found if (one.repository, one.compiled) == (pair.repository, pair.compiled)})
            > 1
        ):
            print(f"left out: {pair.repository} {pair.path}: its compiled file has several originals", file=sys.stderr)
            continue
        try:
            if is_compiled(parse(pair.original)) or not is_compiled(parse(pair.compiled)):
                continue
        except ModelError as error:  # a Git LFS pointer, for example
            print(f"left out: {pair.repository} {pair.path}: {error.message}", file=sys.stderr)
            continue
        rows.append(row_of(pair, rules, mapped))
    if not rows:
        parser.error("no pairs NAME.tflite and NAME_edgetpu.tflite in these folders")
    total = list(sums(rows))
    write_rows("edgetpu-pairs", [*rows, *total], machine="public-repositories")
    conditions = [f"{op} limit" for op in sorted(RULES)]
    exercised = [name for name in (*RULE_NAMES, *conditions) if rules[name]]
    never = ["run-time shape", *(name for name in RULE_NAMES if not rules[name]), "every limit not above"]
    write_rows(
        "edgetpu-rules",
        [
            {"rule": name, "cpu_ops_confirmed": rules[name]["confirmed"], "false_cpu": rules[name]["false"]}
            for name in exercised
        ]
        + [{"rule": f"never exercised: {', '.join(never)}"}]
        + [
            {
                "rule": f"op {op}",
                "highest_mapped": mapped.get(op, 0),
                "highest_accepted": rule.highest,
                "source": rule.source,
            }
            for op, rule in sorted(RULES.items())
        ],
        machine="public-repositories",
    )
    wrong = {op: (mapped.get(op, 0), rule.seen) for op, rule in RULES.items() if mapped.get(op, 0) != rule.seen}
    if wrong:
        print(f"rules.py says other versions than these pairs have mapped (pairs, rules.py): {wrong}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
