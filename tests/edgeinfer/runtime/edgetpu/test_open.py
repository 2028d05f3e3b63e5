"""A compiled file and its twin: what must agree, what the twin adds, and what is said where no device opens."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from edgetpu_standin import Pair, edgetpu_pair, payload
from tiny_models import CUSTOM, OperatorSpec, TensorSpec

from edgeinfer.errors import (
    DamagedModelError,
    DeviceError,
    EdgeInferError,
    InputError,
    MetadataError,
    MissingDependencyError,
    ModelError,
)
from edgeinfer.model.ops import BUILTINS
from edgeinfer.model.schema import parse
from edgeinfer.runtime.edgetpu.open import _keeps_state
from edgeinfer.runtime.edgetpu.settings import EdgeTpuOptions
from edgeinfer.runtime.runtime import Runtime
from edgeinfer.tasks import classifier, load, segmenter

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return edgetpu_pair(tmp_path_factory.mktemp("pair"))


def open_it(standin: Path, compiled: Path | bytes, twin: Path | bytes | None = None, **options: object) -> Runtime:
    return Runtime(
        compiled,
        device="edgetpu",
        threads=1,
        fallback=twin,
        edgetpu=EdgeTpuOptions(library=str(standin), **options),  # type: ignore[arg-type]
    )


def answer(runtime: Runtime) -> list[float]:
    found = next(iter(runtime(np.full((8, 8, 3), 0.2, np.float32)).values()))
    return np.round(found.astype(float), 3).ravel().tolist()  # type: ignore[no-any-return]


def compiled(inputs: list[TensorSpec], outputs: list[TensorSpec], what: str = "pattern") -> bytes:
    """A file with one compiled op, which is what it is."""
    tensors = [*inputs, *outputs]
    one = OperatorSpec(
        CUSTOM,
        tuple(range(len(inputs))),
        tuple(range(len(inputs), len(tensors))),
        custom_code="edgetpu-custom-op",
        custom_options=payload(what),
    )
    return tiny_models.model(tensors, [one], inputs=one.inputs, outputs=one.outputs)


# --- the files ------------------------------------------------------------------------------------


def test_a_path_and_bytes_are_the_same_model(standin: Path, pair: Pair) -> None:
    with open_it(standin, pair.compiled.read_bytes(), pair.twin.read_bytes()) as runtime:
        assert answer(runtime) == [0.2] * 3
        assert runtime.path is None


def test_a_library_may_be_named_relative_to_the_current_folder(
    standin: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(standin.parent)
    with Runtime(pair.compiled, device="edgetpu", edgetpu=EdgeTpuOptions(library=f"./{standin.name}")) as runtime:
        assert answer(runtime) == [0.2] * 3


def test_the_environment_names_the_library(standin: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINFER_EDGETPU_LIBRARY", str(standin))
    with Runtime(pair.compiled, device="edgetpu") as runtime:
        assert answer(runtime) == [0.2] * 3


def test_a_file_that_is_mapped_in_part_runs_too(standin: Path, tmp_path: Path) -> None:
    partly = edgetpu_pair(tmp_path, tail=True)
    with open_it(standin, partly.compiled, partly.twin) as runtime:
        assert answer(runtime) == [0.2] * 3
        assert runtime.faults.failures == 0


def test_a_twin_that_is_compiled_itself_is_refused(standin: Path, pair: Pair) -> None:
    with pytest.raises(InputError, match="itself compiled"):
        open_it(standin, pair.compiled, pair.compiled)


def test_a_twin_that_is_not_there_is_named(standin: Path, pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_it(standin, pair.compiled, tmp_path / "none.tflite")


@pytest.mark.parametrize(
    ("other", "received"),
    [
        ({"shape": (1, 8, 9, 3)}, "int8 (1, 8, 9, 3)"),
        ({"dtype": "uint8"}, "uint8 (1, 8, 8, 3)"),
        ({"what": "copy"}, "int8 (1, 8, 8, 3)"),
    ],
    ids=["shape", "dtype", "output"],
)
def test_a_twin_with_other_tensors_is_refused(
    standin: Path, pair: Pair, tmp_path: Path, other: dict[str, object], received: str
) -> None:
    twin = edgetpu_pair(tmp_path, **other).twin  # type: ignore[arg-type]
    with pytest.raises(MetadataError, match=f"^`{twin.name}`: The CPU twin has other") as caught:
        open_it(standin, pair.compiled, twin)
    assert received in caught.value.received


def test_a_twin_with_another_quantization_is_refused(standin: Path, pair: Pair) -> None:
    twin = tiny_models.classifier(size=(8, 8), classes=3, activation="none", input_range=(-1.0, 1.0))
    with pytest.raises(MetadataError) as caught:
        open_it(standin, pair.compiled, twin)
    assert "scale 0.00392157, zero point -128" in caught.value.expected
    assert "scale 0.00784314, zero point 0" in caught.value.received


def test_another_number_of_outputs_is_refused(standin: Path) -> None:
    one, two = (TensorSpec(name, (1, 4), "uint8", 1 / 255, 0) for name in ("one", "two"))
    reshape = OperatorSpec(tiny_models.LOGISTIC, (0,), (1,), version=1)
    twin = tiny_models.model([one, two], [reshape], inputs=[0], outputs=[1])
    with pytest.raises(MetadataError, match="other outputs"):
        open_it(standin, compiled([one], [two, TensorSpec("more", (1, 4), "uint8", 1 / 255, 0)]), twin)


def test_tensors_in_another_order_are_found_by_name(standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_DEVICES", "")  # so that the twin answers
    names = ("left", "right", "small", "great")
    left, right, small, great = (TensorSpec(name, (1, 2), "uint8", 1 / 255, 0) for name in names)
    reshape = {0: tiny_models.Vector("i", (1, 2))}
    shape = TensorSpec("shape", (2,), "int32", values=[1, 2])
    twin = tiny_models.model(
        [left, right, small, great, shape],
        [
            OperatorSpec(tiny_models.RESHAPE, (0, 4), (2,), 17, reshape),
            OperatorSpec(tiny_models.RESHAPE, (1, 4), (3,), 17, reshape),
        ],
        inputs=[0, 1],
        outputs=[2, 3],
    )
    with open_it(standin, compiled([right, left], [great, small]), twin) as runtime:
        assert [spec.name for spec in runtime.inputs] == ["right", "left"]
        found = runtime(np.full((1, 2), 0.2, np.float32), np.full((1, 2), 0.8, np.float32))
    assert {name: round(float(values[0, 0]), 2) for name, values in found.items()} == {"great": 0.2, "small": 0.8}


# --- what the twin says ---------------------------------------------------------------------------


def test_the_twin_says_what_the_compiled_file_no_longer_does(standin: Path, tmp_path: Path) -> None:
    twin = tiny_models.classifier(dtype="uint8", labels=["red", "green", "blue", "dark"], normalization=(0.0, 255.0))
    image = TensorSpec("image", (1, 8, 8, 3), "uint8", 1 / 255, 0)
    row = TensorSpec("answer", (1, 4), "uint8", 1 / 256, 0)
    with open_it(standin, compiled([image], [row]), twin, restarts=0) as runtime:
        (spec,) = runtime.outputs
        assert (runtime.metadata.task, spec.activation, spec.labels[0]) == ("classification", "softmax", "red")
        assert runtime.input.normalization is not None
        # The stand-in's pattern is no classifier's answer: the check finds it, and the twin is right.
        assert runtime.on_fallback
        red = np.zeros((8, 8, 3), np.uint8)
        red[..., 0] = 255
        assert classifier(runtime)(red).label == "red"


def test_a_classifier_answers_through_the_device(standin: Path, tmp_path: Path) -> None:
    made = edgetpu_pair(tmp_path, labels=["red", "green", "blue"])
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[..., 1] = 200
    with open_it(standin, made.compiled) as runtime:
        assert classifier(runtime)(picture).label == "green"


def with_state(*, keeps: bool) -> tuple[bytes, bytes]:
    """A compiled file that copies its input, and its twin; with `keeps`, a tensor of the twin's is a variable."""
    given, made = (TensorSpec(name, (1, 4), "uint8", 1 / 255, 0) for name in ("image", "answer"))
    shape = TensorSpec("shape", (2,), "int32", values=[1, 4])
    state = TensorSpec("state", (1, 4), is_variable=keeps)
    reshape = OperatorSpec(tiny_models.RESHAPE, (0, 2), (1,), 17, {0: tiny_models.Vector("i", (1, 4))})
    twin = tiny_models.model([given, made, shape, state], [reshape], inputs=[0], outputs=[1])
    return compiled([given], [made], "copy"), twin


@pytest.mark.parametrize(("keeps", "checks"), [(True, 0), (False, 4)], ids=["state", "none"])
def test_a_model_that_keeps_something_between_frames_is_not_checked(
    standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps: bool, checks: int
) -> None:
    monkeypatch.setenv("STANDIN_COUNT", str(tmp_path / "count"))
    device, twin = with_state(keeps=keeps)
    with open_it(standin, device, twin, check_every=1) as runtime:
        for _ in range(3):
            runtime(np.zeros((1, 4), np.float32))
        assert runtime.faults.checks == checks
    assert (tmp_path / "count").stat().st_size == 3 + checks  # runs of the device


@pytest.mark.parametrize("op", ["CALL_ONCE", "VAR_HANDLE", "UNIDIRECTIONAL_SEQUENCE_LSTM"])
def test_ops_that_keep_something_outside_of_the_tensors_are_known(op: str) -> None:
    code = next(number for number, (name, *_) in enumerate(BUILTINS) if name == op)
    one = TensorSpec("one", (1, 4))
    assert _keeps_state(parse(tiny_models.model([one, one], [OperatorSpec(code, (0,), (1,))], inputs=[0], outputs=[1])))
    plain = OperatorSpec(tiny_models.LOGISTIC, (0,), (1,))
    assert not _keeps_state(parse(tiny_models.model([one, one], [plain], inputs=[0], outputs=[1])))


@pytest.mark.parametrize(("plan", "says"), [("fail@2", "was started again"), ("fail@2+", "answers from now on")])
def test_what_was_kept_is_said_to_be_lost_with_the_process(
    standin: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    plan: str,
    says: str,
) -> None:
    monkeypatch.setenv("STANDIN_COUNT", str(tmp_path / "count"))
    monkeypatch.setenv("STANDIN_INVOKE", plan)
    device, twin = with_state(keeps=True)
    with open_it(standin, device, twin, restarts=1 if plan == "fail@2" else 0) as runtime:
        for _ in range(3):
            runtime(np.zeros((1, 4), np.float32))
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert says in warning
    assert "what the model kept from earlier frames is lost" in warning


def test_a_device_that_no_input_can_show_to_be_broken_is_said_to_be_unchecked(
    standin: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Whole numbers may be indices, so all that such an input can be given is zeros; and zeros it answers.
    given, made = (TensorSpec(name, (1, 4), "int32") for name in ("image", "answer"))
    shape = TensorSpec("shape", (2,), "int32", values=[1, 4])
    reshape = OperatorSpec(tiny_models.RESHAPE, (0, 2), (1,), 17, {0: tiny_models.Vector("i", (1, 4))})
    twin = tiny_models.model([given, made, shape], [reshape], inputs=[0], outputs=[1])
    with open_it(standin, compiled([given], [made], "copy"), twin, check_every=1) as runtime:
        runtime.invoke()
        assert (runtime.faults.checks, runtime.on_fallback) == (0, False)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "no input was found on which a broken device would answer otherwise" in warning


# --- what is let go of ----------------------------------------------------------------------------


def children() -> set[int]:
    """The processes that this one has started and that are still there."""
    found = set()
    for thread in Path("/proc/self/task").iterdir():
        found |= {int(one) for one in (thread / "children").read_text().split()}
    return found


def test_a_constructor_that_refuses_leaves_no_process_while_its_error_is_kept(
    standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEINFER_EDGETPU_LIBRARY", str(standin))
    image = TensorSpec("image", (1, 8, 8, 3), "int8", 1 / 255, -128)
    (tmp_path / "m_edgetpu.tflite").write_bytes(compiled([image], [TensorSpec("a", (1, 3), "int8", 1 / 255, -128)]))
    before = children()
    kept = []
    for construct in (classifier, segmenter, load):
        with pytest.raises(ModelError) as caught:
            construct(tmp_path / "m_edgetpu.tflite", device="edgetpu")
        kept.append(caught.value)
    assert children() == before
    assert kept[0].__traceback__ is not None


def test_a_runtime_that_was_handed_over_stays_open_where_a_constructor_refuses(standin: Path, pair: Pair) -> None:
    with open_it(standin, pair.compiled) as runtime:
        with pytest.raises(ModelError):
            segmenter(runtime)
        assert answer(runtime) == [0.2] * 3


def test_a_file_that_changes_while_it_is_loaded_leaves_no_process(
    standin: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = iter([(1,), (2,)])
    monkeypatch.setattr("edgeinfer.runtime.runtime._stamp", lambda _: next(stamps))
    before = children()
    with pytest.raises(DamagedModelError, match="changed while it was loaded") as caught:
        open_it(standin, pair.compiled)
    assert children() == before
    assert caught.value.__traceback__ is not None


@pytest.mark.parametrize("isolate", [True, False])
def test_a_twin_that_does_not_run_leaves_no_device_open(
    standin: Path, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolate: bool
) -> None:
    def fail(_: object) -> None:
        raise DeviceError("The CPU twin does not run.")

    monkeypatch.setattr("edgeinfer.runtime.edgetpu.twin.Twin.known_input", fail)
    monkeypatch.setenv("STANDIN_LOG", str(tmp_path / "log"))
    before = children()
    with pytest.raises(DeviceError, match="twin does not run") as caught:
        open_it(standin, pair.compiled, pair.twin, isolate=isolate)
    said = (tmp_path / "log").read_text()
    assert said.count("create") == said.count("destroy") > 0
    assert children() == before
    assert caught.value.__traceback__ is not None


@pytest.mark.parametrize("what", ["fallback", "edgetpu"])
def test_what_is_no_file_and_no_options_is_refused_by_name(standin: Path, pair: Pair, what: str) -> None:
    with pytest.raises(InputError, match=f"^`{pair.compiled.name}`: `{what}`|^`{what}`") as caught:
        Runtime(pair.compiled, device="edgetpu", **{what: 5})  # type: ignore[arg-type]
    assert caught.value.received == "5"


# --- no device ------------------------------------------------------------------------------------


def test_without_a_device_the_cause_is_said(standin: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_DEVICES", "")
    with pytest.raises(DeviceError, match="No Edge TPU is attached"):
        open_it(standin, pair.compiled)


def test_without_the_library_the_line_that_installs_it_is_said(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError):
        open_it(tmp_path / "libedgetpu.so.1", pair.compiled)


@pytest.mark.parametrize("how", ["segv", "abort", "exit"])
def test_a_library_that_ends_its_process_while_it_loads_does_not_end_this_one(
    standin: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("STANDIN_CREATE", how)
    with pytest.raises(DeviceError, match="while it opened the device"):
        open_it(standin, pair.compiled)
    with open_it(standin, pair.compiled, pair.twin) as runtime:
        assert answer(runtime) == [0.2] * 3
        assert runtime.on_fallback


def test_in_this_process_a_crash_is_found_before_it_happens_here(
    standin: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_PREPARE", "abort")
    with pytest.raises(DeviceError, match="while it loaded the model"):
        open_it(standin, pair.compiled, isolate=False)


IDLE = """
#include <stdlib.h>
typedef struct Delegate Delegate;
struct Delegate { void *data; int (*Prepare)(void *, Delegate *); void *copy[3]; long flags; void *own; };
static int prepare(void *context, Delegate *delegate) { return 0; }
Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  Delegate *delegate = calloc(1, sizeof *delegate);
  delegate->Prepare = prepare;
  return delegate;
}
void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
"""


def test_a_delegate_that_takes_no_part_of_the_model_is_refused(standin: Path, pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "idle.c").write_text(IDLE)
    library = tmp_path / "idle.so"
    compiler = shutil.which("gcc") or "cc"  # `standin` has found one of them
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "idle.c"], check=True, timeout=120)
    with pytest.raises(DeviceError, match="does not take what was compiled for an Edge TPU"):
        open_it(library, pair.compiled)


# --- several --------------------------------------------------------------------------------------


def test_two_models_run_on_two_devices_at_once(standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_DEVICES", "usb:/sys/bus/usb/devices/2-1,usb:/sys/bus/usb/devices/2-2")
    monkeypatch.setenv("STANDIN_LOG", str(tmp_path / "log"))
    options = EdgeTpuOptions(library=str(standin))
    three, five = (edgetpu_pair(tmp_path, what=what, shape=(1, 4)).compiled for what in ("add:51", "add:102"))
    with (
        Runtime(three, device="edgetpu:0", edgetpu=options) as first,
        Runtime(five, device="edgetpu:1", edgetpu=options) as second,
    ):
        zeros = np.zeros((1, 4), np.float32)
        for _ in range(3):
            assert first(zeros)["answer"].astype(float).round(3).tolist() == [[0.2] * 4]
            assert second(zeros)["answer"].astype(float).round(3).tolist() == [[0.4] * 4]
    said = (tmp_path / "log").read_text()
    assert "create /sys/bus/usb/devices/2-1" in said
    assert "create /sys/bus/usb/devices/2-2" in said


def test_a_device_that_fails_does_not_touch_its_neighbour(
    standin: Path, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "devices"
    listed.write_text("usb:/sys/bus/usb/devices/2-1,pci:/dev/apex_0")
    monkeypatch.setenv("STANDIN_DEVICES", f"@{listed}")
    options = EdgeTpuOptions(library=str(standin), restarts=0)
    with (
        Runtime(pair.compiled, device="edgetpu:usb", edgetpu=options) as first,
        Runtime(pair.compiled, device="edgetpu:pci", edgetpu=options) as second,
    ):
        listed.write_text("pci:/dev/apex_0")
        with pytest.raises(DeviceError, match="`edgetpu:usb` is not there any more"):
            answer(first)
        assert answer(second) == [0.2] * 3


# --- real files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v1_0.25_128_quant",
        "deeplabv3_mnv2_dm05_pascal_quant",
        "movenet_single_pose_lightning_ptq",
        "keras_lstm_mnist_ptq",
    ],
)
def test_published_files_have_the_tensors_of_their_twins(standin: Path, test_data: Path, name: str) -> None:
    folder = test_data / "coral"
    try:
        with open_it(standin, folder / f"{name}_edgetpu.tflite", folder / f"{name}.tflite", restarts=0) as runtime:
            # The stand-in's pattern is found out where the model can be checked. A run of DeepLab takes seconds in
            # tflite-runtime on x86, and there the search ends first.
            if name != "deeplabv3_mnv2_dm05_pascal_quant" or runtime.engine.name == "litert":
                found_out = ("mobilenet_v1_0.25_128_quant", "deeplabv3_mnv2_dm05_pascal_quant")
                assert runtime.on_fallback is (name in found_out)
            runtime.invoke()
    except EdgeInferError as error:
        pytest.fail(str(error))
