"""The steps of a recipe: what is done to a model, as frozen values without models and without data.

Every step checks itself when it is made; what order they may stand in is the recipe's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from converters.errors import RecipeError
from converters.settings import (
    Pairs,
    check_above_zero,
    check_fallback,
    check_inside,
    check_one_of,
    check_share,
    check_whole,
    is_whole,
    parse_pattern,
    ratios,
    text_pairs,
    texts,
)
from converters.targets import Io, Scheme

__all__ = [
    "Distill",
    "Ending",
    "FineTune",
    "Fit",
    "Prune",
    "Quantize",
    "Step",
    "Verify",
]

Augmentation = Literal["flip", "shift"]
Structure = Literal["channel", "block", "weight"]
Importance = Literal["l1", "l2", "batchnorm", "taylor", "hessian"]
Ranges = Literal["minmax", "percentile", "mse"]
Fallback = Literal["float32"]
Ending = Literal["argmax", "top-k"]


_AGREEMENT = 0.9


@dataclass(frozen=True, slots=True)
class Fit:
    """What all training steps of a recipe have in common.

    Attributes:
        batch_size: Samples a step of the optimizer (Adam).
        schedule: "cosine" lets each step's learning rate fall to 0 along half a cosine, "constant" keeps it.
        augment: What is done to training pictures, at random: "flip" mirrors left and right, "shift" moves by up to an
            eighth of the size, with black behind. None by default: a mirrored 3 is no 3.
    """

    batch_size: int = 128
    schedule: Literal["cosine", "constant"] = "cosine"
    augment: tuple[Augmentation, ...] = ()

    def __post_init__(self) -> None:
        check_whole("batch_size", self.batch_size, 1, 1 << 20)
        check_one_of("schedule", self.schedule, ("cosine", "constant"))
        object.__setattr__(self, "augment", texts("augment", self.augment))
        for one in self.augment:
            check_one_of("augment", one, get_args(Augmentation))


@dataclass(frozen=True, slots=True)
class FineTune:
    """Training on the labels, and nothing else.

    Attributes:
        epochs: Passes over the training data.
        learning_rate: At the start, see `Fit.schedule`.
    """

    epochs: int = 5
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs, 1, 100_000)
        check_above_zero("learning_rate", self.learning_rate)


@dataclass(frozen=True, slots=True)
class Distill:
    """Training on the labels and on what a teacher answers.

    Attributes:
        temperature: Softens both models' answers before they are compared: softmax(logits / temperature).
        alpha: Weight of the teacher's part in the loss, 0..1; the labels have the rest.
        epochs: Passes over the training data.
        learning_rate: At the start.
        attention: Pairs "layer of the teacher" -> "layer of the student" whose attention maps are compared too (the
            mean of the squared channels, so widths may differ). A mapping or pairs.
        features: Pairs of layers whose outputs are compared too; where the widths differ, a 1x1 projection that is
            trained along stands between, and is thrown away afterwards.
        feature_weight: Weight of each pair of `attention` and `features` in the loss.

    Source: Hinton et al. 2015, arXiv:1503.02531 (temperature); Zagoruyko and Komodakis 2017, arXiv:1612.03928, section
    3.1 (attention); Romero et al. 2015, arXiv:1412.6550, section 2.2 (projection).
    """

    temperature: float = 4.0
    alpha: float = 0.5
    epochs: int = 10
    learning_rate: float = 1e-3
    attention: tuple[tuple[str, str], ...] = ()
    features: tuple[tuple[str, str], ...] = ()
    feature_weight: float = 1.0

    def __post_init__(self) -> None:
        check_above_zero("temperature", self.temperature)
        check_share("alpha", self.alpha)
        check_whole("epochs", self.epochs, 1, 100_000)
        check_above_zero("learning_rate", self.learning_rate)
        check_above_zero("feature_weight", self.feature_weight)
        for name in ("attention", "features"):
            object.__setattr__(self, name, text_pairs(name, getattr(self, name)))


# Settings that a structure knows nothing to do with.
_UNUSED = {
    "channel": ("schedule",),
    "block": ("importance", "scope", "align", "schedule"),
    "weight": ("importance", "align"),
}


@dataclass(frozen=True, slots=True)
class Prune:
    """Taking away what matters least.

    Attributes:
        structure: "channel" removes channels for real: the model is narrower afterwards, and faster. "block" removes
            whole residual branches. "weight" sets single weights to zero: the file packs better, the latency stays.
        sparsity: Share to remove, within (0, 1): of the channels that can be pruned, of the blocks, or of the weights.
        macs: Budget instead: share of the multiply-accumulates that the recipe's original model has, within (0, 1).
        parameters: Budget instead: likewise of its parameters.
        size_bytes: Budget instead: bytes of the int8 weights and int32 biases, estimated. One of the four is given.
        importance: What a channel is worth: "l1" or "l2" norm of its kernel, "batchnorm" scale, first-order "taylor"
            expansion of the loss (needs training data), or "hessian", the label-free Hessian (needs samples only).
        scope: "global" ranks the channels of all layers together, "layer" removes the same share everywhere.
        align: Channels that stay are a multiple of this; kernels compute 8 or 16 at a time.
        pattern: For "weight": None, or "2:4", at most 2 of 4 neighbouring input weights stay (`sparsity` is then not
            given).
        schedule: For "weight": how the sparsity gets there, "polynomial" (cubic) or "constant" from the first step on;
            a `pattern` is there from the first step in any case.
        rounds: How often a part is removed, with training after each.
        epochs: Of training after each round. For "weight" of the whole training.
        learning_rate: Of that training, at its start.
        skip: Patterns (`fnmatch`) of layers that keep all their channels, or all their weights.
        layers: Sparsity of layers by pattern, beats `sparsity`. A mapping or pairs.

    Source: Zhu and Gupta 2017, arXiv:1710.01878, section 2 (polynomial schedule); Mishra et al. 2021, arXiv:2104.08378
    (2:4); importance: see `converters.prune.importance`.
    """

    structure: Structure = "channel"
    sparsity: float | None = None
    macs: float | None = None
    parameters: float | None = None
    size_bytes: int | None = None
    importance: Importance = "l2"
    scope: Literal["global", "layer"] = "global"
    align: int = 8
    pattern: str | None = None
    schedule: Literal["polynomial", "constant"] = "polynomial"
    rounds: int = 1
    epochs: int = 0
    learning_rate: float = 1e-3
    skip: tuple[str, ...] = ()
    layers: Pairs = ()

    def __post_init__(self) -> None:
        check_one_of("structure", self.structure, get_args(Structure))
        for name in ("sparsity", "macs", "parameters"):
            if getattr(self, name) is not None:
                check_inside(name, getattr(self, name))
        if self.size_bytes is not None:
            check_whole("size_bytes", self.size_bytes, 1, 1 << 40)
        check_one_of("importance", self.importance, get_args(Importance))
        check_one_of("scope", self.scope, ("global", "layer"))
        check_one_of("schedule", self.schedule, ("polynomial", "constant"))
        check_whole("align", self.align, 1, 1024)
        check_whole("rounds", self.rounds, 1, 1000)
        check_whole("epochs", self.epochs, 0, 100_000)
        check_above_zero("learning_rate", self.learning_rate)
        object.__setattr__(self, "skip", texts("skip", self.skip))
        object.__setattr__(self, "layers", ratios("layers", self.layers))
        usual = Prune.__dataclass_fields__
        for name in _UNUSED[self.structure]:
            if getattr(self, name) != usual[name].default:
                raise RecipeError(
                    f'`{name}` does nothing for structure="{self.structure}".',
                    received=f"{name}={getattr(self, name)!r}",
                    expected="leave it away",
                )
        self._check_goal()

    def _check_goal(self) -> None:
        given = [name for name in ("sparsity", "macs", "parameters", "size_bytes") if getattr(self, name) is not None]
        given += ["layers"] if self.layers and not given else []
        if self.pattern is not None:
            if self.structure != "weight":
                raise RecipeError(
                    "`pattern` is for weights.", received=f'structure="{self.structure}"', expected='structure="weight"'
                )
            kept, block = parse_pattern(self.pattern)
            if given not in ([], ["layers"]):
                raise RecipeError(
                    "A pattern is a sparsity already.",
                    received=f"pattern={self.pattern!r} and {given[0]}",
                    expected=f"pattern alone: {1 - kept / block:.0%} of the weights go",
                )
            return
        if len(given) != 1:
            raise RecipeError(
                "Prune needs one goal.",
                received=" and ".join(given) or "none",
                expected="`sparsity`, `macs`, `parameters` or `size_bytes`, e.g. Prune(macs=0.5)",
            )
        if self.structure == "weight" and given[0] not in ("sparsity", "layers"):
            raise RecipeError(
                "Zeros among the weights save neither multiplications nor parameters.",
                received=f'structure="weight" and {given[0]}',
                expected='`sparsity`, or structure="channel"',
            )
        if self.structure == "weight" and self.rounds != 1:
            raise RecipeError(
                "Weights are pruned along a schedule, not in rounds.",
                received=f"rounds={self.rounds}",
                expected='rounds=1 with schedule="polynomial"',
            )


@dataclass(frozen=True, slots=True)
class Quantize:
    """Quantization: after the training alone, or trained along.

    Attributes:
        scheme: "int8" is full integer: int8 weights and activations, no float op left. "int16x8" has int16 activations,
            "float16" halves the weights, "dynamic" stores int8 weights and computes in float, "float32" changes
            nothing.
        io: Tensors at both ends: "int8", "uint8" or "float32". None takes the target's choice: int8 for scheme
            "int8", float32 for all others, which know no other.
        samples: Calibration samples to use at most. One to 200 made no difference on an easy data set; more cost time
            (measured, see the benchmarks).
        epochs: Of quantization-aware training before; 0 is post-training quantization alone.
        learning_rate: Of that training, at its start.
        ranges: How the range of an activation is chosen from the calibration data: "minmax" keeps every value,
            "percentile" cuts the outermost, "mse" minimizes the squared error.
        equalize: Whether the channels of neighbouring layers are brought to the same range first (Nagel et al. 2019,
            arXiv:1906.04721, section 4.1).
        correct_bias: Whether the mean error that quantized weights cause is taken out of the biases (ibid., 4.2).
        fallback: Layers (patterns) that stay float: pattern -> "float32". A mapping or pairs. Single layers in int16x8
            are beyond TensorFlow's converter, see `converters.quantize.mixed`.
        ending: What is put into the graph behind the model, for readers that want the answer and no scores (MediaPipe
            Tasks wants scores, and reads no file with an ending): "argmax"
            turns a map of class scores (1, height, width, classes) into one of class numbers, (1, height, width) int32;
            "top-k" turns a row of scores into the `top_k` best, scores and classes, behind a softmax where the model
            ends in logits. None leaves the model's own output, which edgeinfer itself reads no slower: of 256x256
            pixels and 21 classes in int8, ARG_MAX took 4 to 5 ms on one x86 core and edgeinfer less than 1 ms; of 1000
            classes both took 10 microseconds and less.
        top_k: How many classes "top-k" answers with.
    """

    scheme: Scheme = "int8"
    io: Io | None = None
    samples: int = 200
    epochs: int = 0
    learning_rate: float = 1e-4
    ranges: Ranges = "minmax"
    equalize: bool = False
    correct_bias: bool = False
    fallback: tuple[tuple[str, str], ...] = ()
    ending: Ending | None = None
    top_k: int = 5

    def __post_init__(self) -> None:
        check_whole("top_k", self.top_k, 1, 1_000)
        if self.ending is not None:
            check_one_of("ending", self.ending, get_args(Ending))
            if self.scheme == "int16x8":
                raise RecipeError(
                    f'The scheme "int16x8" has no kernel for the ending "{self.ending}".',
                    received=f'scheme="int16x8", ending="{self.ending}"',
                    expected='scheme="int8", or no ending',
                    next_step="Leave the ending away: the device ranks the model's own output.",
                )
        check_one_of("scheme", self.scheme, get_args(Scheme))
        if self.io is not None:
            check_one_of("io", self.io, ("int8", "uint8", "float32"))
            if self.scheme != "int8" and self.io != "float32":
                raise RecipeError(
                    f'Scheme "{self.scheme}" keeps floats at both ends.',
                    received=f'io="{self.io}"',
                    expected='io="float32" or None',
                )
        if not (is_whole(self.samples) and 1 <= self.samples <= 1_000_000):
            raise RecipeError("`samples` counts samples.", received=repr(self.samples), expected="1 to 1000000")
        check_whole("epochs", self.epochs, 0, 100_000)
        check_above_zero("learning_rate", self.learning_rate)
        check_one_of("ranges", self.ranges, get_args(Ranges))
        object.__setattr__(self, "fallback", text_pairs("fallback", self.fallback))
        check_fallback(self.fallback)
        for _, kind in self.fallback:
            check_one_of("fallback", kind, get_args(Fallback))
        for name in ("equalize", "correct_bias"):
            if not isinstance(getattr(self, name), bool):
                raise RecipeError(f"`{name}` is yes or no.", received=repr(getattr(self, name)), expected="True, False")
        if self.epochs and self.ranges != "minmax":
            raise RecipeError(
                "Quantization-aware training learns the ranges.",
                received=f"epochs={self.epochs}, ranges={self.ranges!r}",
                expected="one of them",
            )
        if self.fallback and (self.epochs or self.ranges != "minmax"):
            raise RecipeError(
                "TensorFlow's converter quantizes every layer whose range is given, `fallback` or not.",
                received=f"fallback, and epochs={self.epochs}, ranges={self.ranges!r}",
                expected='epochs=0 and ranges="minmax" with `fallback`',
            )
        if self.epochs and self.correct_bias:
            raise RecipeError(
                "Quantization-aware training fits the biases to the rounded weights already.",
                received=f"epochs={self.epochs}, correct_bias=True",
                expected="one of them",
            )
        usual = Quantize.__dataclass_fields__
        for name in ("epochs", "ranges", "equalize", "correct_bias", "fallback"):
            if self.scheme != "int8" and getattr(self, name) != usual[name].default:
                raise RecipeError(
                    f"`{name}` is for full int8.",
                    received=f'scheme="{self.scheme}", {name}={getattr(self, name)!r}',
                    expected='scheme="int8"',
                )

    @property
    def prepared(self) -> bool:
        """Whether the Keras model is changed, or its activations are measured, before the converter sees it."""
        return self.epochs > 0 or self.ranges != "minmax" or self.equalize or self.correct_bias

    def ends(self, usual: Io) -> Io:
        """Return what `io` comes to on a target whose int8 files usually have `usual` at both ends."""
        return self.io or (usual if self.scheme == "int8" else "float32")


@dataclass(frozen=True, slots=True)
class Verify:
    """A gate: the model as it is at this point against the original float one, both in the device's engine.

    Attributes:
        max_drop: Accuracy that may be lost, absolute, 0..1; needs labelled validation data.
        min_agreement: Share of samples on which both models must answer the same class, 0..1. None is 0.9 where there
            is no validation data, and no gate where there is: a pruned model may answer otherwise and as well. Real
            int8 models agree on 95 % and more, a wrongly calibrated one on 10 to 60 %.
        max_error: Difference of the outputs, root mean square over that of the float outputs, 0..1; the gate where
            there are no classes. Outputs that have nothing to do with each other differ by 1 and more.
    """

    max_drop: float = 0.01
    min_agreement: float | None = None
    max_error: float = 0.5

    def __post_init__(self) -> None:
        for name in ("max_drop", "min_agreement", "max_error"):
            if name != "min_agreement" or self.min_agreement is not None:
                check_share(name, getattr(self, name), example=", e.g. 0.01 for one point")

    def needed_agreement(self, *, labelled: bool) -> float:
        """Return the share on which both models must agree; 0 where only the accuracy counts."""
        if self.min_agreement is not None:
            return self.min_agreement
        return 0.0 if labelled else _AGREEMENT


Step = Prune | FineTune | Distill | Quantize | Verify
