"""How errors, interrupts and exit codes reach a person or a program."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator

import pytest

from edgeinfer import errors
from edgeinfer.command import Parser, run_command


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Leave the root logger as it was."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    yield
    root.level, root.handlers[:] = before


def raising(error: BaseException) -> Callable[[], int]:
    def run() -> int:
        raise error

    return run


def test_the_commands_own_code_is_returned() -> None:
    assert run_command(lambda: 3, []) == 3


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError("x"), 2),
        (errors.InputFileError("x"), 2),
        (errors.WrongTaskError("x"), 2),
        (errors.MetadataError("x"), 2),
        (errors.DeviceError("x"), 3),
        (errors.MissingDependencyError("x"), 3),
        (errors.OutputError("x"), 3),
        (errors.DamagedModelError("x"), 4),
        (errors.UnsupportedOpError("x"), 5),
        (PermissionError(13, "Permission denied"), 3),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_every_error_has_its_exit_code(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raising(error), []) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err
    assert "Traceback" not in said.err


def test_an_error_is_told_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(raising(errors.InputError("It is wrong.", received="3", next_step="Take 2.")), [])
    assert capsys.readouterr().err == "InputError: It is wrong.\n  Received: 3\n  Next: Take 2.\n"


def test_under_json_an_error_is_one_object_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.InputError("It is wrong.", received="3", expected="1 or 2", next_step="Take 2.")
    assert run_command(raising(error), ["--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "error": {
            "type": "InputError",
            "message": "It is wrong.",
            "received": "3",
            "expected": "1 or 2",
            "next": "Take 2.",
        }
    }
    assert said.out.count("\n") == 1
    assert said.err == ""
    assert json.loads(said.out) == {"error": error.to_json()}


def test_a_refusal_of_the_system_under_json_is_an_error_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raising(OSError(28, "No space left on device")), ["--json"]) == 3
    found = json.loads(capsys.readouterr().out)["error"]
    assert found["type"] == "OutputError"
    assert "No space left on device" in found["message"]


def test_debug_shows_where_an_error_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raising(errors.InputError("It is wrong.")), ["--debug"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.count("It is wrong.") == 1


def test_an_interrupt_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raising(KeyboardInterrupt()), []) == 130
    assert "Interrupted" in capsys.readouterr().err


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()), [])


def test_a_parsers_complaint_is_an_input_error_with_the_usage() -> None:
    parser = Parser(prog="tool")
    parser.add_argument("--number", type=int)
    with pytest.raises(errors.InputError, match="unrecognized arguments: --colour") as caught:
        parser.parse_args(["--colour"])
    assert "--number NUMBER" in caught.value.expected
    assert caught.value.next_step == "tool --help"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--colr", "red"], "Did you mean `--colour`?"),
        (["--clour=red"], "Did you mean `--colour`?"),
        (["--colour", "rde"], "Did you mean `red`?"),
        (["some-file", "--numbr", "3"], "Did you mean `--number`?"),
    ],
    ids=["option", "option with its value", "choice", "behind a file"],
)
def test_a_misspelt_word_is_answered_with_the_one_that_was_meant(words: list[str], meant: str) -> None:
    parser = Parser(prog="tool")
    parser.add_argument("file", nargs="?")
    parser.add_argument("--number", type=int)
    parser.add_argument("--colour", choices=("red", "blue"))
    with pytest.raises(errors.InputError) as caught:
        parser.parse_args(words)
    assert caught.value.next_step == f"{meant} See tool --help"


def test_a_sub_command_complains_with_its_own_usage() -> None:
    parser = Parser(prog="tool")
    commands = parser.add_subparsers(parser_class=Parser)
    commands.add_parser("paint").add_argument("--colour")
    commands.add_parser("print").add_argument("--pages")
    with pytest.raises(errors.InputError, match="unrecognized arguments: --clour red") as caught:
        parser.parse_args(["paint", "--clour", "red"])
    assert "usage: tool paint" in caught.value.expected
    assert caught.value.next_step == "Did you mean `--colour`? See tool paint --help"
    with pytest.raises(errors.InputError) as caught:
        parser.parse_args(["prnt"])
    assert caught.value.next_step == "Did you mean `print`? See tool --help"


def test_a_misspelt_log_level_is_wrong_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEINFER_LOG_LEVEL", "DEBG")
    assert run_command(lambda: pytest.fail("it ran"), []) == 2
    said = capsys.readouterr().err
    assert 'EDGEINFER_LOG_LEVEL="DEBG"' in said
    assert "Did you mean `debug`?" in said


@pytest.mark.parametrize(
    ("level", "expected"),
    [("DEBUG", logging.DEBUG), ("info", logging.INFO), ("", logging.WARNING)],
)
def test_the_environment_sets_how_much_is_said(level: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINFER_LOG_LEVEL", level)
    run_command(lambda: 0, [])
    assert logging.getLogger("edgeinfer").level == expected
    assert logging.getLogger("PIL").level == logging.NOTSET


def test_a_picture_named_by_bytes_that_are_no_text_can_be_printed(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    def run() -> int:
        sys.stdout.write(b"caf\xe9.jpg\n".decode("utf-8", "surrogateescape"))
        return 0

    before = sys.stdout
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8")
    try:
        assert run_command(run, []) == 0
    finally:
        sys.stdout = before
    assert capfdbinary.readouterr().out == b"caf\\udce9.jpg\n"
