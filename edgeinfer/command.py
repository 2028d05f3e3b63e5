"""What both command lines share: options, and how errors, interrupts and exit codes reach a person or a program."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from edgeinfer.errors import EdgeInferError, InputError, OutputError, close_name
from edgeinfer.model.specs import Filter, ResizeMode

if TYPE_CHECKING:
    from edgeinfer.model.heads import DetectionHead

INTERRUPTED = 130
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class _Talk(logging.Handler):
    """Write log lines to what `sys.stderr` is at that moment: it changes while C libraries are silenced."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        with suppress(OSError):  # a terminal that was closed must not end what goes on
            sys.stderr.write(self.format(record) + "\n")


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose complaints go the way of all errors, so that `--json` holds for them too.

    Misspelt options, commands and choices are answered with what was probably meant.

    Attributes:
        fill: Adds the options when the parser is used for the first time, where it is one of many of which one is used.
    """

    fill: Callable[[Parser], None] | None = None

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """Refuse what is not known at once: of a sub-command its own parser knows the usage, the one above does not.

        Raises:
            InputError: There is an argument that this parser does not know.
        """
        if self.fill is not None:
            fill, self.fill = self.fill, None
            fill(self)
        namespace, unknown = super().parse_known_args(*arguments, **options)
        if unknown:
            option = next((word for word in unknown if word.startswith("-")), "").partition("=")[0]
            known = [name for action in self._actions for name in action.option_strings]
            raise self._complaint(f"unrecognized arguments: {' '.join(unknown)}", close_name(option, known))
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """Raise the complaint instead of exiting.

        Raises:
            InputError: Always.
        """
        import re

        wrong = re.search(r"invalid choice: '([^']*)'", message)
        known = [str(name) for action in self._actions for name in action.choices or ()]
        raise self._complaint(message, close_name(wrong[1], known) if wrong else "")

    def _complaint(self, message: str, meant: str) -> InputError:
        line = f"{self.prog} --help"
        return InputError(
            message,
            expected=" ".join(self.format_usage().split()),
            next_step=f"{meant} See {line}" if meant else line,
        )


def run_command(run: Callable[[], int], arguments: Sequence[str]) -> int:
    """Call `run` and turn whatever it raises into an exit code and a message.

    Args:
        run: The command; returns its exit code.
        arguments: The command line, searched for `--json` and `--debug`: it may be the parser that fails.

    Returns:
        The exit code: the command's own, that of an `EdgeInferError`, 3 for a system's failure, 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A label or a file's name may hold letters that the terminal lacks: better an escape than no answer.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _start_logging()
        with _libraries_silenced(silenced="--debug" not in arguments):
            code = run()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has gone; what is buffered must not be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except EdgeInferError as error:
        return _report(error, arguments)
    except OSError as error:
        if "--debug" in arguments:
            raise
        return _report(OutputError(f"The system refused: {error.strerror or error}", received=str(error)), arguments)


def _start_logging() -> None:
    """Write log lines of both packages on standard error, from the level on that the environment names.

    Raises:
        InputError: There is no such level.
    """
    level = os.environ.get("EDGEINFER_LOG_LEVEL") or "WARNING"
    if level.upper() not in _LEVELS:
        raise InputError(
            "This log level is not known.",
            received=f'EDGEINFER_LOG_LEVEL="{level}"',
            expected=", ".join(one.lower() for one in _LEVELS),
            next_step=close_name(level, [one.lower() for one in _LEVELS]),
        )
    logging.basicConfig(format="%(name)s: %(message)s", handlers=[_Talk()])
    for package in ("edgeinfer", "converters"):  # not the root: Pillow's own lines help nobody
        logging.getLogger(package).setLevel(level.upper())


@contextmanager
def _libraries_silenced(*, silenced: bool) -> Iterator[None]:
    """Keep what C libraries write on standard error off the terminal; Python's own stderr still arrives.

    LiteRT announces its delegate, libjpeg and libpng comment on damaged pictures, and none of them can be asked not to.
    """
    try:
        ours = sys.stderr.fileno() == 2
    except (OSError, ValueError, AttributeError):  # stderr is closed or not a file
        ours = False
    if not (silenced and ours):
        yield
        return
    sys.stderr.flush()
    python_stderr, terminal, nowhere = sys.stderr, os.dup(2), os.open(os.devnull, os.O_WRONLY)
    sys.stderr = os.fdopen(os.dup(terminal), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = python_stderr
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)


def picture_options(parser: argparse._ActionsContainer) -> None:
    """Add what can be said of pictures and classes, where the model file does not say it."""
    parser.add_argument("--labels", type=Path, help="a text file with one label a line (default: the file's own)")
    parser.add_argument(
        "--normalization",
        type=float,
        nargs=2,
        metavar=("MEAN", "STD"),
        help="in pixel units, e.g. 127.5 127.5 for [-1, 1] (default: the model's own)",
    )
    parser.add_argument("--resize", choices=get_args(ResizeMode), help="default: the file's own, else stretch")
    parser.add_argument("--filter", choices=get_args(Filter), help="default: the file's own, else bilinear")


def parse_head(text: str) -> DetectionHead:
    """Return the detection head that an option gives as JSON.

    Raises:
        InputError: It is no JSON, or no object.
        MetadataError: It has keys or values that are not known.
    """
    import json

    from edgeinfer.model.heads import DetectionHead

    try:
        said = json.loads(text)
    except ValueError as error:
        raise InputError("`--head` is not JSON.", received=str(error), expected='{"kind": "yolo", ...}') from error
    if not isinstance(said, dict):
        raise InputError("`--head` is not an object.", received=text, expected='{"kind": "yolo", ...}')
    return DetectionHead.from_json(said)


def talk_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command understands: `--json`, `--quiet`, `--debug`."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress on the terminal")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")


def _report(error: EdgeInferError, arguments: Sequence[str]) -> int:
    # Neither is needed by a command that ends well.
    import json
    import traceback

    if "--debug" in arguments:
        traceback.print_exception(error)
    if "--json" in arguments:
        sys.stdout.write(json.dumps({"error": error.to_json()}) + "\n")
    elif "--debug" not in arguments:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    return error.exit_code
