"""What a conversion did and what it cost: a table for people, JSON for programs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from converters.account import Entry, gzip_size
from converters.edgetpu.compiler import compiler_command
from converters.file_check import FileCheck
from converters.tflite.gates import GateResult
from converters.verify import Comparison
from edgeinfer.evaluate import Evaluation
from edgeinfer.model.summary import summarize
from edgeinfer.timing import Latency


@dataclass(frozen=True, slots=True)
class StepRow:
    """One state of the model.

    Attributes:
        step: "float32" for the model as it came, else the step's scheme.
        size_bytes: Of the file, metadata included.
        gzip_bytes: What it takes when it is sent compressed.
        parameters: Numbers that the file stores.
        macs: Multiply-accumulate operations of one invoke.
        seconds: How long the step took.
    """

    step: str
    size_bytes: int
    gzip_bytes: int
    parameters: int
    macs: int
    seconds: float

    def to_json(self) -> dict[str, object]:
        """Return one row of `steps`."""
        return {
            "step": self.step,
            "bytes": self.size_bytes,
            "gzip_bytes": self.gzip_bytes,
            "parameters": self.parameters,
            "macs": self.macs,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class Account:
    """What every step cost.

    Attributes:
        measured_on: In words: test data, or what had to do in its place.
        entries: The original first.
    """

    measured_on: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The account of a conversion.

    Attributes:
        model: The model's name.
        target: What it was made for.
        scheme: Of the quantization.
        io: Tensors at both ends.
        rows: The float model, if it was converted for comparison, and the result.
        gates: What the file satisfies.
        comparison: What quantization cost; None if it was not verified.
        judged_on: In words: what the comparison ran on.
        account: What every step cost; None for a recipe that only quantizes, without test data.
        check: Where the file's ops run on the target.
        replaced: What stands in the place of layers that the target lacks, one sentence a layer.
        compiler: What the target's compiler said, or how to come by it; "" for a target without one.
        calibration: Count, unit and fingerprint of the calibration samples; empty for a scheme without them.
        warnings: Sentences that the user should read.
    """

    model: str
    target: str
    scheme: str
    io: str
    rows: tuple[StepRow, ...]
    gates: tuple[GateResult, ...]
    comparison: Comparison | None
    calibration: dict[str, object]
    warnings: tuple[str, ...] = ()
    judged_on: str = "held-out calibration samples"
    account: Account | None = None
    check: FileCheck | None = None
    replaced: tuple[str, ...] = ()
    compiler: str = ""

    def named(self, path: Path) -> Report:
        """Return the report with the file's own name in the line that says what to type next."""
        if self.check is None or not self.check.command:
            return self
        return replace(self, check=replace(self.check, command=compiler_command(str(path))))

    def to_json(self) -> dict[str, object]:
        """Return what `edgeinfer-convert --json` prints, without the output's path."""
        compared: dict[str, object] = {"float": None, "quantized": None, "agreement": None}
        if self.comparison is not None:
            compared = self.comparison.to_json()
        return {
            "bytes": self.rows[-1].size_bytes,
            "gzip_bytes": self.rows[-1].gzip_bytes,
            "scheme": self.scheme,
            "io": self.io,
            "target": self.target,
            "steps": [row.to_json() for row in self.rows],
            **compared,
            "judged_on": self.judged_on if self.comparison is not None else None,
            "account": None
            if self.account is None
            else {
                "measured_on": self.account.measured_on,
                "steps": [entry.to_json() for entry in self.account.entries],
            },
            "check": None if self.check is None else self.check.to_json(),
            "replaced": list(self.replaced),
            "compiler": self.compiler,
            "gates": [{"name": gate.name, "ok": gate.ok, "detail": gate.detail} for gate in self.gates],
            "calibration": self.calibration,
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        lines = [f"{self.model}: {self.scheme}, {self.io} at both ends, for {self.target}", "", *self._table()]
        if self.account is not None:
            lines += ["", *_account_table(self.account)]
        if self.comparison is not None:
            lines += ["", *_verdict(self.comparison, self.judged_on)]
        elif self.account is None:
            lines += ["", "Not verified: nothing is known of the accuracy of this file."]
        else:
            lines += ["", "No gate: the recipe has no Verify."]
        lines += [f"Replaced: {sentence}." for sentence in self.replaced]
        if self.check is not None and (self.check.accelerator or self.check.notes):
            lines += ["", *self.check.outline(), *([self.compiler] if self.compiler else [])]
            lines += [f"Next: {self.check.command}"] if self.check.command else []
        lines += [f"Warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        heads = ["", "size", "gzip", "parameters", "MACs", "top-1 (95 % interval)", "p50 / p95 ms"]
        cells = [heads]
        for number, row in enumerate(self.rows):
            cells.append(
                [
                    row.step,
                    kibibytes(row.size_bytes),
                    kibibytes(row.gzip_bytes),
                    f"{row.parameters:,}",
                    f"{row.macs:,}",
                    *self._measured(number),
                ]
            )
        return _aligned(cells)

    def _measured(self, number: int) -> tuple[str, str]:
        comparison = self.comparison
        if comparison is None or len(self.rows) != 2:
            return "not measured", "not measured"
        evaluation = (comparison.original, comparison.quantized)[number]
        times = (comparison.original_latency, comparison.quantized_latency)[number]
        if evaluation is None:
            return "no validation data", milliseconds(times)
        low, high = evaluation.top1_interval
        return f"{evaluation.top1:.2%} ({low:.2%} to {high:.2%})", milliseconds(times)


def _verdict(comparison: Comparison, judged_on: str) -> list[str]:
    lines = []
    if comparison.drop is not None and comparison.drop_interval is not None:
        low, high = comparison.drop_interval
        lines.append(
            f"Drop {100 * comparison.drop:+.2f} points (95 % interval {100 * low:+.2f} to {100 * high:+.2f}), "
            f"{comparison.samples} labelled samples ({judged_on})."
        )
    if comparison.agreement is not None and comparison.agreement_interval is None:
        lines.append(
            f"Both answer the same on {comparison.agreement:.2%} of the pixels of {comparison.samples} samples "
            f"({judged_on}). This is agreement, not accuracy."
        )
    elif comparison.agreement is not None and comparison.agreement_interval is not None:
        low, high = comparison.agreement_interval
        only = "" if comparison.drop is not None else " This is agreement, not accuracy: no validation data was given."
        lines.append(
            f"Both answer the same on {comparison.agreement:.2%} (95 % interval {low:.2%} to {high:.2%}) "
            f"of {comparison.samples} samples ({judged_on}).{only}"
        )
    if comparison.error is not None:
        lines.append(
            f"The outputs differ by {comparison.error:.2%} (root mean square, of the float outputs) "
            f"on {comparison.samples} samples ({judged_on}). This is an error, not an accuracy."
        )
    lines.append(f"Measured with {comparison.engine}, 1 thread, on this machine: not the device's latency.")
    return lines


def _account_table(account: Account) -> list[str]:
    heads = ["step", "parameters", "MACs", "bytes", "gzip", "float", "quantized (95 % interval)", "agreement"]
    cells = [[*heads, "latency", "seconds"]]
    for row in account.entries:
        same, error = row.quantized.agreement, row.quantized.error
        cells.append(
            [
                row.step,
                f"{row.parameters:,}",
                f"{row.macs:,}",
                f"{row.size_bytes:,}",
                f"{row.gzip_bytes:,}",
                _top1(row.plain.quantized, interval=False),
                _top1(row.quantized.quantized, interval=True),
                f"{same:.2%}" if same is not None else f"error {error or 0.0:.2%}",
                f"x {row.latency_ratio:.2f}",
                f"{row.seconds:.1f}",
            ]
        )
    lines = [
        *_aligned(cells),
        f"Every state as a file, measured on {account.entries[0].quantized.samples} samples of {account.measured_on}. "
        "Agreement is with the original float model; latency is that of the quantized file against the original's, "
        "in turns.",
    ]
    return [*lines, *(f"{row.step}: {note}" for row in account.entries for note in row.notes)]


def _top1(evaluation: Evaluation | None, *, interval: bool) -> str:
    if evaluation is None:
        return "no labels"
    low, high = evaluation.top1_interval
    return f"{evaluation.top1:.2%}" + (f" ({low:.2%} to {high:.2%})" if interval else "")


def _aligned(cells: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def step_row(step: str, tflite: bytes, seconds: float) -> StepRow:
    """Return the row of a file."""
    summary = summarize(tflite)
    return StepRow(step, len(tflite), gzip_size(tflite), summary.parameters, summary.macs, seconds)


def milliseconds(times: Latency) -> str:
    """Return "p50 / p95" in milliseconds."""
    return f"{times.p50:.3f} / {times.p95:.3f}"


def kibibytes(size_bytes: int) -> str:
    """Return a size for people."""
    return f"{size_bytes / 1024:,.1f} KiB"
