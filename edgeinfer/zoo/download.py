"""One published file, from a server into the user's cache: whole and as it was published, or not at all.

The transfer is pooch's (over requests, with its proxies and certificates); here it gets a size limit, progress, and
errors that say what to do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeinfer.errors import DamagedModelError, DownloadError, EdgeInferError, MissingDependencyError, OutputError
from edgeinfer.files import read_bytes, sha256
from edgeinfer.progress import Progress, ProgressReport

if TYPE_CHECKING:
    from edgeinfer.zoo.published import PublishedFile

_CHUNK_BYTES = 16 * 1024
_KB = 1000


def is_whole(place: Path, file: PublishedFile) -> bool:
    """True where the file is there, with exactly the bytes that were published."""
    try:
        # One byte more than it should have is enough to know.
        return sha256(read_bytes(place, limit_bytes=file.bytes)) == file.sha256
    except EdgeInferError:
        return False


def download(
    file: PublishedFile, place: Path, *, url: str, progress: ProgressReport | None = None, timeout_s: float = 30.0
) -> None:
    """Fetch one file, unless it is there already.

    A temporary file beside `place` takes the bytes and is moved there when their hash is right; on every failure it
    goes. What stands at `place` with another content is replaced.

    Args:
        file: What is expected.
        place: Where it shall stand; its folder is made.
        url: Where it is served.
        progress: Called with kilobytes.
        timeout_s: How long the server may be silent, in seconds.

    Raises:
        MissingDependencyError: pooch is not installed.
        DownloadError: The server or a proxy cannot be reached, or does not hand the file out.
        DamagedModelError: Something else arrived than was published.
        OutputError: The cache cannot be written.
    """
    if is_whole(place, file):
        return
    pooch = _pooch()
    meter = _Meter(file, progress)
    answers: list[Any] = []

    def note(answer: Any, **_: Any) -> None:
        answers.append(answer)

    transfer = pooch.HTTPDownloader(
        progressbar=meter, chunk_size=_CHUNK_BYTES, timeout=timeout_s, hooks={"response": note}
    )

    def transfer_and_check(address: str, output: str, owner: Any) -> None:
        try:
            transfer(address, output, owner)
        finally:
            for answer in answers:  # pooch leaves the connection open when an answer is refused or cut off
                answer.close()
        meter.check(Path(output))
        # pooch's temporary file is closed to everybody else; the folder shows what this user's umask lets through.
        Path(output).chmod(place.parent.stat().st_mode & 0o666)

    with _mapped(file, place, url, timeout_s), _silent(pooch):
        if place.is_dir():  # the finished file would be moved into it
            raise OutputError("A folder stands where the file shall be.", received=f"`{place}`")
        pooch.retrieve(
            url, known_hash=f"sha256:{file.sha256}", fname=place.name, path=place.parent, downloader=transfer_and_check
        )


class _Meter:
    """What pooch reports a transfer to: passes it on, and stops one that is longer than the file can be."""

    def __init__(self, file: PublishedFile, progress: ProgressReport | None) -> None:
        self.file = file
        self.progress = progress
        self.total = 0  # pooch sets it
        self.done = 0

    def update(self, size_bytes: int) -> None:
        """Count a chunk: pooch says its full size for the last one too, and for all of them once more at the end."""
        self.done += size_bytes
        if self.done > self.file.bytes + 2 * _CHUNK_BYTES:
            raise _other_content(self.file, f"more than {self.done - 2 * _CHUNK_BYTES} bytes")
        self._report(min(self.done, self.file.bytes - 1))  # the last byte is reported when all of them are right

    def reset(self) -> None:
        """Begin again."""
        self.done = 0

    def close(self) -> None:
        """Do nothing: whether the transfer was good is not known yet."""

    def check(self, arrived: Path) -> None:
        """Refuse what is not the published file.

        Raises:
            DamagedModelError: These are other bytes.
        """
        data = arrived.read_bytes()
        found = sha256(data)
        if found != self.file.sha256:
            page = ", a web page" if data.lstrip()[:1] == b"<" else ""
            raise _other_content(self.file, f"{len(data)} bytes{page}, sha256 {found}")
        self._report(self.file.bytes)

    def _report(self, done_bytes: int) -> None:
        if self.progress is not None:
            total = -(-self.file.bytes // _KB)
            done = total if done_bytes == self.file.bytes else done_bytes // _KB
            self.progress(Progress(f"{self.file.name[:24]} kB", done, total))


def _other_content(file: PublishedFile, received: str) -> DamagedModelError:
    return DamagedModelError(
        f"What arrived is not the published `{file.name}`.",
        received=received,
        expected=f"{file.bytes} bytes, sha256 {file.sha256}",
        next_step="Try again. A web page comes from a network that wants a log-in, or from a proxy that blocks. "
        "Nothing was kept.",
    )


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        raise MissingDependencyError(
            "pooch is needed to fetch models.", received=str(error), next_step="pip install 'edgeinfer[zoo]'"
        ) from error
    return pooch


@contextmanager
def _silent(pooch: Any) -> Iterator[None]:
    """Keep pooch's own lines off the terminal: what it says is said by progress and errors here."""
    logger = pooch.get_logger()
    before = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _mapped(file: PublishedFile, place: Path, url: str, timeout_s: float) -> Iterator[None]:
    """Turn what requests and the system raise into errors of the tree."""
    from requests.exceptions import RequestException

    try:
        yield
    except EdgeInferError:
        raise
    except RequestException as error:  # an OSError too, so this stands in front
        raise _refused(error, file, place, url, timeout_s) from error
    except OSError as error:
        raise OutputError(
            f"The cache cannot be written: {error.strerror or error}.",
            received=f"`{place}`",
            next_step="Make room there, or set XDG_CACHE_HOME to a folder on another disk.",
        ) from error
    except ValueError as error:  # an answer with headers that are none
        raise _other_content(file, str(error)) from error


def _refused(error: Exception, file: PublishedFile, place: Path, url: str, timeout_s: float) -> DownloadError:
    from requests import exceptions

    server, proxy = f"`{urlsplit(url).hostname}`", _proxy(url)
    received = f"{_without_password(url)}: {_reason(error)}" + (f"; {proxy}" if proxy else "")
    if isinstance(error, exceptions.HTTPError) and error.response is not None:
        message, cure = _answer(error.response.status_code, server)
    elif isinstance(error, exceptions.ProxyError | exceptions.InvalidProxyURL):
        message = "The proxy cannot be used."
        cure = f"Correct the variable, or `unset {proxy.partition('=')[0]}`." if proxy else "Correct its setting."
    elif isinstance(error, exceptions.Timeout) or "timed out" in str(error):
        message = f"{server} does not answer in time."
        received += f" ({timeout_s:g} s)"
        cure = "Try again; a firewall may swallow the connection."
    elif isinstance(error, exceptions.SSLError):
        message = f"There is no secure connection to {server}."
        cure = (
            "Look at this machine's clock: `date`. Where a proxy opens connections, name its certificate: "
            "REQUESTS_CA_BUNDLE=/path/to/ca.pem."
        )
    elif isinstance(error, exceptions.ChunkedEncodingError):
        message, cure = f"{server} broke off.", "Try again."
    elif isinstance(error, exceptions.ConnectionError):
        message = f"{server} cannot be reached."
        cure = "Is this machine online? Behind a proxy, set HTTPS_PROXY."
    else:
        message, cure = f"`{file.name}` cannot be fetched from {server}.", "Try again."
    return DownloadError(message, received=received, next_step=f"{cure} Or bring the file by another way to `{place}`.")


def _answer(status: int, server: str) -> tuple[str, str]:
    """Return what an HTTP status means, and what to do."""
    if status == 407:
        return "The proxy wants a name and a password.", "Set HTTPS_PROXY=http://name:password@host:port."
    if status in (404, 410):
        return f"{server} does not have the file.", "It may have been taken away: a newer edgeinfer may know another."
    if status in (401, 403, 451):
        return f"{server} does not hand the file out.", "A proxy or firewall may forbid it."
    if status == 429:
        return f"{server} has had too many requests from here.", "Try again in an hour."
    if status >= 500:
        return f"{server} is out of order.", "Try again later."
    return f"{server} gives an answer that is no file.", "Try again."


def _reason(error: BaseException) -> str:
    """Return the innermost cause in a few words: the outer ones repeat the address and the names of classes."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code} {response.reason or ''}".rstrip()
    seen: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and inner not in seen:
        seen.append(inner)
        nested = getattr(inner, "reason", None) or next((one for one in inner.args if isinstance(one, Exception)), None)
        inner = nested if isinstance(nested, BaseException) else inner.__cause__ or inner.__context__
    for one in reversed(seen):
        if isinstance(one, OSError) and one.strerror:
            return str(one.strerror)
    return re.sub(r"^<.*?>: |^\w*Pool\(.*?\): ", "", str(seen[-1])) or type(error).__name__


def _proxy(url: str) -> str:
    """Return the variable that names the proxy for this address, e.g. `HTTPS_PROXY=http://10.0.0.1:3128`, or ""."""
    scheme = urlsplit(url).scheme
    # requests asks in this order (as Python's urllib does): small letters win.
    for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        if os.environ.get(name):
            return f"{name}={_without_password(os.environ[name])}"
    return ""


def _without_password(url: str) -> str:
    return re.sub(r"(?<=//)[^/@]*@", "***@", url)
