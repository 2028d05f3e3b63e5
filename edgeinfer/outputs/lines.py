"""`Lines`: answered frames as JSON, one object a line, for another program."""

from __future__ import annotations

import sys
from typing import TextIO

from edgeinfer.errors import OutputError
from edgeinfer.live.shown import Shown
from edgeinfer.outputs.message import dumps, message


class Lines:
    """JSON lines on standard output, or on any other stream of text; one object a frame, as `message` makes it.

    Each line is flushed, so that a reader has it while the next frame is looked at.

    Args:
        stream: Where they go; None is standard output. It is the caller's, and stays open.

    Raises:
        OutputError: This process has no standard output.

    Example:
        >>> import io, numpy as np
        >>> from edgeinfer.live.shown import Status
        >>> from edgeinfer.results import Classifications
        >>> from edgeinfer.sources.frame import Frame
        >>> found = Classifications(np.array([1]), np.array([0.5], np.float32), ("jay",))
        >>> stream = io.StringIO()
        >>> with Lines(stream) as lines:
        ...     lines.write(Shown(Frame(np.zeros((4, 4, 3), np.uint8), 0, 0), {"birds": found}, Status()))
        True
        >>> stream.getvalue().strip()[-64:]
        '"results": [{"class_id": 1, "label": "jay", "confidence": 0.5}]}'
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        chosen: TextIO | None = sys.stdout if stream is None else stream
        if chosen is None:  # Python's own word for a process that was started with it closed
            raise OutputError("This process has no standard output.", expected="a stream for the JSON lines")
        self._stream = chosen

    def write(self, shown: Shown) -> bool:
        """Write one line; always True.

        Raises:
            OutputError: The stream does not take it, e.g. a file on a full disk.
            BrokenPipeError: The reader has gone: the end of a pipeline (`| head`), and no failure.
        """
        line = dumps(message(shown)) + "\n"
        try:
            self._stream.write(line)
            self._stream.flush()
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:  # ValueError: somebody has closed it
            reason = getattr(error, "strerror", None) or str(error)
            raise OutputError(f"The JSON lines cannot be written: {reason}.", received=str(error)) from error
        return True

    def close(self) -> None:
        """Do nothing: every line is flushed, and the stream is the caller's."""

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
