"""The page in a real browser: Debian's Chromium, headless, driven through selenium."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from page_client import shown_of, wait_until

from edgeinfer.health import Health
from edgeinfer.live.shown import Status
from edgeinfer.preview.page import Page
from edgeinfer.results import Classifications, Detections, Keypoints, Mask
from edgeinfer.timing import Latency

webdriver: Any = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium and its driver are not installed")

PHONE, DESKTOP = (390, 844), (1280, 800)
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
RED, BLUE = (200, 20, 30), (20, 40, 190)
STATUS = Status(
    source="camera 0",
    models=("ssd", "scene"),
    shown=300,
    dropped=100,
    fps=12.5,
    capture=Latency(33.0, 34.0, 35.0, 36.0),
    stages={"pre": 1.25, "invoke": 40.0, "post": 0.5},
    output=Latency(2.0, 2.0, 2.0, 2.0),
    health=Health(61.5, ("under-voltage",), "ondemand"),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(option)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def look(browser: Any, page: Page) -> Iterator[Callable[..., Any]]:
    """Opens the page at a size, and at the end goes away and looks whether the console had anything to say."""

    def at(size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Any:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get(page.url)
        return browser

    browser.get_log("browser")
    yield at
    browser.get("about:blank")
    assert [entry["message"] for entry in browser.get_log("browser")] == []


@contextmanager
def written(page: Page, *frames: Callable[[int], Any]) -> Iterator[None]:
    """Write answered frames in turns, 25 a second, as a loop does."""
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.wait(0.04):
            page.write(frames[number % len(frames)](number))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join()


def text(browser: Any, name: str) -> str:
    return str(browser.execute_script("return document.getElementById(arguments[0]).innerText", name))


def centre(browser: Any) -> tuple[int, ...]:
    """The colour in the middle of the picture that is on the screen."""
    return tuple(
        browser.execute_script("""
            const picture = document.getElementById("picture"), canvas = document.createElement("canvas");
            if (!picture.naturalWidth) return [0, 0, 0];
            canvas.width = canvas.height = 1;
            const context = canvas.getContext("2d");
            context.drawImage(picture, picture.naturalWidth / 2, picture.naturalHeight / 2, 1, 1, 0, 0, 1, 1);
            return Array.from(context.getImageData(0, 0, 1, 1).data.slice(0, 3));
        """)
    )


def plain(colour: tuple[int, int, int], **more: Any) -> Callable[[int], Any]:
    """Frames of one colour."""
    return lambda number: shown_of(number, pixels=np.full((120, 160, 3), colour, np.uint8), **more)


def close(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return bool(np.abs(np.subtract(one, other)).max() <= 12)


def test_the_picture_is_live(page: Page, look: Callable[..., Any]) -> None:
    with written(page, *[plain(RED)] * 10, *[plain(BLUE)] * 10):
        browser = look()
        wait_until(lambda: close(centre(browser), RED))
        wait_until(lambda: close(centre(browser), BLUE))
        wait_until(lambda: close(centre(browser), RED))
        assert page.viewers == 1
        wait_until(lambda: text(browser, "state") == "Live")
        assert not browser.execute_script("return document.getElementById('banner').checkVisibility()")
        assert not browser.execute_script("return document.getElementById('waiting').checkVisibility()")


def test_the_last_picture_shows_although_none_follows(page: Page, look: Callable[..., Any]) -> None:
    page.write(plain(BLUE)(0))
    browser = look()
    wait_until(lambda: close(centre(browser), BLUE))


def test_the_figures_are_those_of_the_loop(page: Page, look: Callable[..., Any]) -> None:
    with written(page, plain(RED, status=STATUS)):
        browser = look()
        wait_until(lambda: text(browser, "fps") == "12.5")
        assert text(browser, "source") == "camera 0"
        assert text(browser, "models") == "ssd, scene"
        assert text(browser, "dropped") == "100 25 %"
        assert text(browser, "age").endswith("ms")
        assert text(browser, "stages").split("\n") == [
            "Capture", "33 ms", "Pre", "1.3 ms", "Invoke", "40 ms", "Post", "0.5 ms", "Output", "2.0 ms",
        ]  # fmt: skip
        assert text(browser, "temperature") == "61.5 °C"
        assert text(browser, "throttling") == "under-voltage"
        assert text(browser, "governor") == "ondemand"
        assert browser.title == "camera 0 \N{EN DASH} edgeinfer"
        wait_until(lambda: text(browser, "viewers") == "1")


def test_every_tasks_answers_are_text(page: Page, look: Callable[..., Any]) -> None:
    results = {
        "scene": Classifications(np.array([1, 0]), np.array([0.9, 0.1], np.float32), ("street", "shop")),
        "ssd": Detections(np.zeros((7, 4), np.float32), np.full(7, 0.5, np.float32), np.zeros(7, np.int64), ("dog",)),
        "mask": Mask(np.zeros((120, 160), np.uint8), ("ground",)),
        "body": Keypoints(np.zeros((1, 2, 2), np.float32), np.array([[0.9, 0.1]], np.float32)),
        "numbers": np.arange(3),
    }
    with written(page, plain(RED, **results)):
        browser = look()
        wait_until(lambda: text(browser, "answers") != "")
        lines = text(browser, "answers").split("\n")
        alt = str(browser.execute_script("return document.getElementById('picture').alt"))
    assert [line for line in lines if line] == [
        "scene", "street", "90 %", "shop", "10 %",
        "ssd", *["dog", "50 %"] * 4, "and 3 more",
        "mask", "ground", "100 %",
        "body", "Body 1", "1 of 2 points",
        "numbers", "[0 1 2]",
    ]  # fmt: skip
    assert alt.startswith("Live picture, with street, shop, dog")


def test_a_label_is_never_markup(page: Page, look: Callable[..., Any]) -> None:
    label = '<img src=x onerror="window.caught=1"><script>window.caught=1</script>'
    names = Classifications(np.array([0]), np.array([0.5], np.float32), (label,))
    status = Status(source=label, models=(label,), trouble=label, health=Health(throttled=(label,), governor=label))
    with written(page, plain(RED, names=names, status=status)):
        browser = look()
        wait_until(lambda: label in text(browser, "answers"))
        assert text(browser, "banner") == text(browser, "source") == text(browser, "governor") == label
        assert browser.execute_script("return window.caught") is None


@pytest.mark.parametrize("size", [PHONE, (320, 568), (768, 1024), DESKTOP], ids=["phone", "small", "tablet", "desktop"])
def test_no_screen_has_to_be_scrolled_sideways(size: tuple[int, int], page: Page, look: Callable[..., Any]) -> None:
    word = "a_very_long_name_without_a_blank_" * 5
    names = Classifications(np.array([0]), np.array([0.5], np.float32), (word,))
    status = Status(
        source=word, models=(word,), dropped=1234567, fps=1234.5, trouble=word, health=Health(80.5, (word,), word)
    )
    with written(page, plain(RED, names=names, status=status)):
        browser = look(size)
        wait_until(lambda: word in text(browser, "answers"))
        wide, there = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert there == size[0]
    assert wide <= size[0]


def test_on_a_desktop_all_of_it_is_seen_without_scrolling(page: Page, look: Callable[..., Any]) -> None:
    pixels = np.zeros((720, 1280, 3), np.uint8)
    with written(page, lambda number: shown_of(number, pixels=pixels.copy(), status=STATUS)):
        browser = look()
        wait_until(lambda: text(browser, "state") == "Live")
        high = browser.execute_script("return document.documentElement.scrollHeight")
    assert high <= DESKTOP[1]


def test_trouble_stands_in_a_banner_that_a_screen_reader_reads(page: Page, look: Callable[..., Any]) -> None:
    with written(page, plain(RED, status=Status(trouble="The camera is gone; trying again."))):
        browser = look()
        wait_until(lambda: text(browser, "banner") == "The camera is gone; trying again.")
        assert text(browser, "state") == "Trouble"
        assert browser.execute_script("return document.getElementById('banner').getAttribute('role')") == "alert"
    with written(page, plain(RED)):
        wait_until(lambda: text(browser, "state") == "Live")
        assert not browser.execute_script("return document.getElementById('banner').checkVisibility()")


def test_a_loop_that_stands_still_is_told(page: Page, look: Callable[..., Any]) -> None:
    page.write(plain(RED)(0))
    browser = look()
    wait_until(lambda: text(browser, "banner").startswith("No new picture for"))
    assert text(browser, "fps") == "0.0"
    assert text(browser, "age").endswith(" s")


def test_the_page_comes_back_when_the_server_does(browser: Any) -> None:
    # The console tells each failed request, so without `look`.
    with Page("0") as first:
        port = urlsplit(first.url).port
        first.write(plain(RED)(0))
        browser.get(first.url)
        wait_until(lambda: close(centre(browser), RED))
    wait_until(lambda: text(browser, "state") == "No connection")
    with Page(f"127.0.0.1:{port}") as second, written(second, plain(BLUE)):
        wait_until(lambda: close(centre(browser), BLUE))
        wait_until(lambda: text(browser, "state") == "Live")
        browser.get("about:blank")


def test_a_pause_needs_only_a_keyboard_and_spares_the_device(page: Page, look: Callable[..., Any]) -> None:
    with written(page, *[plain(RED)] * 3, *[plain(BLUE)] * 3):
        browser = look()
        wait_until(lambda: page.viewers == 1)
        browser.switch_to.active_element.send_keys("\ue004")  # Tab
        button = browser.switch_to.active_element
        assert button.accessible_name == "Pause the picture"
        button.send_keys(" ")
        wait_until(lambda: page.viewers == 0)
        wait_until(lambda: centre(browser) != (0, 0, 0))
        seen = {centre(browser) for _ in range(30)}
        assert len(seen) == 1
        wait_until(lambda: text(browser, "state") == "Paused")
        button.send_keys(" ")
        wait_until(lambda: page.viewers == 1)
        wait_until(lambda: text(browser, "state") == "Live")


def test_a_page_in_the_background_asks_for_no_pictures(page: Page, look: Callable[..., Any]) -> None:
    with written(page, plain(RED)):
        browser = look()
        wait_until(lambda: page.viewers == 1)
        first = browser.current_window_handle
        browser.switch_to.new_window("tab")
        wait_until(lambda: page.viewers == 0)
        browser.close()
        browser.switch_to.window(first)
        wait_until(lambda: page.viewers == 1)


def test_the_page_follows_the_systems_light_and_dark(page: Page, look: Callable[..., Any]) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        browser = look(scheme=scheme)
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        seen[scheme] = sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
    assert seen["light"] > 600
    assert seen["dark"] < 100


def test_whoever_has_the_token_types_it_in_once(browser: Any) -> None:
    # The console tells the refused request, so without `look`.
    with Page("0", token="correct-horse") as page, written(page, plain(RED)):
        browser.get(page.url)
        assert browser.title == "edgeinfer"
        field = browser.find_element("id", "token")
        field.send_keys("wrong-horse\n")
        wait_until(lambda: "not the right one" in browser.find_element("tag name", "form").text)
        assert "wrong-horse" not in browser.current_url
        browser.find_element("id", "token").send_keys("correct-horse\n")
        wait_until(lambda: browser.find_elements("id", "picture") != [])
        wait_until(lambda: close(centre(browser), RED))
        assert browser.current_url == page.url
        assert browser.execute_script("return document.cookie") == ""
        browser.get(page.url)
        wait_until(lambda: close(centre(browser), RED))
        browser.get("about:blank")
