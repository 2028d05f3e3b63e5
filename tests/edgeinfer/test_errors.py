"""The error tree: exit codes, builtins, parts, and the way across a process border."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from edgeinfer import errors

# Class, what it is too, exit code: the table of the public interface.
TREE = [
    (errors.EdgeInferError, Exception, 3),
    (errors.ModelError, ValueError, 2),
    (errors.DamagedModelError, errors.ModelError, 4),
    (errors.UnsupportedOpError, errors.ModelError, 5),
    (errors.WrongTaskError, errors.ModelError, 2),
    (errors.MetadataError, errors.ModelError, 2),
    (errors.InputError, ValueError, 2),
    (errors.InputFileError, errors.InputError, 2),
    (errors.InputFileError, FileNotFoundError, 2),
    (errors.DeviceError, RuntimeError, 3),
    (errors.MissingDependencyError, ImportError, 3),
    (errors.OutputError, OSError, 3),
    (errors.DownloadError, OSError, 3),
]
CLASSES = sorted({kind for kind, _, _ in TREE}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize(("kind", "builtin", "code"), TREE, ids=lambda value: getattr(value, "__name__", str(value)))
def test_each_class_is_the_builtin_it_resembles_and_has_its_exit_code(
    kind: type[errors.EdgeInferError], builtin: type[Exception], code: int
) -> None:
    assert issubclass(kind, errors.EdgeInferError)
    assert issubclass(kind, builtin)
    assert kind.exit_code == code


def test_the_tree_holds_no_other_class() -> None:
    assert set(CLASSES) == {
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
    }


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_parts_stay_apart_and_are_joined_one_a_line(kind: type[errors.EdgeInferError]) -> None:
    error = kind("It is wrong.", received="3", expected="1 or 2", next_step="Take 2.")
    assert (error.message, error.received, error.expected, error.next_step) == (
        "It is wrong.",
        "3",
        "1 or 2",
        "Take 2.",
    )
    assert str(error) == "It is wrong.\n  Received: 3\n  Expected: 1 or 2\n  Next: Take 2."


def test_parts_that_are_not_given_are_not_printed() -> None:
    assert str(errors.InputError("It is wrong.")) == "It is wrong."
    assert str(errors.InputError("It is wrong.", expected="1")) == "It is wrong.\n  Expected: 1"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_pickling_keeps_the_class_and_the_parts(kind: type[errors.EdgeInferError]) -> None:
    error = kind("It is wrong.", received="3", expected="1 or 2", next_step="Take 2.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert copy.args == error.args


def test_a_missing_file_is_caught_by_those_who_do_not_know_us() -> None:
    with pytest.raises(FileNotFoundError, match=r"not there"):
        raise errors.InputFileError("It is not there.")
    with pytest.raises(ValueError, match=r"not there"):
        raise errors.InputFileError("It is not there.")


def test_an_error_says_its_kind_and_parts_as_json() -> None:
    error = errors.InputFileError("Gone.", received="`a`", expected="`b`", next_step="look")
    assert error.to_json() == {
        "type": "InputFileError",
        "message": "Gone.",
        "received": "`a`",
        "expected": "`b`",
        "next": "look",
    }


def test_a_close_name_is_asked_for_and_a_far_one_is_not() -> None:
    assert errors.close_name("Tensorflw", ["litert", "tensorflow"]) == "Did you mean `tensorflow`?"
    assert errors.close_name("onnx", ["litert", "tensorflow"]) == ""
    assert errors.close_name("", ["litert"]) == ""


def test_what_is_wrong_with_a_model_gets_the_files_name_once() -> None:
    path = Path("folder/birds.tflite")
    with pytest.raises(errors.DamagedModelError, match=r"^`birds\.tflite`: It is cut\.") as caught, errors.naming(path):
        raise errors.DamagedModelError("It is cut.", received="3 bytes")
    assert caught.value.received == "3 bytes"
    with pytest.raises(errors.DamagedModelError, match=r"^`birds\.tflite` is cut\.$"), errors.naming(path):
        raise errors.DamagedModelError("`birds.tflite` is cut.")
    with pytest.raises(errors.DamagedModelError, match=r"^It is cut\.$"), errors.naming(None):
        raise errors.DamagedModelError("It is cut.")
    with pytest.raises(errors.InputError, match=r"^Another matter\.$"), errors.naming(path):
        raise errors.InputError("Another matter.")


def test_an_error_can_be_named_and_stays_what_it_is() -> None:
    named = errors.InputFileError("Gone.", received="`a`", next_step="look").named("`x.jpg` of photos")
    assert isinstance(named, errors.InputFileError)
    assert (named.message, named.received, named.next_step) == ("`x.jpg` of photos: Gone.", "`a`", "look")
