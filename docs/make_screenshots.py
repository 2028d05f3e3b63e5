"""Make the pictures of the page that the documentation shows: a video, a detection model, a real browser.

    EDGEINFER_TEST_DATA=... python docs/make_screenshots.py

It needs selenium, Chromium and chromedriver. The video is `one-by-one-person-detection.mp4` of intel-iot-devkit's
sample videos, CC BY 4.0: say so beside the pictures.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

from edgeinfer import Camera, DetectionOptions, Live, Page, detector, read_labels

HERE = Path(__file__).parent
SIZES = {"page-desktop.png": (1280, 800, "light"), "page-phone.png": (390, 844, "dark")}
OPTIONS = "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
# Until the line of the latest minute is whole.
MINUTE_S = 62
# Somebody is in full sight, and the model is as sure as it gets in this video (0.82).
FRAMES, NUMBERS = 1394, range(780, 846)


def main() -> None:
    """Play the video in a circle, and photograph the page."""
    data = Path(os.environ["EDGEINFER_TEST_DATA"])
    detect = detector(
        data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite",
        labels=read_labels(data / "detection" / "COCO_labels.txt"),
        options=DetectionOptions(confidence=0.5),
        threads=1,
    )
    video = data / "video" / "one-by-one-person-detection.mp4"
    with (
        Camera(video, realtime=True, repeat=True) as camera,
        Page("127.0.0.1:0") as page,
        Live(camera, {"ssd_mobilenet_v1": detect}) as live,
        tempfile.TemporaryDirectory() as profile,
    ):
        page.follow(live.status)
        good = threading.Event()
        loop = threading.Thread(target=_show, args=(live, page, good))
        loop.start()
        try:
            _photograph(page.url, profile, good)
        finally:
            live.stop()
            loop.join()


def _show(live: Live, page: Page, good: threading.Event) -> None:
    """Do what a program does with its frames, and say when a good one is on the page."""
    for shown in live:
        page.write(shown)
        if shown.frame.number % FRAMES in NUMBERS:
            good.set()
        else:
            good.clear()


def _photograph(url: str, profile: str, good: threading.Event) -> None:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for option in (*OPTIONS.split(), f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.binary_location = shutil.which("chromium") or ""
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.get(url)
        time.sleep(MINUTE_S)
        for name, (width, height, scheme) in SIZES.items():
            screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            good.wait()
            time.sleep(2)  # the figures are asked for once a second
            browser.save_screenshot(str(HERE / name))
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
