"""Does a camera see nothing: its first frames are all black."""

from __future__ import annotations

import logging

from edgeinfer.preprocess.image import Image

_LOG = logging.getLogger(__name__)

# A second at the usual rate: longer than a webcam needs to find its exposure.
_FRAMES = 30
# Of 255, on average. The noise of a sensor behind its cap stays below; a dark room with one lamp does not.
_BLACK = 4.0
_STEP = 8
_WORDS = "The picture is black. Is the lens cap on, or is it too dark?"


class Darkness:
    """Looks at the first frames, and on until one is not black.

    Attributes:
        trouble: One sentence while all is black, else "".
    """

    def __init__(self) -> None:
        self.trouble = ""
        self._black = 0
        self._done = False

    def look(self, pixels: Image) -> None:
        """Look at one frame: at one pixel of 64, which is enough to tell black from dark."""
        if self._done:
            return
        if float(pixels[::_STEP, ::_STEP].mean()) >= _BLACK:
            self.trouble, self._done = "", True
            return
        self._black += 1
        if self._black == _FRAMES:
            self.trouble = _WORDS
            _LOG.warning("%s", _WORDS)
