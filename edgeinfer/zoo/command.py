"""`edgeinfer models [fetch NAME]`: the public models that can be had by name, as a table and one at a time."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from edgeinfer.command import Parser, talk_options

if TYPE_CHECKING:
    from edgeinfer.zoo.published import PublishedFile, ZooModel

_TALK = ("json", "quiet", "debug")


def add_models(commands: Any) -> None:
    """Add `models` and `models fetch` to the sub-commands of `edgeinfer`."""
    listing = commands.add_parser(
        "models",
        help="list public models, fetch one by name",
        description="List public models that can be fetched by name.",
        epilog="Example: edgeinfer models fetch ssd-mobilenet-v1-coco",
    )
    talk_options(listing)
    listing.set_defaults(handler=_list)
    actions = listing.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    fetch = actions.add_parser(
        "fetch",
        help="fetch one into the user's cache",
        description="Fetch a model, with the label file that belongs to it, into the user's cache, and print where it "
        "is. What is there already is not fetched again. Every file is checked against its published SHA-256.",
        epilog="Example: edgeinfer models fetch movenet-lightning. Fetched models lie in "
        "$XDG_CACHE_HOME/edgeinfer/models, or ~/.cache/edgeinfer/models. HTTPS_PROXY and NO_PROXY hold.",
    )
    fetch.add_argument("name", help="as `edgeinfer models` lists it")
    fetch.add_argument(
        "--mirror",
        metavar="URL",
        help="a server with the same files at owner/name/commit/path (default: EDGEINFER_ZOO_URL, else the "
        "publisher's own host)",
    )
    talk_options(fetch)
    for action in fetch._actions:
        if action.dest in _TALK:
            action.default = argparse.SUPPRESS  # or what stands before `fetch` would be forgotten
    fetch.set_defaults(handler=_fetch)


def _list(options: argparse.Namespace) -> int:
    from edgeinfer.zoo.fetch import models

    if options.json:
        sys.stdout.write(json.dumps({"models": [_facts(model) for model in models()]}) + "\n")
        return 0
    rows = [("NAME", "TASK", "SIZE", "LICENCE", "")]
    rows += [(one.name, one.task, _size(one.file.bytes), one.licence, one.sentence) for one in models()]
    width = [max(len(row[column]) for row in rows) for column in range(4)]
    for name, task, size, licence, sentence in rows:
        line = f"{name:<{width[0]}}  {task:<{width[1]}}  {size:>{width[2]}}  {licence:<{width[3]}}  {sentence}"
        sys.stdout.write(line.rstrip() + "\n")
    sys.stdout.write("\nFetch one and see how to run it: edgeinfer models fetch NAME\n")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from edgeinfer.progress import terminal_progress
    from edgeinfer.zoo.fetch import fetch, find, run_line

    model = find(options.name)
    if not options.json:
        # The licence stands in front of the bytes, for those who then press Ctrl-C.
        sys.stderr.write(f"{model.sentence}\nLicence: {model.licence}. Source: {model.source}\n")
    path = fetch(model.name, progress=terminal_progress(quiet=options.quiet or options.json), mirror=options.mirror)
    if options.json:
        labels = None if model.labels is None else str(path.with_name(model.labels.name))
        place = {"path": str(path), "labels_path": labels, "run": run_line(model, path)}
        sys.stdout.write(json.dumps(_facts(model) | place) + "\n")
        return 0
    sys.stderr.write(f"Run it: {run_line(model, path)}\n")
    sys.stderr.flush()
    sys.stdout.write(f"{path}\n")
    return 0


def _facts(model: ZooModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "task": model.task,
        "sentence": model.sentence,
        "licence": model.licence,
        "source": model.source,
        **_file_facts(model.file),
        "labels": None if model.labels is None else _file_facts(model.labels),
        "normalization": model.normalization,
    }


def _file_facts(file: PublishedFile) -> dict[str, Any]:
    return {"url": file.url, "sha256": file.sha256, "bytes": file.bytes}


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.0f} kB"
