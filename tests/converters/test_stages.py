"""Finished steps on disk: taken again only where nothing about them has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import colours
import pytest

from converters.errors import ConversionError
from converters.stages import Stage, hold, keep, made_of, model_hash, restored, sweep, weights_hash
from edgeinfer.errors import OutputError


class Model:
    """Saves itself as a few bytes, as a Keras model does as many."""

    def __init__(self, content: bytes = b"weights", failure: BaseException | None = None) -> None:
        self.content, self.failure = content, failure

    def save(self, path: Path) -> None:
        Path(path).write_bytes(self.content)
        if self.failure is not None:
            raise self.failure


def stage(folder: Path, key: str = "key") -> Stage:
    return Stage("prune", folder / "1-prune.keras", 2.5, ("half went", "one stays"), key, (("conv", -1.5, 3.0),))


def test_a_kept_step_comes_back_with_all_that_was_said_of_it(tmp_path: Path) -> None:
    keep(Model(), stage(tmp_path))
    assert restored(tmp_path / "1-prune.keras", "prune", "key") == stage(tmp_path)
    assert (tmp_path / "1-prune.keras").read_bytes() == b"weights"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-prune.json", "1-prune.keras"]


def test_a_step_that_was_made_of_something_else_does_not_come_back(tmp_path: Path) -> None:
    keep(Model(), stage(tmp_path))
    assert restored(tmp_path / "1-prune.keras", "prune", "another key") is None


@pytest.mark.parametrize("content", [b"", b"weight", b"weights of another model"])
def test_a_model_file_that_was_damaged_or_replaced_is_no_stage(tmp_path: Path, content: bytes) -> None:
    keep(Model(), stage(tmp_path))
    (tmp_path / "1-prune.keras").write_bytes(content)
    assert restored(tmp_path / "1-prune.keras", "prune", "key") is None


@pytest.mark.parametrize("name", ["1-prune.keras", "1-prune.json"])
def test_half_of_a_step_is_no_stage(tmp_path: Path, name: str) -> None:
    keep(Model(), stage(tmp_path))
    (tmp_path / name).unlink()
    assert restored(tmp_path / "1-prune.keras", "prune", "key") is None


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"key": "key"}', "\xff"])
def test_a_record_that_is_none_is_no_stage(tmp_path: Path, text: str) -> None:
    keep(Model(), stage(tmp_path))
    (tmp_path / "1-prune.json").write_bytes(text.encode("latin-1"))
    assert restored(tmp_path / "1-prune.keras", "prune", "key") is None


@pytest.mark.parametrize("name", ["ranges", "seconds", "notes", "sha256"])
@pytest.mark.parametrize("value", [None, 7, [["a", "b"]]])
def test_a_record_with_a_value_of_another_kind_is_no_stage(tmp_path: Path, name: str, value: Any) -> None:
    keep(Model(), stage(tmp_path))
    record = json.loads((tmp_path / "1-prune.json").read_text())
    fits = (name, value) in (("seconds", 7), ("notes", [["a", "b"]]))
    (tmp_path / "1-prune.json").write_text(json.dumps({**record, name: value}))
    assert (restored(tmp_path / "1-prune.keras", "prune", "key") is not None) == fits


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_step_that_could_not_be_written_leaves_the_former_one(tmp_path: Path, failure: BaseException) -> None:
    keep(Model(), stage(tmp_path))
    with pytest.raises(OutputError if isinstance(failure, OSError) else KeyboardInterrupt):
        keep(Model(b"newer", failure), stage(tmp_path, "newer key"))
    assert restored(tmp_path / "1-prune.keras", "prune", "key") == stage(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-prune.json", "1-prune.keras"]


def test_an_end_between_model_and_record_is_no_stage_for_either_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(Model(), stage(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("converters.stages.write_whole", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            keep(Model(b"newer"), stage(tmp_path, "newer key"))
    for key in ("key", "newer key"):
        assert restored(tmp_path / "1-prune.keras", "prune", key) is None


def test_a_folder_that_is_gone_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be kept") as caught:
        keep(Model(), stage(tmp_path / "gone"))
    assert "gone" in caught.value.received


def test_what_a_killed_run_left_unfinished_is_removed_and_nothing_else(tmp_path: Path) -> None:
    keep(Model(), stage(tmp_path))
    rubbish = (".2-distill.unfinished.keras", ".1-prune.json.0123456789abcdef.tmp", ".training-pixels.unfinished.npy")
    own = (".gitignore", "notes.txt", "2-distill.keras", ".recipe.json.swp", ".2-mine.keras")
    for name in (*rubbish, *own):
        (tmp_path / name).write_bytes(b"x")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(("1-prune.json", "1-prune.keras", *own))


def test_two_runs_do_not_work_in_one_folder(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="this system has no locks of that kind")
    with hold(tmp_path), pytest.raises(ConversionError, match="Another run") as caught, hold(tmp_path):
        pass
    assert str(tmp_path) in caught.value.received
    assert caught.value.exit_code == 3


def test_a_folder_is_free_again_after_a_run_whatever_its_end(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), hold(tmp_path):
        raise KeyboardInterrupt
    with hold(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_one_hash_of_several_parts_tells_them_apart() -> None:
    hashes = {made_of("a", "b"), made_of("b", "a"), made_of("ab"), made_of("a", "b", "")}
    assert len(hashes) == 4
    assert made_of("a", "b") == made_of("a", "b")


def test_no_model_has_an_empty_hash_and_a_file_that_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(b"one")
    (tmp_path / "b.tflite").write_bytes(b"one")
    first = model_hash(tmp_path / "a.tflite")
    assert model_hash(None) == ""
    assert first == model_hash(str(tmp_path / "b.tflite")) != ""
    (tmp_path / "a.tflite").write_bytes(b"two")
    assert model_hash(tmp_path / "a.tflite") != first


@pytest.mark.tensorflow
def test_the_hash_of_a_model_is_that_of_its_weights_and_its_settings(keras: Any, tmp_path: Path) -> None:
    model = colours.network(keras, channels=2)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert weights_hash(model) == weights_hash(again) == model_hash(again)
    kernel = again.get_layer("one").kernel
    value = kernel.numpy()
    value[0, 0, 0, 0] += 1e-6
    kernel.assign(value)
    assert weights_hash(again) != weights_hash(model)
    # One and the same weights in layers that compute otherwise.
    other = colours.network(keras, channels=2)
    other.get_layer("one_norm").epsilon = 0.5
    assert weights_hash(other) != weights_hash(model)
