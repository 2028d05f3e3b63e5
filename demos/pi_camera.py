"""A camera with a model's answers on a web page: for a Raspberry Pi without a screen.

    python demos/pi_camera.py birds.tflite
    python demos/pi_camera.py ssd.tflite --labels coco.txt --source street.mp4 --repeat

Any vision task will do: the file says which one it is. Nobody but this machine can look at the page; from another one
use `ssh -L 8080:localhost:8080 pi@raspberrypi.local` and open http://localhost:8080/ there, or give `--bind
0.0.0.0:8080` and a `--token`. `edgeinfer camera` does the same with more options: windows, recordings, MQTT.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import webbrowser
from pathlib import Path
from typing import Any

from edgeinfer import (
    Camera,
    EdgeInferError,
    Live,
    Page,
    Pipeline,
    Runtime,
    classifier,
    detector,
    load,
    read_labels,
    segmenter,
)


def main() -> int:
    """Show answered frames until Ctrl-C, the end of the source, or `--frames`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a .tflite file")
    parser.add_argument("--labels", type=Path, help="one label a line, where the file has none")
    parser.add_argument("--source", default="0", help="a camera, a video, a folder of pictures, an address (default 0)")
    parser.add_argument("--size", type=int, nargs=2, metavar=("W", "H"), help="what to ask the camera for")
    parser.add_argument("--repeat", action="store_true", help="begin a video again at its end")
    parser.add_argument("--bind", default="127.0.0.1:8080", help="where the page is (default 127.0.0.1:8080)")
    parser.add_argument("--token", help="what viewers must know, where others can reach the page")
    parser.add_argument("--frames", type=int, help="end after so many")
    parser.add_argument("--open", action="store_true", help="open the page in a browser, where there is a screen")
    options = parser.parse_args()
    try:
        return show(options)
    except EdgeInferError as error:  # says what is wrong and what to type
        print(error, file=sys.stderr)
        return error.exit_code


def show(options: argparse.Namespace) -> int:
    """Open model, camera and page, and hand frames from one to the other."""
    model = open_model(options.model, options.labels)
    size = tuple(options.size) if options.size else None
    with (
        Camera(options.source, size=size, realtime=True, repeat=options.repeat) as camera,
        Page(options.bind, token=options.token) as page,
        Live(camera, model) as live,
    ):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: live.stop())
        page.follow(live.status)  # so that it says when the camera is gone
        print(f"{camera.name} is on {page.url} now. Ctrl-C ends.", flush=True)
        if options.open and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            webbrowser.open(page.url)
        for count, shown in enumerate(live, start=1):
            page.write(shown)
            if count == options.frames:
                live.stop()
        status = live.status()
        print(
            f"{status.shown} frames, {status.dropped} dropped, {status.age.p50:.0f} ms old when they were shown; "
            f"the model took {status.inference.p50:.1f} ms"
        )
    return 0


def open_model(path: Path, labels: Path | None) -> Pipeline[Any]:
    """Return the model's pipeline, with names from a file where the model has none of its own."""
    if labels is None:
        return load(path)
    runtime = Runtime(path)
    constructors: dict[str, Any] = {"detection": detector, "segmentation": segmenter}
    pipeline: Pipeline[Any] = constructors.get(runtime.metadata.task, classifier)(runtime, labels=read_labels(labels))
    return pipeline


if __name__ == "__main__":
    sys.exit(main())
