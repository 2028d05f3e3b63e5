"""Pictures as frames: a folder, a pattern, or one picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from edgeinfer.errors import InputFileError
from edgeinfer.files import PICTURES
from edgeinfer.preprocess.image import Image, read_image
from edgeinfer.sources.reader import Wanted

_USUAL_FPS = 10.0


class FolderReader:
    """A `FileReader` of pictures in the order of their names, where 2 comes before 10.

    Args:
        paths: The pictures.
        wanted: `fps` is their pace; 10 a second where it is None.
    """

    damaged = 0  # a picture that cannot be read is an error, which names it

    def __init__(self, paths: Sequence[Path], wanted: Wanted) -> None:
        self._paths = sorted(paths, key=_natural)
        self._at = -1
        self.interval_ns = round(1e9 / (wanted.fps or _USUAL_FPS))

    @property
    def name(self) -> str:
        """The name of the picture's file."""
        return self._paths[self._at].name

    def advance(self) -> int | None:
        """Go to the next picture and return when it is due; nothing is read yet."""
        if self._at + 1 >= len(self._paths):
            return None
        self._at += 1
        return self._at * self.interval_ns

    def picture(self) -> Image | None:
        """Read the picture.

        Raises:
            InputError: It is damaged; the message names it. The next can still be had.
        """
        return read_image(self._paths[self._at])

    def close(self) -> None:
        """Nothing is open between two pictures."""


def pictures_in(place: str) -> list[Path]:
    """Return the pictures of a folder, or those that a pattern such as "frames/*.jpg" names.

    Raises:
        InputFileError: There is none.
    """
    folder = Path(place)
    is_folder = folder.is_dir()
    found = list(folder.iterdir()) if is_folder else [Path(name) for name in glob(place, recursive=True)]  # noqa: PTH207 - the pattern may be absolute, which Path.glob refuses
    pictures = [path for path in found if path.suffix.lower() in PICTURES and path.is_file()]
    if not pictures:
        raise InputFileError(
            f"There is no picture in `{place}`." if is_folder else f"No picture matches `{place}`.",
            received=f"{len(found)} other files" if found else "nothing",
            expected=f"files that end in one of {', '.join(sorted(PICTURES))}",
        )
    return pictures


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)], str(path)
