"""The Reference tab and its endpoint, on a small random HuMo, through the running app."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Page, expect

from tests.app.conftest import plays, quiet, served
from tests.app.test_api import video_of
from tests.core.test_audio import wav
from tests.core.test_reference import checkpoint, probe
from wan_core.plan import Plan
from wan_core.specs import SPECS
from wan_core.studio.jobs import Jobs
from wan_core.studio.ledger import Ledger
from wan_core.studio.queue import Queue
from wan_core.types import Request
from wan_core.ui.desk import Desk
from wan_core.ui.page import build

MINUTE = 60_000
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def humo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("humo")
    model = checkpoint(folder / "model", "humo1")
    # a recipe of its own, small enough to try the page with
    recipe = {"recipe": {"size": [64, 64], "steps": 2}}
    (model / "recipe.json").write_text(json.dumps(recipe))
    with served(folder, WAN_MODEL=str(model), WAN_DTYPE="float32") as address:
        yield address


@pytest.fixture
def client(humo: str, tmp_path: Path) -> Client:
    return Client(humo, verbose=False, download_files=str(tmp_path), analytics_enabled=False)


@pytest.fixture
def page(humo: str, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 1200}, permissions=["microphone"])
    page = context.new_page()
    with closing(context), quiet(page):
        page.goto(humo)
        page.get_by_role("tab", name="Reference").click()
        expect(page.get_by_role("button", name="Generate")).to_be_visible(timeout=MINUTE)
        yield page


def heard(page: Page) -> None:
    """The result that is shown has a sound track."""
    videos = "[...document.querySelectorAll('.stage video')]"
    decoded = f"() => {videos}.some(v => v.offsetParent && v.webkitAudioDecodedByteCount)"
    page.wait_for_function(decoded, timeout=MINUTE)


def given(page: Page, picture: bool = False) -> None:
    """The voice, and the picture, have arrived: what is shown of them comes from the server."""
    expect(page.locator("a[href*='gradio_api/file=']").first).to_be_visible(timeout=MINUTE)
    if picture:
        expect(page.locator("img[src*='gradio_api/file=']:visible").first).to_be_visible(timeout=MINUTE)


def test_picture_and_voice_on_the_page(page: Page, photo: Path, tmp_path: Path) -> None:
    page.locator("input[type=file][accept*=image]").first.set_input_files(str(photo))
    page.locator("input[type=file][accept*=audio]").first.set_input_files(
        str(wav(tmp_path / "voice.wav", 16000, 1, 1.0))
    )
    page.get_by_label("Prompt", exact=True).fill("a red star")
    given(page, picture=True)
    page.get_by_role("button", name="Generate").click()
    plays(page, 1.0, 25, (64, 64))
    heard(page)


def test_a_voice_from_the_microphone(page: Page) -> None:
    page.get_by_label("Prompt", exact=True).fill("a red star")
    page.get_by_role("button", name="Record audio").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1200)  # what is recorded takes its time
    page.get_by_role("button", name="Stop", exact=True).click()
    given(page)
    page.get_by_role("button", name="Generate").click()
    video = page.locator(".stage video:visible")
    expect(video).to_be_visible(timeout=2 * MINUTE)
    heard(page)
    assert 0.3 < video.evaluate("v => v.duration") < 5


def test_somebody_from_the_page_says_a_sentence(app: str, browser: Browser) -> None:
    """The built-in speaker, from one click to a video with sound."""
    page = browser.new_page(viewport={"width": 1280, "height": 1400})
    with quiet(page):
        page.goto(app)
        page.get_by_role("tab", name="Reference").click()
        page.get_by_role("button", name="Pip").click()
        prompt = page.get_by_role("textbox", name="Prompt", exact=True)
        expect(prompt).to_have_value("talking in the middle, hopping, on green grass", timeout=MINUTE)
        expect(page.get_by_text("3.0 s (48 frames")).to_be_visible(timeout=MINUTE)
        page.get_by_role("button", name="Generate").click()
        plays(page, 3.0)
        heard(page)
        expect(page.get_by_text("lip sync")).to_be_visible(timeout=MINUTE)
    page.close()


def test_models_without_the_mode_name_those_that_have_it(tmp_path: Path) -> None:
    words, names = page_of("wan2.2-ti2v-5b", folder=tmp_path)
    assert "humo-1.7b" in words
    assert "reference_to_video" not in names


def test_models_share_the_tabs_and_the_page_says_which_makes_what(tmp_path: Path) -> None:
    words, names = page_of("wan2.2-ti2v-5b", "humo-1.7b", folder=tmp_path)
    assert "Made by humo-1.7b: wan2.2-ti2v-5b does not serve this tab" in words
    assert {"text_to_video", "image_to_video", "reference_to_video"} <= names


def page_of(*models: str, folder: Path) -> tuple[str, set[str]]:
    """All that stands on a page of some models, and its endpoints."""

    def check(request: Request) -> Plan:
        raise AssertionError(request)

    ledger = Ledger(Jobs(folder))
    desk = Desk(ledger, Queue(ledger, lambda _: None), check)
    config = build([SPECS[name] for name in models], lambda: "", desk).get_config_file()
    words = " ".join(str(c["props"].get("value")) for c in config["components"])
    return words, {d["api_name"] for d in config["dependencies"]}


def test_a_picture_and_a_voice_make_a_video_with_sound(client: Client, photo: Path, tmp_path: Path) -> None:
    voice = wav(tmp_path / "voice.wav", 22050, 2, 0.6)
    video, recipe, _ = client.predict(
        prompt="a red star", reference_images=[handle_file(str(photo))], audio=handle_file(str(voice)), width=64,
        height=64, num_inference_steps=2, seed=4, api_name="/reference_to_video",
    )  # fmt: skip
    frames, seconds = probe(video_of(video))
    assert recipe["seed"] == 4
    assert frames == round(0.6 * 25)
    assert abs(seconds - frames / 25) <= 1 / 25


def test_what_is_no_sound_is_told(client: Client, photo: Path, tmp_path: Path) -> None:
    text = tmp_path / "voice.wav"
    text.write_text("not a sound")
    with pytest.raises(AppError, match="no sound that can be read"):
        client.predict(prompt="a red star", audio=handle_file(str(text)), api_name="/reference_to_video")


def test_neither_picture_nor_voice_is_told(client: Client) -> None:
    with pytest.raises(AppError, match="needs a picture or a voice"):
        client.predict(prompt="a red star", api_name="/reference_to_video")
