"""The real compiler is closed and exists for x86-64 Linux with Coral's repository only.

What runs here is a script of the same name that stands in for it: a real process on PATH that takes the same options,
prints what real logs say (`test_log.py` has their origin), and writes the file that it was told to write.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from pathlib import Path

import pytest
import tiny_compiled
import tiny_models

from converters.edgetpu import compiler
from converters.edgetpu.compiler import compile_bytes, compile_file, compiler_command, find_compiler
from converters.errors import ConversionError
from edgeinfer.errors import DamagedModelError, InputError, InputFileError, MissingDependencyError
from edgeinfer.model.payload import is_compiled
from edgeinfer.model.schema import parse

MODEL = tiny_models.classifier()
GOOD = """\
Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 35 ms.

Input model: ./birds.tflite
Input size: 1.50KiB
Output model: birds_edgetpu.tflite
Output size: 5.50KiB
On-chip memory used for caching model parameters: 4.00KiB
On-chip memory remaining for caching model parameters: 7.94MiB
Off-chip memory used for streaming uncached model parameters: 64.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 3
Operation log: birds_edgetpu.log

Operator                       Count      Status

MEAN                           1          Mapped to Edge TPU
FULLY_CONNECTED                1          Mapped to Edge TPU
SOFTMAX                        1          Mapped to Edge TPU
Compilation child process completed within timeout period.
Compilation succeeded!
"""
NOTHING = """\
Edge TPU Compiler version 16.0.384591198

Model compiled successfully in 35 ms.

Number of Edge TPU subgraphs: 0
Total number of operations: 3

Model successfully compiled but not all operations are supported by the Edge TPU.
Number of operations that will run on Edge TPU: 0
Number of operations that will run on CPU: 3

Operator                       Count      Status

MEAN                           1          Operation is working on an unsupported data type
FULLY_CONNECTED                1          Operation is working on an unsupported data type
SOFTMAX                        1          Operation is working on an unsupported data type
"""


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(tmp_path / "bin", monkeypatch)


class StandIn:
    """The script, and what it shall do."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self.folder = folder
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def does(self, *, prints: str, writes: bytes | None, log: str | None = None, body: str = "", code: int = 0) -> None:
        """Say what it prints, what it writes as the compiled file and as the log file, and how it ends."""
        for name, content in (("says", prints.encode()), ("output", writes), ("log", (log or "").encode())):
            if content is not None:
                (self.folder / name).write_bytes(content)
        script = self.folder / "edgetpu_compiler"
        script.write_text(
            textwrap.dedent(
                f"""\
                #!{sys.executable}
                import sys
                from pathlib import Path
                own, arguments = Path(__file__).parent, sys.argv[1:]
                (own / "arguments").write_text("\\n".join(arguments))
                assert Path(arguments[-1]).is_file()
                """
            )
            + body
            + textwrap.dedent(
                f"""
                print((own / "says").read_text(), flush=True)
                stem = Path(arguments[-1]).stem
                target = Path(arguments[arguments.index("-o") + 1])
                if {writes is not None}:
                    (target / (stem + "_edgetpu.tflite")).write_bytes((own / "output").read_bytes())
                if {log is not None}:
                    (target / (stem + "_edgetpu.log")).write_bytes((own / "log").read_bytes())
                sys.exit({code})
                """
            )
        )
        script.chmod(0o755)

    @property
    def arguments(self) -> list[str]:
        return (self.folder / "arguments").read_text().split("\n")


def test_a_compiled_file_stands_beside_the_original_with_log_and_prediction(tmp_path: Path, standin: StandIn) -> None:
    standin.does(prints=GOOD, writes=tiny_compiled.compiled())
    (tmp_path / "birds.tflite").write_bytes(MODEL)
    done = compile_file(tmp_path / "birds.tflite")
    assert done.path == tmp_path / "birds_edgetpu.tflite"
    assert is_compiled(parse(done.path.read_bytes()))
    assert (tmp_path / "birds.tflite").read_bytes() == MODEL
    assert "Mapped to Edge TPU" in (tmp_path / "birds_edgetpu.log").read_text()
    stored = json.loads((tmp_path / "birds_edgetpu.json").read_text())
    assert (stored["compiler"]["version"], stored["compiler"]["mapped"]) == ("16.0.384591198", 3)
    assert (stored["prediction"]["mapped"], stored["differences"]) == (3, [])
    assert sorted(one.name for one in tmp_path.iterdir() if one.is_file()) == [
        "birds.tflite",
        "birds_edgetpu.json",
        "birds_edgetpu.log",
        "birds_edgetpu.tflite",
    ]


def test_the_compiler_gets_table_runtime_and_folder(standin: StandIn) -> None:
    standin.does(prints=GOOD, writes=tiny_compiled.compiled())
    compile_bytes(MODEL, name="birds.tflite", runtime=13)
    *options, folder, model = standin.arguments
    assert (options, model) == (["-s", "-m", "13", "-o"], "./birds.tflite")
    assert not Path(folder).exists()


def test_what_it_found_is_held_against_the_prediction(standin: StandIn) -> None:
    surprise = GOOD.replace("SOFTMAX                        1          Mapped to Edge TPU", "")
    surprise += "SOFTMAX                        1          Operation version not supported\n"
    standin.does(prints=surprise, writes=tiny_compiled.compiled())
    done = compile_bytes(MODEL)
    assert done.differences == ("SOFTMAX: 1 predicted on the chip, 0 mapped (Operation version not supported)",)
    assert done.payloads[0].cached_bytes == 4096
    assert done.log.off_chip_bytes == 64


def test_a_table_that_stands_in_the_log_file_only_is_read_there(standin: StandIn) -> None:
    head, table = GOOD.split("Operator  ")
    standin.does(prints=head, writes=tiny_compiled.compiled(), log=f"Operator  {table}")
    assert len(compile_bytes(MODEL).log.table) == 3


@pytest.mark.parametrize(
    ("prints", "says"),
    [
        (
            "Edge TPU Compiler version 14.1.317412892\n\nInternal compiler error. Aborting! \n",
            "Internal compiler error",
        ),
        ("Invalid model: birds.tflite\nModel not quantized\n", "Model not quantized"),
        ("Compilation failed: Compilation failed due to large activation tensors in model.\n", "large activation"),
        ("", "it wrote no file"),
    ],
    ids=["internal", "not quantized", "activations", "silent"],
)
def test_a_failure_is_an_error_with_the_compilers_words(
    tmp_path: Path, standin: StandIn, prints: str, says: str
) -> None:
    standin.does(prints=prints, writes=None, code=1)
    (tmp_path / "birds.tflite").write_bytes(MODEL)
    with pytest.raises(ConversionError, match=r"failed on `birds.tflite`") as caught:
        compile_file(tmp_path / "birds.tflite")
    assert says in caught.value.received
    assert caught.value.next_step
    assert not list(tmp_path.glob("*_edgetpu*"))


def test_a_crash_is_an_error(standin: StandIn) -> None:
    standin.does(prints="", writes=None, body="import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(ConversionError) as caught:
        compile_bytes(MODEL)
    assert caught.value.received == "edgetpu_compiler ended by signal 9"


def test_nothing_mapped_is_no_success(tmp_path: Path, standin: StandIn) -> None:
    standin.does(prints=NOTHING, writes=MODEL)
    (tmp_path / "birds.tflite").write_bytes(MODEL)
    with pytest.raises(ConversionError, match=r"placed no op of `birds.tflite` on the chip") as caught:
        compile_file(tmp_path / "birds.tflite")
    assert "MEAN: Operation is working on an unsupported data type" in caught.value.received
    assert not list(tmp_path.glob("*_edgetpu*"))


def test_a_file_that_is_damaged_is_not_written(tmp_path: Path, standin: StandIn) -> None:
    standin.does(prints=GOOD, writes=tiny_compiled.compiled(b"banana"))
    (tmp_path / "birds.tflite").write_bytes(MODEL)
    with pytest.raises(DamagedModelError):
        compile_file(tmp_path / "birds.tflite")
    assert not list(tmp_path.glob("*_edgetpu*"))


def test_a_compiler_that_does_not_end_is_stopped_with_its_children(tmp_path: Path, standin: StandIn) -> None:
    # A child keeps the pipe open and would outlive its parent; it says so by a file as long as it lives.
    note = tmp_path / "alive"
    body = textwrap.dedent(
        f"""\
        import os, time
        if os.fork() == 0:
            for turn in range(600):
                Path({str(note)!r}).write_text(str(turn))
                time.sleep(0.05)
            os._exit(0)
        time.sleep(60)
        """
    )
    standin.does(prints="", writes=None, body=body)
    with pytest.raises(ConversionError, match=r"stopped after 2 s"):
        compile_bytes(MODEL, timeout_s=2.0)
    # On a busy machine the script may not have come so far; then there is nothing to outlive it.
    last = note.read_text() if note.exists() else ""
    time.sleep(0.5)  # ten turns of a child that lives
    assert (note.read_text() if note.exists() else "") == last


def test_without_a_compiler_the_error_has_the_line_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_compiler() is None
    (tmp_path / "birds.tflite").write_bytes(MODEL)
    with pytest.raises(MissingDependencyError, match="compiler is not installed") as caught:
        compile_file(tmp_path / "birds.tflite")
    assert caught.value.next_step.endswith("then `edgetpu_compiler -s -m 14 birds.tflite`.")
    assert "apt-get install edgetpu-compiler" in caught.value.next_step


@pytest.mark.parametrize("system", [("Linux", "aarch64"), ("Darwin", "x86_64")])
def test_a_machine_that_can_have_none_is_told_where_it_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: tuple[str, str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(compiler.platform, "system", lambda: system[0])
    monkeypatch.setattr(compiler.platform, "machine", lambda: system[1])
    with pytest.raises(MissingDependencyError, match="x86-64 Linux only") as caught:
        compile_bytes(MODEL)
    assert caught.value.next_step.startswith("On an x86-64 Linux machine: ")


def test_a_compiled_file_is_not_compiled_again(standin: StandIn) -> None:
    with pytest.raises(InputError, match="already"):
        compile_bytes(tiny_compiled.compiled())


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputFileError):
        compile_file(tmp_path / "nothing.tflite")


def test_the_command_names_runtime_and_file() -> None:
    assert compiler_command("a b.tflite", runtime=13) == "edgetpu_compiler -s -m 13 'a b.tflite'"
