"""The loop over a recipe: train, quantize, judge, and keep the account."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.account import State, account
from converters.build import Built, Finer, Job, build_plain, build_quantized
from converters.compress import Workshop, advance
from converters.contract import own_inputs
from converters.conversion import Conversion
from converters.data import Calibration, choose
from converters.edgetpu.compiler import Compilation, compile_bytes, find_compiler
from converters.errors import ConversionError, RecipeError
from converters.facts import ModelFacts
from converters.preparation import Samples
from converters.ready import ready_for_int8
from converters.recipe import Quantize, Verify
from converters.report import Account, Report, step_row
from converters.stages import Stage
from converters.tflite.process import ConverterProcess
from converters.verify import Comparison, cautions, compare, judge
from edgeinfer import __version__
from edgeinfer.dataset import Dataset
from edgeinfer.model.metadata import Normalization
from edgeinfer.progress import Progress, ProgressReport

__all__ = ["Judges", "Run"]


_LOOKED_AT = 200
_NOTICED = Verify().max_drop  # what the default gate would have stopped


@dataclass(frozen=True, slots=True, eq=False)
class Judges:
    """What the model is judged by.

    Attributes:
        validation: Decides at the gates; None leaves that to calibration samples that were held out.
        test: Reports, and decides nothing.
        class_offset: See `edgeinfer.dataset.match_classes`.
    """

    validation: Dataset | None
    test: Dataset | None
    class_offset: int | None


class Run:
    """A model on its way through the recipe: what it is now, and what became of it so far.

    Args:
        process: The child, which has loaded the model.
        facts: Of that model.
        job: What all its files are made by.
        judges: Labelled data.
        samples: What calibrates, and what judges without labels.
        say: Called as the work goes on.
    """

    def __init__(
        self,
        process: ConverterProcess,
        facts: ModelFacts,
        job: Job,
        judges: Judges,
        samples: Samples,
        say: ProgressReport,
    ) -> None:
        self._process, self._facts, self._job = process, facts, job
        self._judges, self._samples, self._say = judges, samples, say
        recipe = job.recipe
        # Only who asks for figures pays for them: one more conversion, or one more for every step.
        self._accounts = recipe.needs_keras or judges.test is not None
        self._verifies = any(isinstance(step, Verify) for step in recipe.steps)
        self._workshop: Workshop | None = None
        self._stages: list[Stage] = []
        self._states: list[State] = []
        self._original: Built | None = None  # as float32, what everything is measured against
        self._now: Built | None = None
        self._place = 0  # of the step that is being done
        self._cautions: dict[str, None] = {}  # in their order, each once

    def open(self, workshop: Workshop, stage: Stage) -> None:
        """Take over where the training steps are done.

        Raises:
            ConversionError: The converter cannot read what the steps hand on.
        """
        self._workshop = workshop
        self._facts = self._process.load(stage.path)  # it fails now, and not behind the first training
        self._stages.append(stage)

    def caution(self, sentence: str) -> None:
        """Put a sentence into the report's warnings."""
        self._cautions[sentence] = None

    def through(self) -> Conversion:
        """Do all the steps."""
        recipe = self._job.recipe
        if recipe.quantize.prepared:
            self._calibrated()  # refused now, and not behind the training
        if self._verifies or self._accounts:
            self._say(Progress("convert the float reference", 0, 0))
            self._original = self._now = build_plain(self._process, self._facts, self._job)
        if recipe.trains and self._original is not None:
            self._look_at_labels(self._original.tflite)
        if self._accounts:
            self._note("original", 0.0)
        comparison: Comparison | None = None
        for place, step in enumerate(recipe.steps):
            self._place = place
            if isinstance(step, Verify):
                comparison = comparison or self._compare()
                self._gate(step, comparison)
                continue
            comparison = None
            if isinstance(step, Quantize):
                self._quantize(step, place)
            else:
                self._train(place)
        # A last step that no gate stands behind is measured nevertheless, where a comparison was asked for at all.
        if comparison is None and self._verifies:
            comparison = self._compare()
        return self._result(comparison)

    def _look_at_labels(self, plain: bytes) -> None:
        """Refuse labels that do not fit the model: they shall not cost hours of training first."""
        for data in (self._judges.validation, self._judges.test):
            if data is not None:
                self._say(Progress("look at the labels", 0, 0))
                few, _ = choose(len(data), _LOOKED_AT, self._job.recipe.seed)
                compare(plain, plain, data.take(few), class_offset=self._judges.class_offset)

    def _train(self, place: int) -> None:
        if self._workshop is None:
            return
        stage = advance(self._workshop, place, self._stages)
        self._stages.append(stage)
        self._facts = self._process.load(stage.path)
        self._now = build_plain(self._process, self._facts, self._job)
        self._note(stage.step, stage.seconds, stage.notes)

    def _quantize(self, step: Quantize, place: int) -> None:
        finer, seconds = Finer(fallback=step.fallback), 0.0
        notes: tuple[str, ...] = ()
        plain = self._now
        if self._workshop is not None and step.prepared:
            stage = ready_for_int8(self._workshop, place, self._stages, self.own_samples())
            self._stages.append(stage)
            self._facts = self._process.load(stage.path)
            finer = replace(finer, ranges=stage.ranges)
            notes, seconds = stage.notes, stage.seconds
            plain = build_plain(self._process, self._facts, self._job)
        self._say(Progress(f"convert to {step.scheme}", 0, 0))
        self._now = build_quantized(self._process, self._facts, self._job, finer)
        if self._accounts and plain is not None:
            self._states.append(State(step.scheme, plain.tflite, self._now.tflite, seconds + self._now.seconds, notes))

    def _note(self, step: str, seconds: float, notes: tuple[str, ...] = ()) -> None:
        """Keep the model as it is now for the account: as float, and quantized as plainly as the recipe says."""
        if self._now is not None:
            self._say(Progress(f"convert what `{step}` made", 0, 0))
            quantized = build_quantized(self._process, self._facts, self._job)
            self._states.append(State(step, self._now.tflite, quantized.tflite, seconds, notes))

    def _compare(self) -> Comparison:
        """Measure the model as it is now against the original one, on what chooses."""
        if self._original is None or self._now is None:
            raise ConversionError("There is nothing to compare yet.")  # `Recipe` has seen to the order
        data = self._judges.validation or self._samples.compared or Dataset("no samples", ())
        return compare(
            self._original.tflite,
            self._now.tflite,
            data,
            class_offset=self._judges.class_offset,
            progress=self._say,
        )

    def _gate(self, step: Verify, comparison: Comparison) -> None:
        failed = judge(comparison, step)
        if failed is not None:
            if self._now is not None and self._now.step != self._job.recipe.quantize.scheme:
                failed.next_step = "Prune less, train for more `epochs`, or let this gate out (`max_drop`)."
            failed.conversion = self._result(comparison, kept=False)
            failed.report = failed.conversion.report
            raise failed
        self._cautions.update(dict.fromkeys(cautions(comparison, step)))

    def _calibrated(self) -> Calibration:
        calibration = self._samples.calibration
        if calibration is None or len(calibration.files) != 1:
            raise RecipeError(
                "This kind of quantization needs a model with one input, and calibration data.",
                received=f"{0 if calibration is None else len(calibration.files)} inputs with calibration data",
            )
        return calibration

    def own_samples(self) -> NDArray[Any]:
        """Return the calibration samples as the Keras model takes them: floats, (n, *input shape)."""
        calibration = self._calibrated()
        values: NDArray[Any] = np.load(calibration.files[0])
        if not calibration.pixels:
            return values
        normalization = own_inputs(self._facts, self._job.card)[0].normalization or Normalization(0.0, 1.0)
        floats: NDArray[np.float32] = ((values - normalization.mean) / normalization.std).astype(np.float32)
        return floats

    def _result(self, comparison: Comparison | None, *, kept: bool = True) -> Conversion:
        """Return what came out; one that a gate has refused (`kept=False`) is not compiled any further."""
        now, job = self._now, self._job
        if now is None:
            raise ConversionError("Nothing was made.")  # `Recipe` has seen to one Quantize
        calibration = job.calibration
        warnings = [*(calibration.warnings if calibration else ()), *now.warnings, *self._cautions]
        if comparison is not None and self._judges.validation is None:
            warnings += self._samples.warnings
        now, costs = now.telling(self._made(comparison)), self._account()
        compiled, said = self._compiled(now) if kept else (None, "")
        if compiled is None and said and find_compiler() is not None:
            warnings.append(said)  # it is here, and has failed
        rows = [*([self._original] if self._original is not None and comparison is not None else []), now]
        report = Report(
            model=now.metadata.name,
            target=job.target.name,
            scheme=now.step,
            io=job.recipe.quantize.ends(job.target.io) if now.step != "float32" else "float32",
            rows=tuple(step_row(one.step, one.tflite, one.seconds) for one in rows),
            gates=now.gates,
            comparison=comparison,
            judged_on=self._judged_on(),
            calibration=calibration.to_json() if calibration else {},
            account=costs,
            # What is compiled needs no line that says how to compile it.
            check=now.check if compiled is None or now.check is None else replace(now.check, command=""),
            replaced=now.replaced,
            compiler=said,
            warnings=(*warnings, *_ungated_loss(costs, gated=comparison is not None)),
        )
        return Conversion(now.tflite, now.metadata, job.recipe, report, compiled)

    def _compiled(self, now: Built) -> tuple[Compilation | None, str]:
        """Return the file as Google's compiler makes it, where the target needs that, and what to say of it.

        A compiler that fails does not cost the file that it failed on: hours of training may stand behind that.
        """
        if self._job.target.accelerator != "edgetpu":
            return None, ""
        if find_compiler() is None:
            return None, "Not compiled: the compiler is not installed here."
        self._say(Progress("compile for the Edge TPU", 0, 0))
        try:
            compiled = compile_bytes(now.tflite, name=f"{now.metadata.name or 'model'}.tflite")
        except ConversionError as error:
            parts = (error.message, error.received, error.next_step)
            return None, f"Not compiled: {' '.join(part for part in parts if part)}"
        return compiled, _said_by(compiled)

    def _judged_on(self) -> str:
        if self._judges.validation is not None:
            return "validation data"
        return "held-out calibration samples" if self._samples.held_out else "the calibration samples themselves"

    def _account(self) -> Account | None:
        """Measure every state on data that nobody has chosen by, where there is such data."""
        if not self._states:
            return None
        data, what = self._judges.test, "test data"
        if data is None:
            data, what = self._judges.validation, "validation data, which has also judged: no test data was given"
        if data is None:
            data, what = self._samples.compared, self._judged_on()
        if data is None:
            return None
        entries = account(self._states, data, class_offset=self._judges.class_offset, progress=self._say)
        return Account(what, entries)

    def _made(self, comparison: Comparison | None) -> dict[str, object]:
        """Return how the file was made: nothing that varies from run to run, so that equal work gives equal bytes."""
        calibration = self._job.calibration
        made: dict[str, object] = {
            "recipe": self._job.recipe.to_json(),
            "calibration": calibration.to_json() if calibration else None,
            "versions": {"edgeinfer": __version__, **(self._facts.versions or {})},
        }
        if self._place + 1 < len(self._job.recipe.steps):
            made["steps_done"] = self._place + 1  # a gate has stopped it there
        if comparison is not None:
            made["measured"] = {
                "samples": comparison.samples,
                "engine": comparison.engine,
                "agreement": comparison.agreement,
                "top1_float": comparison.original.top1 if comparison.original else None,
                "top1_quantized": comparison.quantized.top1 if comparison.quantized else None,
                "error": comparison.error,
            }
        return made


def _said_by(compiled: Compilation) -> str:
    log = compiled.log
    agrees = "as predicted" if not compiled.differences else "; ".join(compiled.differences)
    return f"Compiled by version {log.version or 'unknown'}: {log.mapped} of {log.total} ops on the chip, {agrees}."


def _ungated_loss(costs: Account | None, *, gated: bool) -> tuple[str, ...]:
    """Say it where the accuracy went and no gate stands in the recipe that would have stopped it."""
    if costs is None or gated:
        return ()
    last = costs.entries[-1].quantized
    if last.drop_interval is None or last.drop is None or last.drop_interval[0] <= _NOTICED:
        return ()
    return (f"The result lost {100 * last.drop:.2f} points on {costs.measured_on}, and the recipe has no Verify.",)
