"""What a conversion did and what it cost: a table for people, JSON for programs."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from converters.tflite.gates import GateResult
from converters.verify import Comparison
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
            "gates": [{"name": gate.name, "ok": gate.ok, "detail": gate.detail} for gate in self.gates],
            "calibration": self.calibration,
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        lines = [f"{self.model}: {self.scheme}, {self.io} at both ends, for {self.target}", "", *self._table()]
        if self.comparison is not None:
            lines += ["", *_verdict(self.comparison)]
        else:
            lines += ["", "Not verified: nothing is known of the accuracy of this file."]
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
        widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
        return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]

    def _measured(self, number: int) -> tuple[str, str]:
        comparison = self.comparison
        if comparison is None or len(self.rows) != 2:
            return "not measured", "not measured"
        evaluation = (comparison.original, comparison.quantized)[number]
        times = (comparison.original_latency, comparison.quantized_latency)[number]
        if evaluation is None:
            return "no labels", milliseconds(times)
        low, high = evaluation.top1_interval
        return f"{evaluation.top1:.2%} ({low:.2%} to {high:.2%})", milliseconds(times)


def _verdict(comparison: Comparison) -> list[str]:
    lines = []
    if comparison.drop is not None and comparison.drop_interval is not None:
        low, high = comparison.drop_interval
        lines.append(
            f"Drop {100 * comparison.drop:+.2f} points (95 % interval {100 * low:+.2f} to {100 * high:+.2f}), "
            f"{comparison.samples} labelled samples."
        )
    if comparison.agreement is not None and comparison.agreement_interval is not None:
        low, high = comparison.agreement_interval
        only = "" if comparison.drop is not None else " This is agreement, not accuracy: the data has no labels."
        lines.append(
            f"Both answer the same on {comparison.agreement:.2%} (95 % interval {low:.2%} to {high:.2%}) "
            f"of {comparison.samples} samples.{only}"
        )
    if comparison.error is not None:
        lines.append(
            f"The outputs differ by {comparison.error:.2%} (root mean square, of the float outputs) "
            f"on {comparison.samples} samples. This is an error, not an accuracy."
        )
    lines.append(f"Measured with {comparison.engine}, 1 thread, on this machine: not the device's latency.")
    return lines


def milliseconds(times: Latency) -> str:
    """Return "p50 / p95" in milliseconds."""
    return f"{times.p50:.3f} / {times.p95:.3f}"


def kibibytes(size_bytes: int) -> str:
    """Return a size for people."""
    return f"{size_bytes / 1024:,.1f} KiB"


def gzip_size(data: bytes) -> int:
    """Return the size of these bytes as a gzip file at level 9 (18 bytes of frame around a deflate stream)."""
    squeezed = zlib.compressobj(9, zlib.DEFLATED, 31)
    return len(squeezed.compress(data)) + len(squeezed.flush())
