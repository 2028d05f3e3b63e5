from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeinfer import files
from edgeinfer.errors import InputError, InputFileError, OutputError
from edgeinfer.files import read_bytes, sha256, write_together, write_whole


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x00\x01weights")
    assert read_bytes(tmp_path / "a") == b"\x00\x01weights"
    assert read_bytes(str(tmp_path / "a")) == b"\x00\x01weights"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="does not exist") as caught:
        read_bytes(tmp_path / "missing.tflite")
    assert "missing.tflite" in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="not a folder"):
        read_bytes(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(InputFileError, match="empty") as caught:
        read_bytes(tmp_path / "empty")
    assert "copy it again" in caught.value.next_step


def test_a_path_with_a_zero_byte_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="cannot be read"):
        read_bytes(str(tmp_path / "a\0b"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "a").chmod(0)
    with pytest.raises(InputFileError, match="cannot be read"):
        read_bytes(tmp_path / "a")


def test_the_limit_is_inclusive(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", limit_bytes=5) == b"12345"
    with pytest.raises(InputError, match="too large"):
        read_bytes(tmp_path / "a", limit_bytes=4)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero here")
def test_the_limit_holds_for_a_file_that_says_it_has_no_bytes() -> None:
    with pytest.raises(InputError, match="too large"):
        read_bytes("/dev/zero", limit_bytes=100)


def test_sha256_agrees_with_the_published_test_vector() -> None:
    # FIPS 180-2, example B.1.
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_is_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old and longer")
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_written_file_has_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "a", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_a_symbolic_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_missing_folder_comes_with_the_line_to_type(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write_whole(tmp_path / "deep" / "a", b"new")
    assert caught.value.next_step == f"mkdir -p {tmp_path / 'deep'}"


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not a folder"):
        write_whole(tmp_path, b"new")


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "ctrl-c"]
)
@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_failure_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, where: str
) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def fail(*_: object) -> None:
        raise failure

    if where == "fsync":
        monkeypatch.setattr(files.os, "fsync", fail)
    else:
        monkeypatch.setattr(files.Path, "replace", fail)
    expected = OutputError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_the_reason_of_the_system_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        write_whole(tmp_path / "a", b"new")


@pytest.mark.parametrize("name", ["n" * 250, "猫" * 80], ids=["letters", "three bytes a letter"])
def test_a_long_name_can_be_written(tmp_path: Path, name: str) -> None:
    write_whole(tmp_path / name, b"new")
    assert (tmp_path / name).read_bytes() == b"new"


def test_a_pipe_or_a_device_is_not_replaced(tmp_path: Path) -> None:
    # Run by root, `-o /dev/null` would otherwise put a file in the place of the machine's device.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="device or a pipe"):
        write_whole(pipe, b"new")
    assert pipe.is_fifo()


def test_a_file_that_is_replaced_hands_its_permissions_on(tmp_path: Path) -> None:
    path = tmp_path / "private"
    path.write_bytes(b"old")
    path.chmod(0o600)
    write_whole(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputFileError, match="not a pipe"):
        read_bytes(tmp_path / "pipe")


def test_several_files_are_written_each_whole(tmp_path: Path) -> None:
    write_together({tmp_path / "a": b"one", tmp_path / "b": b"two"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"one", "b": b"two"}


def test_where_one_of_several_cannot_be_written_none_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"before")
    (tmp_path / "b").mkdir()
    with pytest.raises(OutputError, match="not a folder"):
        write_together({tmp_path / "a": b"after", tmp_path / "b": b"two"})
    assert (tmp_path / "a").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_several_files_for_a_folder_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder"):
        write_together({tmp_path / "a": b"one", tmp_path / "gone" / "b": b"two"})
    assert not list(tmp_path.iterdir())
