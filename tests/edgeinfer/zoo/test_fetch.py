"""Models by name: real transfers from real servers on 127.0.0.1, and nothing beyond it."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny_models

from edgeinfer.errors import (
    DamagedModelError,
    DownloadError,
    InputError,
    MissingDependencyError,
    OutputError,
)
from edgeinfer.model.metadata import read
from edgeinfer.progress import Progress
from edgeinfer.zoo import fetch as zoo
from edgeinfer.zoo.published import MODELS, PublishedFile, ZooModel

ROOT = Path(__file__).resolve().parents[2]
MODEL = tiny_models.classifier(labels=("red", "green", "blue", "dark"), normalization=(0.0, 255.0))
LABELS = b"red\ngreen\nblue\ndark\n"


def published(path: str, data: bytes) -> PublishedFile:
    return PublishedFile("owner/name", "0" * 40, path, hashlib.sha256(data).hexdigest(), len(data))


COLOURS = ZooModel(
    "colours-8",
    "classification",
    published("models/colours.tflite", MODEL),
    "Names colours.",
    labels=published("models/colours.txt", LABELS),
    normalization=(0.0, 255.0),
)
MODEL_PLACE, LABELS_PLACE = f"/{COLOURS.file.place}", f"/owner/name/{'0' * 40}/models/colours.txt"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the server's `answers` say, and notes what was asked."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path)
        if callable(answer):
            answer(self)
        elif answer is None:
            self.send_error(404)
        else:
            self.reply(answer)

    def do_CONNECT(self) -> None:
        self.server.asked.append(f"CONNECT {self.path}")
        self.send_error(403)

    def reply(self, data: bytes, *, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.answers: dict[str, bytes | Callable[[Handler], None]] = {MODEL_PLACE: MODEL, LABELS_PLACE: LABELS}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that hangs up is what some tests are about


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no proxy, no mirror, and one model more in the list: a tiny one."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("EDGEINFER_ZOO_URL", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(zoo, "MODELS", (*MODELS, COLOURS))
    return tmp_path / "cache"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if not path.is_dir())


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


# --- the list -------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_an_entry_is_pinned_and_says_whose_it_is(model: ZooModel) -> None:
    assert re.fullmatch(r"[a-z0-9.-]+", model.name)
    assert model.licence
    assert re.fullmatch(r"[^\n]{10,140}\.", model.sentence)
    for file in zoo.published_files(model):
        assert re.fullmatch("[0-9a-f]{40}", file.commit)
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.bytes > 0
        assert file.url == f"https://raw.githubusercontent.com/{file.repository}/{file.commit}/{file.path}"


def test_names_and_files_are_there_once() -> None:
    assert len({model.name for model in MODELS}) == len(MODELS)
    assert len({model.file.sha256 for model in MODELS}) == len(MODELS)


def test_the_files_at_hand_are_those_of_the_list(test_data: Path) -> None:
    pinned = {file.sha256: file for model in MODELS for file in zoo.published_files(model)}
    found = {}
    for path in test_data.rglob("*"):
        if path.suffix in (".tflite", ".txt") and path.parent.name in ("coral", "ic", "detection"):
            data = path.read_bytes()
            found[hashlib.sha256(data).hexdigest()] = len(data)
    both = pinned.keys() & found.keys()
    assert len(both) >= 12
    assert all(pinned[one].bytes == found[one] for one in both)


def test_a_real_model_arrives_and_does_what_the_list_says(server: Server, test_data: Path) -> None:
    for folder, name in (
        ("coral", "mobilenet-v1-0.25-128"),
        ("coral", "movenet-lightning"),
        ("coral", "deeplab-v3-dm05-pascal"),
        ("mlperf_tiny/ic", "resnet8-cifar10-int8"),
    ):
        for file in zoo.published_files(zoo.find(name)):
            server.answers[f"/{file.place}"] = (test_data / folder / file.name).read_bytes()
        assert read(zoo.fetch(name, mirror=server.url)).task == zoo.find(name).task


def test_an_unknown_name_is_refused_with_the_closest() -> None:
    with pytest.raises(InputError) as caught:
        zoo.fetch("mobilenet_v2_1.0_224")
    assert "Did you mean `mobilenet-v2-1.0-224`?" in caught.value.next_step
    assert "movenet-lightning" in caught.value.expected


def test_a_name_that_nothing_is_close_to_is_refused_with_all_names() -> None:
    with pytest.raises(InputError) as caught:
        zoo.find("../../etc/passwd")
    assert "Did you mean" not in caught.value.next_step
    assert "`edgeinfer models`" in caught.value.next_step


# --- what arrives ---------------------------------------------------------------------------------


def test_a_model_arrives_with_its_labels_as_published(server: Server, cache: Path) -> None:
    path = zoo.fetch("colours-8", mirror=server.url)
    assert path == cache / "edgeinfer" / "models" / "colours-8" / "colours.tflite"
    assert path.read_bytes() == MODEL
    assert (path.parent / "colours.txt").read_bytes() == LABELS
    assert server.asked == [MODEL_PLACE, LABELS_PLACE]
    assert files(cache) == ["colours.tflite", "colours.txt"]


def test_a_fetched_file_has_the_permissions_of_a_file_written_there(server: Server) -> None:
    path = zoo.fetch("colours-8", mirror=server.url)
    plain = path.with_name("plain")
    plain.write_bytes(b"")
    assert path.stat().st_mode == plain.stat().st_mode


def test_what_is_there_is_not_fetched_again_and_works_offline(server: Server) -> None:
    first = zoo.fetch("colours-8", mirror=server.url)
    server.asked.clear()
    assert zoo.fetch("colours-8", mirror=server.url) == first
    assert not server.asked
    assert zoo.fetch("colours-8", mirror=f"http://127.0.0.1:{closed_port()}") == first


def test_what_is_there_needs_no_pooch(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    first = zoo.fetch("colours-8", mirror=server.url)
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert zoo.fetch("colours-8") == first


@pytest.mark.parametrize("damage", [MODEL[:-1], MODEL + b"x", b"", b"X" + MODEL[1:]], ids=len)
def test_a_damaged_file_is_fetched_again(server: Server, damage: bytes) -> None:
    path = zoo.fetch("colours-8", mirror=server.url)
    path.write_bytes(damage)
    server.asked.clear()
    assert zoo.fetch("colours-8", mirror=server.url).read_bytes() == MODEL
    assert server.asked == [MODEL_PLACE]


def test_a_missing_label_file_is_fetched_alone(server: Server) -> None:
    path = zoo.fetch("colours-8", mirror=server.url)
    (path.parent / "colours.txt").unlink()
    server.asked.clear()
    zoo.fetch("colours-8", mirror=server.url)
    assert server.asked == [LABELS_PLACE]


def test_the_environment_names_a_mirror_and_an_argument_wins(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINFER_ZOO_URL", f"{server.url}/deep/")
    server.answers = {f"/deep{place}": data for place, data in server.answers.items()}
    zoo.fetch("colours-8").unlink()
    with pytest.raises(DownloadError):
        zoo.fetch("colours-8", mirror=server.url)
    assert server.asked == [f"/deep{MODEL_PLACE}", f"/deep{LABELS_PLACE}", MODEL_PLACE]


def test_a_redirect_is_followed(server: Server) -> None:
    def elsewhere(request: Handler) -> None:
        request.send_response(302)
        request.send_header("Location", "/elsewhere")
        request.send_header("Content-Length", "0")
        request.end_headers()

    server.answers |= {MODEL_PLACE: elsewhere, "/elsewhere": MODEL}
    assert zoo.fetch("colours-8", mirror=server.url).read_bytes() == MODEL


def test_many_at_once_all_get_the_whole_file(server: Server, cache: Path) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(zoo.fetch("colours-8", mirror=server.url).read_bytes()))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [MODEL] * 6
    assert files(cache) == ["colours.tflite", "colours.txt"]


def test_progress_rises_to_the_end_and_is_silent_where_nothing_is_fetched(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(100_000)
    big = ZooModel("big", "tensors", published("big.tflite", data), "Big.")
    monkeypatch.setattr(zoo, "MODELS", (big,))
    server.answers[f"/{big.file.place}"] = data
    reports: list[Progress] = []
    zoo.fetch("big", mirror=server.url, progress=reports.append)
    assert {report.total for report in reports} == {100}
    done = [report.done for report in reports]
    assert len(done) >= 3
    assert done[-1] == 100
    assert done == sorted(done)
    assert done.count(100) == 1, "the end is reported once the bytes are known to be right"
    reports.clear()
    zoo.fetch("big", mirror=server.url, progress=reports.append)
    assert not reports


def test_pooch_says_nothing_of_its_own(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.fetch("colours-8", mirror=server.url)
    assert capsys.readouterr() == ("", "")


# --- what goes wrong ------------------------------------------------------------------------------


def test_without_pooch_the_line_to_type_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingDependencyError) as caught:
        zoo.fetch("colours-8", mirror=server.url)
    assert caught.value.next_step == "pip install 'edgeinfer[zoo]'"
    assert not server.asked


@pytest.mark.parametrize(
    "address", ["ftp://host/models", "host/models", "http://", "http://host:99999", "http://[::1", "file:///tmp"]
)
def test_a_mirror_without_an_http_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="mirror") as caught:
        zoo.fetch("colours-8", mirror=address)
    assert address in caught.value.received
    monkeypatch.setenv("EDGEINFER_ZOO_URL", address)
    with pytest.raises(InputError, match="mirror") as caught:
        zoo.fetch("colours-8")
    assert "EDGEINFER_ZOO_URL" in caught.value.received


def test_a_server_that_nobody_runs_cannot_be_reached(cache: Path) -> None:
    with pytest.raises(DownloadError, match=r"`127\.0\.0\.1` cannot be reached") as caught:
        zoo.fetch("colours-8", mirror=f"http://127.0.0.1:{closed_port()}")
    assert caught.value.received.endswith(": Connection refused")
    assert str(cache / "edgeinfer" / "models" / "colours-8" / "colours.tflite") in caught.value.next_step
    assert files(cache) == []


def test_a_name_that_nobody_resolves_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # a real look-up would leave this machine
    with pytest.raises(DownloadError, match=r"`raw\.githubusercontent\.com` cannot be reached") as caught:
        zoo.fetch("colours-8")
    assert "Name or service not known" in caught.value.received


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, "does not have the file"),
        (410, "does not have the file"),
        (401, "does not hand the file out"),
        (403, "does not hand the file out"),
        (407, "The proxy wants a name"),
        (418, "an answer that is no file"),
        (429, "too many requests"),
        (500, "out of order"),
        (503, "out of order"),
    ],
)
def test_a_refusing_answer_is_said_with_its_status(server: Server, cache: Path, status: int, said: str) -> None:
    server.answers[MODEL_PLACE] = lambda request: request.send_error(status)
    with pytest.raises(DownloadError, match=said) as caught:
        zoo.fetch("colours-8", mirror=server.url)
    assert f"HTTP {status}" in caught.value.received
    assert files(cache) == []


def test_redirects_without_end_are_given_up(server: Server, cache: Path) -> None:
    def again(request: Handler) -> None:
        request.send_response(302)
        request.send_header("Location", MODEL_PLACE)
        request.send_header("Content-Length", "0")
        request.end_headers()

    server.answers[MODEL_PLACE] = again
    with pytest.raises(DownloadError, match="cannot be fetched"):
        zoo.fetch("colours-8", mirror=server.url)
    assert files(cache) == []


def silent(request: Handler) -> None:
    time.sleep(3)


def silent_after_a_part(request: Handler) -> None:
    request.reply(MODEL[:100], length=len(MODEL))
    request.wfile.flush()
    time.sleep(3)


@pytest.mark.parametrize("answer", [silent, silent_after_a_part])
def test_a_silent_server_is_given_up(server: Server, cache: Path, answer: Callable[[Handler], None]) -> None:
    server.answers[MODEL_PLACE] = answer
    before = time.monotonic()
    with pytest.raises(DownloadError, match=r"`127\.0\.0\.1` does not answer in time") as caught:
        zoo.fetch("colours-8", mirror=server.url, timeout_s=0.2)
    assert time.monotonic() - before < 2.5
    assert "(0.2 s)" in caught.value.received
    assert files(cache) == []


def test_a_file_that_breaks_off_is_not_kept(server: Server, cache: Path) -> None:
    server.answers[MODEL_PLACE] = lambda request: request.reply(MODEL[:-10], length=len(MODEL))
    with pytest.raises(DownloadError, match="broke off"):
        zoo.fetch("colours-8", mirror=server.url)
    assert files(cache) == []


def test_a_log_in_page_in_place_of_a_model_is_not_kept(server: Server, cache: Path) -> None:
    page = b"\n<!DOCTYPE html><title>Guest network</title>"
    server.answers[MODEL_PLACE] = page
    with pytest.raises(DamagedModelError, match=r"not the published `colours\.tflite`") as caught:
        zoo.fetch("colours-8", mirror=server.url)
    assert f"{len(page)} bytes, a web page" in caught.value.received
    assert hashlib.sha256(page).hexdigest() in caught.value.received
    assert hashlib.sha256(MODEL).hexdigest() in caught.value.expected
    assert files(cache) == []


def test_a_wrong_label_file_is_not_kept_and_the_model_stays(server: Server, cache: Path) -> None:
    server.answers[LABELS_PLACE] = LABELS.replace(b"red", b"rot")
    with pytest.raises(DamagedModelError, match=r"colours\.txt"):
        zoo.fetch("colours-8", mirror=server.url)
    assert files(cache) == ["colours.tflite"]


def test_a_wrong_answer_leaves_a_damaged_file_as_it_was(server: Server, cache: Path) -> None:
    path = zoo.fetch("colours-8", mirror=server.url)
    path.write_bytes(b"damaged")
    server.answers[MODEL_PLACE] = b"wrong too"
    with pytest.raises(DamagedModelError):
        zoo.fetch("colours-8", mirror=server.url)
    assert path.read_bytes() == b"damaged"
    assert files(cache) == ["colours.tflite", "colours.txt"]


def test_an_answer_without_end_is_cut_off(server: Server, cache: Path) -> None:
    sent = 0

    def endless(request: Handler) -> None:
        nonlocal sent
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(bytes(65536))
            sent += 65536

    server.answers[MODEL_PLACE] = endless
    with pytest.raises(DamagedModelError, match="not the published"):
        zoo.fetch("colours-8", mirror=server.url)
    assert sent < 64 * 2**20  # what the sockets buffer, and not a full disk
    assert files(cache) == []


def test_a_length_that_is_no_number_is_an_error_of_the_tree(server: Server, cache: Path) -> None:
    def odd(request: Handler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "many")
        request.end_headers()
        request.wfile.write(MODEL)

    server.answers[MODEL_PLACE] = odd
    with pytest.raises((DamagedModelError, DownloadError)):
        zoo.fetch("colours-8", mirror=server.url)
    assert files(cache) == []


# --- proxies --------------------------------------------------------------------------------------


def test_a_proxy_of_the_environment_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    server.answers = {f"http://models.invalid{place}": data for place, data in server.answers.items()}
    assert zoo.fetch("colours-8", mirror="http://models.invalid").read_bytes() == MODEL


def test_no_proxy_is_used_where_the_environment_says_so(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert zoo.fetch("colours-8", mirror=server.url).read_bytes() == MODEL


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_proxy_is_named_without_its_password(scheme: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, port = f"{scheme}_proxy".upper(), closed_port()
    monkeypatch.setenv(name, f"http://me:secret@127.0.0.1:{port}")
    with pytest.raises(DownloadError, match="The proxy cannot be used") as caught:
        zoo.fetch("colours-8", mirror=f"{scheme}://models.invalid")
    assert f"{name}=http://***@127.0.0.1:{port}" in caught.value.received
    assert "Connection refused" in caught.value.received
    assert f"`unset {name}`" in caught.value.next_step
    assert "secret" not in str(caught.value)
    assert files(cache) == []


def test_a_proxy_that_refuses_to_connect_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", server.url)
    with pytest.raises(DownloadError, match="The proxy cannot be used") as caught:
        zoo.fetch("colours-8")
    assert "403" in caught.value.received
    assert server.asked == ["CONNECT raw.githubusercontent.com:443"]


def test_a_server_that_speaks_no_tls_gives_no_secure_connection(server: Server) -> None:
    with pytest.raises(DownloadError, match="no secure connection") as caught:
        zoo.fetch("colours-8", mirror=server.url.replace("http:", "https:"))
    assert "date" in caught.value.next_step


# --- the cache ------------------------------------------------------------------------------------


def test_a_cache_that_cannot_be_made_is_an_output_error(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cache cannot be written") as caught:
        zoo.fetch("colours-8", mirror=server.url)
    assert "XDG_CACHE_HOME" in caught.value.next_step


def test_a_cache_without_permission_is_an_output_error(server: Server, cache: Path) -> None:
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    cache.mkdir()
    cache.chmod(0o500)
    with pytest.raises(OutputError, match="cache cannot be written: Permission denied"):
        zoo.fetch("colours-8", mirror=server.url)
    cache.chmod(0o700)
    assert files(cache) == []


def test_a_folder_in_the_files_place_is_an_output_error(server: Server, cache: Path) -> None:
    place = cache / "edgeinfer" / "models" / "colours-8" / "colours.tflite"
    place.mkdir(parents=True)
    with pytest.raises(OutputError, match="A folder stands"):
        zoo.fetch("colours-8", mirror=server.url)
    assert files(cache) == []


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(OutputError) as caught:
        zoo.fetch("colours-8")
    assert "XDG_CACHE_HOME" in caught.value.next_step


def start_fetching(server: Server, before: str = "") -> subprocess.Popen[str]:
    """Fetch what `server` hands out as `/big` in a process of its own, through the command line's error handling."""
    code = f"""
import sys
from pathlib import Path
from edgeinfer.command import run_command
from edgeinfer.zoo.fetch import cache_folder
from edgeinfer.zoo.download import download
from edgeinfer.zoo.published import PublishedFile
{before}
big = PublishedFile("owner/name", "0" * 40, "big.tflite", "{hashlib.sha256(bytes(500_000)).hexdigest()}", 500_000)
def run():
    download(big, cache_folder() / "big" / "big.tflite", url="{server.url}/big")
    return 0
sys.exit(run_command(run, []))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)


def test_a_full_disk_is_exit_code_3_and_leaves_nothing(server: Server, cache: Path) -> None:
    server.answers["/big"] = bytes(500_000)
    # A file that may not grow fails as a full disk does, and takes no root to make.
    limit = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); sys.dont_write_bytecode = 1"
    )
    with start_fetching(server, limit) as child:
        _, said = child.communicate(timeout=60)
    assert child.returncode == 3
    assert "OutputError: The cache cannot be written: File too large" in said
    assert "Traceback" not in said
    assert files(cache) == []


def test_ctrl_c_leaves_nothing(server: Server, cache: Path) -> None:
    begun = threading.Event()

    def slow(request: Handler) -> None:
        request.reply(bytes(100_000), length=500_000)
        request.wfile.flush()
        begun.set()
        time.sleep(10)

    server.answers["/big"] = slow
    with start_fetching(server) as child:
        assert begun.wait(30)
        while not files(cache):  # the temporary file
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in said
    assert files(cache) == []
