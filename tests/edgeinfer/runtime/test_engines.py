"""Which engine is chosen, what its installation line is, and what its complaints become."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pytest
import tiny_models

from edgeinfer.errors import DamagedModelError, InputError, MissingDependencyError, UnsupportedOpError
from edgeinfer.runtime import engines
from edgeinfer.runtime.engines import (
    Engine,
    engine_error,
    find_engine,
    install_line,
    installed_engines,
    open_interpreter,
)

pytestmark = pytest.mark.device

MODULES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime", "tensorflow": "tensorflow"}
Install = Callable[..., None]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make it look as if just these engines were installed."""

    def install(*names: str) -> None:
        present = {MODULES[name] for name in names}
        monkeypatch.setattr(
            engines, "find_spec", lambda module: ModuleSpec(module, None) if module in present else None
        )

    return install


def test_the_version_is_the_one_that_the_package_index_knows() -> None:
    distributions = {"litert": "ai-edge-litert", "tflite-runtime": "tflite-runtime", "tensorflow": "tensorflow"}
    for engine in installed_engines():
        assert engine.version == importlib.metadata.version(distributions[engine.name])


def test_an_engine_without_a_folder_of_its_own_has_an_unknown_version(only: Install) -> None:
    only("tflite-runtime" if find_spec("tflite_runtime") is None else "tensorflow")
    assert find_engine().version == "unknown"


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        (("tensorflow", "tflite-runtime", "litert"), "litert"),
        (("tensorflow", "tflite-runtime"), "tflite-runtime"),
        (("tensorflow",), "tensorflow"),
    ],
)
def test_the_best_engine_that_is_installed_is_chosen(only: Install, present: tuple[str, ...], chosen: str) -> None:
    only(*present)
    assert find_engine().name == chosen
    assert installed_engines()[0].name == chosen
    assert len(installed_engines()) == len(present)


def test_the_environment_chooses_before_the_order(only: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    only("litert", "tensorflow")
    monkeypatch.setenv("EDGEINFER_ENGINE", "tensorflow")
    assert find_engine().name == "tensorflow"


def test_the_argument_chooses_before_the_environment(only: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    only("litert", "tensorflow")
    monkeypatch.setenv("EDGEINFER_ENGINE", "tensorflow")
    assert find_engine("litert").name == "litert"


def test_an_empty_variable_chooses_nothing(only: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    only("litert", "tensorflow")
    monkeypatch.setenv("EDGEINFER_ENGINE", "")
    assert find_engine().name == "litert"


def test_no_engine_at_all_names_the_line_to_type(only: Install) -> None:
    only()
    with pytest.raises(MissingDependencyError, match="No engine") as caught:
        find_engine()
    assert caught.value.next_step.startswith("pip install ")


def test_an_engine_that_is_not_installed_is_not_replaced(only: Install) -> None:
    only("litert")
    with pytest.raises(MissingDependencyError, match="`tensorflow` is not installed") as caught:
        find_engine("tensorflow")
    assert caught.value.next_step == "pip install tensorflow"


def test_an_unknown_engine_is_wrong_input_and_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="not known") as caught:
        find_engine("onnx")
    assert caught.value.received == '"onnx"'
    assert caught.value.expected == "litert, tflite-runtime, tensorflow"
    assert caught.value.next_step == ""


def test_a_misspelt_engine_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(InputError) as caught:
        find_engine("LiteRt")
    assert caught.value.next_step == "Did you mean `litert`?"


def test_a_misspelt_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINFER_ENGINE", "tensorflw")
    with pytest.raises(InputError) as caught:
        find_engine()
    assert caught.value.received == 'EDGEINFER_ENGINE="tensorflw"'
    assert caught.value.next_step == "Did you mean `tensorflow`?"


def test_the_version_is_that_of_the_installed_package() -> None:
    distributions = {"litert": "ai-edge-litert", "tflite-runtime": "tflite-runtime", "tensorflow": "tensorflow"}
    for engine in installed_engines():
        assert engine.version == version(distributions[engine.name])


def test_only_tflite_runtime_leaves_files_unverified(only: Install) -> None:
    only("litert", "tflite-runtime", "tensorflow")
    assert {engine.name: engine.verifies for engine in installed_engines()} == {
        "litert": True,
        "tflite-runtime": False,
        "tensorflow": True,
    }


def test_a_32_bit_machine_is_offered_tflite_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    monkeypatch.setattr(sys, "version_info", (3, 11, 2))
    assert install_line() == "pip install 'tflite-runtime==2.14.0' 'numpy<2'"


def test_a_32_bit_machine_with_a_new_python_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    monkeypatch.setattr(sys, "version_info", (3, 13, 1))
    assert "no wheel after Python 3.11" in install_line()


def test_a_64_bit_machine_is_offered_litert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "maxsize", 2**63 - 1)
    assert install_line() == "pip install ai-edge-litert"


def test_tflite_runtime_beside_numpy_2_is_a_missing_dependency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "__version__", "2.1.0")
    with pytest.raises(MissingDependencyError, match="NumPy 2") as caught:
        open_interpreter(Engine("tflite-runtime", "2.14.0", verifies=False), tiny_models.classifier())
    assert "'numpy<2'" in caught.value.next_step


def test_an_engine_that_cannot_be_imported_is_a_missing_dependency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingDependencyError, match="cannot be imported") as caught:
        open_interpreter(Engine("litert", "2.3.0", verifies=True), tiny_models.classifier())
    assert caught.value.next_step == "pip install ai-edge-litert"


# What TFLite 2.14 and LiteRT 2.3 say, word for word.
def test_an_op_version_in_the_engines_words_becomes_an_unsupported_op() -> None:
    said = (
        "Didn't find op for builtin opcode 'FULLY_CONNECTED' version '12'. An older version of this builtin might be "
        "supported. Are you using an old TFLite binary with a newer model?\nRegistration failed.\n"
    )
    error = engine_error(said, Engine("tflite-runtime", "2.14.0", verifies=False))
    assert isinstance(error, UnsupportedOpError)
    assert error.message == "tflite-runtime 2.14.0 cannot run FULLY_CONNECTED in version 12."


@pytest.mark.parametrize("name", ["edgetpu-custom-op", "TFLite_Detection_PostProcess"])
def test_a_custom_op_in_the_engines_words_becomes_an_unsupported_op(name: str) -> None:
    said = f"Encountered unresolved custom op: {name}.\nSee instructions: https://www.tensorflow.org/lite\n"
    error = engine_error(said, Engine("litert", "2.3.0", verifies=True))
    assert isinstance(error, UnsupportedOpError)
    assert f"custom op `{name}`" in error.message


def test_any_other_words_become_a_damaged_model() -> None:
    error = engine_error("Model provided has model identifier 'abcd'", Engine("litert", "2.3.0", verifies=True))
    assert isinstance(error, DamagedModelError)
    assert error.received == "Model provided has model identifier 'abcd'"


@pytest.mark.parametrize("engine", installed_engines(), ids=lambda engine: engine.name)
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_every_installed_engine_loads_and_runs(engine: Engine) -> None:
    interpreter = open_interpreter(engine, tiny_models.dense(), threads=1)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.tensor(index)()[...] = 1.0
    interpreter.invoke()
    # Output k is (k + 1) times the sum of six ones.
    assert interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).tolist() == [[6.0, 12.0]]


@pytest.mark.parametrize("engine", installed_engines(), ids=lambda engine: engine.name)
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_every_installed_engine_runs_without_its_delegates(engine: Engine) -> None:
    interpreter = open_interpreter(engine, tiny_models.classifier(), default_delegates=False)
    interpreter.invoke()


@pytest.mark.parametrize("engine", installed_engines(), ids=lambda engine: engine.name)
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_every_installed_engine_names_a_version_that_it_lacks(engine: Engine) -> None:
    tensors = [tiny_models.TensorSpec("a", (1, 2)), tiny_models.TensorSpec("b", (1, 2))]
    operators = [tiny_models.OperatorSpec(tiny_models.LOGISTIC, (0,), (1,), version=99)]
    data = tiny_models.model(tensors, operators, inputs=[0], outputs=[1])
    with pytest.raises(UnsupportedOpError, match="LOGISTIC in version 99"):
        open_interpreter(engine, data)


@pytest.mark.parametrize("engine", installed_engines(), ids=lambda engine: engine.name)
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_every_installed_engine_names_a_custom_op(engine: Engine) -> None:
    tensors = [tiny_models.TensorSpec("a", (1, 2)), tiny_models.TensorSpec("b", (1, 2))]
    operators = [tiny_models.OperatorSpec(tiny_models.CUSTOM, (0,), (1,), custom_code="MyOp")]
    data = tiny_models.model(tensors, operators, inputs=[0], outputs=[1])
    with pytest.raises(UnsupportedOpError, match="custom op `MyOp`"):
        open_interpreter(engine, data)
