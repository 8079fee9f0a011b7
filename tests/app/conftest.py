"""The real app in a process of its own, once for all tests of this folder."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT = 120
#: What Gradio's client says of its streams when a page is reloaded in the middle of them.
LEAVING = ("AbortError: BodyStreamBuffer was aborted", "Unexpected error Connection errored out")
#: And what it also may say, of a page that was really left: one stream cut while another of its session opens.
LEFT = (*LEAVING, "AbortError: signal is aborted without reason", "Unexpected error 404: Not Found")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream",
         "--use-fake-ui-for-media-stream"]  # fmt: skip


def start(folder: Path, script: tuple[str, ...] = ("app.py",), **settings: str) -> tuple[subprocess.Popen, str]:
    """Start ``python app.py`` as the README says; its process and its address."""
    log_path = folder / "log.txt"
    with socket.socket() as free:  # of its own: servers of tests beside this one look for ports too
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "GRADIO_TEMP_DIR": str(folder / "cache"), "WAN_CACHE": str(folder / "memo"),
        "WAN_OUTPUTS": str(folder / "outputs"), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1", "NO_PROXY": "localhost,127.0.0.1", "GRADIO_SERVER_PORT": str(port), **settings,
    }  # fmt: skip
    with log_path.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *script], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        return process, _address(process, log_path)
    except BaseException:
        process.kill()
        raise


def stop(process: subprocess.Popen) -> None:
    """End a server and whatever it has forked."""
    process.terminate()
    process.wait(30)
    with suppress(ProcessLookupError):  # nothing was left
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def served(folder: Path, **settings: str) -> Iterator[str]:
    """The app for as long as it is needed; yields its address."""
    process, address = start(folder, **settings)
    try:
        yield address
    finally:
        stop(process)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium with a microphone that beeps."""
    path = shutil.which("chromium")
    assert path, "these tests need Debian's chromium; .ci/run installs it"
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app with its built-in model."""
    with served(tmp_path_factory.mktemp("app")) as address:
        yield address


def _address(process: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if found:
            return found[0]
        time.sleep(0.2)
    raise AssertionError("the app did not start:\n" + log.read_text()[-3000:])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of a user: not the model's size, not its world."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (300, 200), (140, 190, 240))
    ImageDraw.Draw(image).ellipse((110, 60, 190, 140), fill=(220, 30, 30))
    path = tmp_path / "photo.png"
    image.save(path)
    return path


@contextmanager
def quiet(page: Page) -> Iterator[None]:
    """Whatever is done to a page, its console must say nothing of errors."""
    said, documents = [], []
    page.on("domcontentloaded", lambda loaded: documents.append(loaded.url))
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    yield
    excused = LEFT if len(documents) > 1 else LEAVING
    assert [text for text in said if not text.startswith(excused)] == []


def plays(page: Page, seconds: float, fps: int = 16, size: tuple[int, int] = (128, 128)) -> Locator:
    """The open tab's video, once it plays and is found to be as long and as large as was planned."""
    video = page.locator(".stage video:visible")
    expect(video).to_be_visible(timeout=120_000)
    ready = "() => [...document.querySelectorAll('.stage video')].some(v => v.offsetParent && v.readyState >= 3)"
    page.wait_for_function(ready, timeout=60_000)
    assert abs(video.evaluate("v => v.duration") - seconds) <= 1 / fps
    assert video.evaluate("v => [v.videoWidth, v.videoHeight]") == list(size)
    return video


@pytest.fixture
def page(app: str, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    with closing(context), quiet(page):
        page.goto(app)
        # the last thing a loading page changes: whatever is typed before may be laid over once more
        expect(page.locator("#head .badge")).to_contain_text("CPU", timeout=60_000)
        yield page
