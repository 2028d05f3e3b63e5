"""Well-known public models by name: a list, and a download into the user's cache.

Example:
    >>> from edgeinfer.zoo.fetch import find
    >>> find("movenet-lightning").task
    'pose'
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from edgeinfer.errors import InputError, OutputError, close_name
from edgeinfer.progress import ProgressReport
from edgeinfer.zoo.download import download
from edgeinfer.zoo.published import HOST, MODELS, PublishedFile, ZooModel

_MIRROR = "EDGEINFER_ZOO_URL"


def models() -> tuple[ZooModel, ...]:
    """Return all models that can be fetched."""
    return MODELS


def find(name: str) -> ZooModel:
    """Return the model of this name.

    Raises:
        InputError: There is none; the message names the closest.
    """
    names = [model.name for model in MODELS]
    for model in MODELS:
        if model.name == name:
            return model
    meant = close_name(name.replace("_", "-"), names)
    raise InputError(
        "There is no model of this name.",
        received=f'"{name}"',
        expected=", ".join(names),
        next_step=f"{meant} `edgeinfer models` lists them all.".lstrip(),
    )


def fetch(
    name: str, *, progress: ProgressReport | None = None, mirror: str | None = None, timeout_s: float = 30.0
) -> Path:
    """Return a model's file, downloaded where it is not in the cache yet.

    The label file that belongs to it, if there is one, lies beside it (`find(name).labels.name`). Both stay as they
    were published. A file that is there with the right SHA-256 is not fetched again, so that all of this works
    offline afterwards; a damaged one is fetched anew.

    Args:
        name: One of `models()`.
        progress: Called with kilobytes, a file at a time.
        mirror: Address of another server with the same files at `owner/name/commit/path`; None takes the environment
            variable EDGEINFER_ZOO_URL, and without it the publisher's own host. Proxies are those of HTTP_PROXY,
            HTTPS_PROXY and NO_PROXY.
        timeout_s: How long a server may be silent, in seconds.

    Returns:
        `<cache>/edgeinfer/models/<name>/<file>`, where the cache is XDG_CACHE_HOME or `~/.cache`.

    Raises:
        InputError: There is no such model, or the mirror's address is none.
        MissingDependencyError: Something is to be fetched, and pooch is not installed.
        DownloadError: The server or a proxy cannot be reached, or does not hand the file out.
        DamagedModelError: Something else arrived than was published; nothing of it is kept.
        OutputError: The cache cannot be written, or this user has no home.
    """
    model = find(name)
    base = _base(mirror)
    place = cache_folder() / model.name / model.file.name
    for file in published_files(model):
        download(file, place.with_name(file.name), url=f"{base}/{file.place}", progress=progress, timeout_s=timeout_s)
    return place


def published_files(model: ZooModel) -> tuple[PublishedFile, ...]:
    """Return all files that `fetch` brings: the model's, then its labels'."""
    return (model.file,) if model.labels is None else (model.file, model.labels)


def cache_folder() -> Path:
    """Return the folder that models are fetched into; it need not exist.

    Raises:
        OutputError: This user has no home, and XDG_CACHE_HOME is not set.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(base) if base else Path.home() / ".cache"
    except RuntimeError as error:  # a service's user without an entry in the password file
        raise OutputError(
            "There is no folder to keep models in.", received=str(error), next_step="Set XDG_CACHE_HOME to a folder."
        ) from error
    return folder.absolute() / "edgeinfer" / "models"


def run_line(model: ZooModel, path: Path) -> str:
    """Return the command line that tries a fetched model, with what its file does not say of itself."""
    if not model.pictures:
        return f"edgeinfer bench {shlex.quote(str(path))}"
    words = ["edgeinfer", "run", shlex.quote(str(path)), "PICTURE"]
    if model.task == "embedding":
        words += ["--task", "embedding"]
    if model.labels is not None:
        words += ["--labels", shlex.quote(str(path.with_name(model.labels.name)))]
    if model.normalization is not None:
        words += ["--normalization", *(f"{value:g}" for value in model.normalization)]
    return " ".join(words)


def _base(mirror: str | None) -> str:
    """Return the server's address without a slash at its end.

    Raises:
        InputError: It is no http or https address.
    """
    address = mirror or os.environ.get(_MIRROR) or HOST
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        raise InputError(
            "The mirror's address is none that can be fetched from.",
            received=f'"{address}"' if mirror else f'{_MIRROR}="{address}"',
            expected="http://host/path or https://host/path",
            next_step=f"Without {_MIRROR} the publisher's own host is asked.",
        )
    return address.rstrip("/")
