from __future__ import annotations

import gc
import io
import json
import re
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import numpy as np
import pytest
from page_client import Client, number_in, open_files, shown_of

from edgeinfer.errors import InputError, MissingDependencyError, OutputError
from edgeinfer.live.shown import Status
from edgeinfer.preprocess import libraries
from edgeinfer.preview.page import Page
from edgeinfer.results import Classifications

TOKEN = "correct-horse"


def test_the_page_is_one_file_that_asks_no_other_server(client: Client) -> None:
    status, fields, body = client.get("/")
    assert status == 200
    assert fields["Content-Type"] == "text/html; charset=utf-8"
    links = re.findall(rb"""(?:src|href|url\(|action)\s*=?\s*["']?(?:https?:)?//[^"' ]+""", body)
    assert not links


def test_the_pages_own_policy_lets_only_itself_run(client: Client) -> None:
    policy = client.get("/")[1]["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert len(re.findall(r"'sha256-[A-Za-z0-9+/]{43}='", policy)) == 2


def test_the_latest_picture_is_a_jpeg(page: Page, client: Client) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    status, fields, _ = client.get("/frame.jpg")
    assert status == 503
    assert fields["Retry-After"] == "1"
    page.write(shown_of())
    status, fields, body = client.get("/frame.jpg")
    assert (status, fields["Content-Type"], fields["Cache-Control"]) == (200, "image/jpeg", "no-store")
    with pillow.open(io.BytesIO(body)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (160, 120))


def test_the_stream_is_motion_jpeg(page: Page, client: Client) -> None:
    page.write(shown_of(5))
    with client.stream() as viewer:
        kind = viewer.reply.headers["Content-Type"]
        jpeg = viewer.picture()
    assert kind.startswith("multipart/x-mixed-replace; boundary=")
    assert number_in(jpeg) == 5
    assert jpeg == client.get("/frame.jpg")[2]


def test_opencv_reads_the_stream_as_it_reads_a_network_camera(page: Page) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    grey = np.full((120, 160, 3), 90, np.uint8)
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.wait(0.02):
            page.write(shown_of(number, pixels=grey.copy(), numbers=np.zeros(1)))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    capture = cv2.VideoCapture(f"{page.url}stream.mjpg")
    try:
        if not capture.isOpened():
            pytest.skip("this OpenCV opens no streams")
        read, pixels = capture.read()
    finally:
        capture.release()
        ended.set()
        writer.join()
    assert read
    assert np.abs(pixels.astype(int) - 90).max() <= 4


def test_the_status_has_the_loops_figures_and_the_answers(page: Page, client: Client) -> None:
    page.write(shown_of(status=Status(source="camera 0", fps=9.5)))
    status, fields, body = client.get("/status.json")
    said = json.loads(body)
    assert (status, fields["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert (said["source"], said["fps"], said["viewers"]) == ("camera 0", 9.5, 0)
    assert said["answers"][0]["rows"][0]["label"] == "person"
    assert said["answers"][0]["text"] == "person 0.870 at (10, 30, 60, 90)"


def test_a_label_stays_text_in_the_status(page: Page, client: Client) -> None:
    label = '</script><img src=x onerror="alert(1)">\u2028\ud800'
    page.write(shown_of(names=Classifications(np.array([0]), np.array([0.5], np.float32), (label,))))
    body = client.get("/status.json")[2]
    assert json.loads(body)["answers"][0]["rows"][0]["label"] == label


def test_a_loop_that_is_followed_is_heard_before_its_first_frame(page: Page, client: Client) -> None:
    page.follow(lambda: Status(source="camera 0", trouble="The camera is gone."))
    assert json.loads(client.get("/status.json")[2])["trouble"] == "The camera is gone."


def test_writing_neither_waits_nor_draws(page: Page) -> None:
    shown = shown_of(pixels=np.zeros((720, 1280, 3), np.uint8))
    begin = time.monotonic()
    for _ in range(1000):
        assert page.write(shown)
    assert time.monotonic() - begin < 1.0  # drawn or encoded each time it would take several seconds
    assert page.encoded == 0


def test_closing_ends_viewers_thread_and_files_within_a_second() -> None:
    files, threads = open_files(), threading.active_count()
    page = Page("0")
    client = Client(page)
    page.write(shown_of())
    viewers = [client.stream() for _ in range(5)]
    silent = client.connect()
    assert {viewer.number() for viewer in viewers} == {0}
    assert page.viewers == 5
    begin = time.monotonic()
    page.close()
    assert time.monotonic() - begin < 1.0
    assert threading.active_count() == threads
    for viewer in viewers:
        assert viewer.picture() == b""
        viewer.__exit__()
    assert silent.recv(1) == b""
    silent.close()
    page.close()
    assert open_files() == files


def test_pages_come_and_go_and_nothing_grows() -> None:
    files = open_files()
    for _ in range(20):
        with Page("0") as page:
            page.write(shown_of())
            assert Client(page).get("/frame.jpg")[0] == 200
    assert open_files() == files


def test_a_page_can_have_the_port_of_one_that_was_just_closed() -> None:
    with Page("0") as first:
        port = urlsplit(first.url).port
        client = Client(first)
        first.write(shown_of())
        viewer = client.stream()
        viewer.picture()
    with Page(f"127.0.0.1:{port}") as second:
        assert second.url == first.url
    viewer.__exit__()


def test_a_closed_page_takes_no_frames() -> None:
    with Page("0") as page:
        pass
    with pytest.raises(OutputError, match="closed"):
        page.write(shown_of())


def test_a_taken_port_leaves_nothing_open(page: Page) -> None:
    files = open_files()
    with pytest.raises(OutputError, match="taken"):
        Page(f"127.0.0.1:{urlsplit(page.url).port}")
    assert open_files() == files


def test_an_ipv6_address_serves_too() -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6")
    with Page("[::1]:0") as page:
        assert page.url.startswith("http://[::1]:")
        assert Client(page).get("/")[0] == 200


@pytest.mark.parametrize(
    "settings",
    [
        {"quality": 0},
        {"quality": 101},
        {"quality": 80.5},
        {"quality": True},
        {"max_width": 0},
        {"max_fps": 0},
        {"max_fps": float("nan")},
        {"max_fps": "15"},
        {"max_viewers": 0},
    ],
    ids=repr,
)
def test_a_setting_out_of_its_range_is_named(settings: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        Page("0", **settings)  # type: ignore[arg-type]


def test_without_opencv_and_pillow_the_cure_comes_before_the_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:  # this environment has both
        raise MissingDependencyError("Pillow cannot be imported.", next_step="pip install pillow")

    monkeypatch.setattr(libraries, "opencv", lambda: None)
    monkeypatch.setattr(libraries, "pillow", missing)
    with pytest.raises(MissingDependencyError, match="pip install"):
        Page("0")


def test_others_on_the_network_need_a_token() -> None:
    with pytest.raises(InputError, match="--token"):
        Page("0.0.0.0:0")
    with Page("0.0.0.0:0", token=TOKEN) as page:
        assert "0.0.0.0" not in page.url
        assert TOKEN not in page.url


class TestToken:
    @pytest.fixture
    def client(self) -> object:
        with Page("0", token=TOKEN) as page:
            page.write(shown_of())
            yield Client(page)

    @pytest.mark.parametrize("path", ["/", "/frame.jpg", "/stream.mjpg", "/status.json", "/none", "/?token=wrong"])
    def test_without_it_there_is_nothing_to_see(self, path: str, client: Client) -> None:
        status, fields, body = client.get(path)
        assert status == 401
        assert fields["WWW-Authenticate"] == "Bearer"
        assert b"\xff\xd8" not in body
        assert TOKEN.encode() not in body

    def test_in_the_address_it_becomes_a_cookie(self, client: Client) -> None:
        status, fields, body = client.get(f"/?token={TOKEN}")
        assert (status, fields["Location"], body) == (303, "/", b"")
        cookie = fields["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        for path in ("/", "/frame.jpg", "/status.json"):
            assert client.get(path, Cookie=cookie.partition(";")[0])[0] == 200

    def test_programs_send_it_in_a_header_or_with_the_stream(self, client: Client) -> None:
        assert client.get("/frame.jpg", Authorization=f"Bearer {TOKEN}")[0] == 200
        assert client.get(f"/frame.jpg?token={TOKEN}")[0] == 200
        with client.stream(Authorization=f"Bearer {TOKEN}") as viewer:
            assert viewer.number() == 0

    def test_with_it_any_name_of_the_device_will_do(self, client: Client) -> None:
        assert client.get("/status.json", Host="camera.local:8080", Authorization=f"Bearer {TOKEN}")[0] == 200


def test_a_name_that_was_made_to_resolve_here_is_refused_with_the_cure(client: Client) -> None:
    status, _, body = client.get("/frame.jpg", Host="evil.example")
    assert status == 403
    assert f"ssh -L {client.port}:localhost:{client.port}".encode() in body
    assert client.get("/status.json", Host="localhost:1234")[0] == 200


def test_no_other_site_is_let_in_by_the_answers(page: Page, client: Client) -> None:
    page.write(shown_of())
    for path in ("/", "/frame.jpg", "/status.json"):
        fields = client.get(path, Origin="https://evil.example")[1]
        assert fields["Cross-Origin-Resource-Policy"] == "same-origin"
        assert not [name for name in fields if name.lower().startswith("access-control")]


def test_what_only_a_page_needs_is_loaded_with_the_first_page() -> None:
    code = "import sys, edgeinfer.preview.page; print(sorted({'cv2', 'PIL', 'hashlib', 'http'} & {*sys.modules}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


def test_a_page_that_nobody_holds_is_closed() -> None:
    files, threads = open_files(), threading.active_count()
    page = Page("0")
    page.write(shown_of())
    assert Client(page).get("/frame.jpg")[0] == 200
    del page
    gc.collect()
    assert (open_files(), threading.active_count()) == (files, threads)


def test_a_forgotten_page_does_not_keep_a_program_alive() -> None:
    code = "from edgeinfer.preview.page import Page; page = Page('0'); print(page.url)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert out.stdout.startswith("http://127.0.0.1:")
    assert out.stderr == ""
