"""How much of the chip's memory a model's parameters would take: an estimate, and a range because it is one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass

from edgeinfer.model.schema import Operator, Subgraph

__all__ = ["Memory", "estimate_memory"]

# What the compiler's logs call free for parameters, in models that leave it nearly whole: 7.67 to 7.96 MiB.
_LEAST_FREE = int(7.67 * 2**20)
_MOST_FREE = int(7.96 * 2**20)
# Parameters in the compiled file by the constants of the mapped ops in the original, over 178 pairs: 0.998 to 1.376
# times in the 82 pairs above 0.5 MiB, half of them below 1.10; 16 times where a dense layer has 2 outputs, because the
# chip rounds the depth up. `benchmarks/edgetpu_pairs.py` measures it again: every pair lies in the range.
_USUAL, _LARGEST = 1.10, 1.4
_DEPTH, _MOST_ROUNDED = 32, 16.0
_SLACK_BYTES = 128 << 10

_DEEP_LAST = ("DEPTHWISE_CONV_2D",)


@dataclass(frozen=True, slots=True)
class Memory:
    """Parameters of the mapped ops, in bytes.

    Attributes:
        constant_bytes: Weights and biases as they stand in the file.
        low_bytes: The weights alone, which is what they take at least: equal biases take nothing of their own.
        usual_bytes: In the middle of what was seen.
        high_bytes: What they take at most, by estimate.
    """

    constant_bytes: int
    low_bytes: int
    usual_bytes: int
    high_bytes: int

    @property
    def fits(self) -> bool | None:
        """Whether all of it stays on the chip; None where that cannot be said."""
        if self.high_bytes <= _LEAST_FREE:
            return True
        return False if self.low_bytes > _MOST_FREE else None

    @property
    def words(self) -> str:
        """In a sentence."""
        what = {
            True: "fit the chip's memory",
            False: "do not fit the chip's memory: what is left over is sent again for each inference",
            None: "may not all fit the chip's memory: what is left over is sent again for each inference",
        }[self.fits]
        span = f"{self.low_bytes / 2**20:.2f} to {self.high_bytes / 2**20:.2f} MiB by estimate"
        return f"The parameters, {span}, {what} (7.67 to 7.96 MiB)."

    def to_json(self) -> dict[str, object]:
        """Return it as it is stored."""
        return {**asdict(self), "fits": self.fits}


def estimate_memory(graph: Subgraph, mapped: Collection[int]) -> Memory:
    """Estimate what the parameters of some ops take on the chip.

    Args:
        graph: The main graph.
        mapped: Places of the ops that the chip runs.
    """
    operators = [graph.operators[place] for place in sorted(mapped)]
    seen: set[int] = set()
    total, low, high = 0, 0, float(_SLACK_BYTES if operators else 0)
    for operator in operators:
        new = {index for index in operator.inputs if index >= 0} - seen
        seen |= new
        # Shapes, axes and paddings are constants too; what is a parameter has a scale.
        constants = [graph.tensors[index] for index in new if graph.tensors[index].scale]
        size = sum(one.constant_bytes for one in constants)
        low += sum(one.constant_bytes for one in constants if one.dtype in ("int8", "uint8"))
        total += size
        high += size * max(_LARGEST, min(_MOST_ROUNDED, _DEPTH / _outputs(graph, operator)))
    return Memory(total, low, round(total * _USUAL), round(high))


def _outputs(graph: Subgraph, operator: Operator) -> int:
    """Return how many output channels an op's weights have; many for an op without weights, which nothing rounds."""
    weights = graph.tensors[operator.inputs[1]] if len(operator.inputs) > 1 and operator.inputs[1] >= 0 else None
    if weights is None or weights.constant is None or not weights.shape:
        return _DEPTH
    return max(1, weights.shape[-1] if operator.op in _DEEP_LAST else weights.shape[0])
