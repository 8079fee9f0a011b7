"""Video to video on a small random VACE, through the running app."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.app.conftest import plays, quiet, served
from tests.app.test_api import read, video_of
from tests.core.test_vace import checkpoint
from tests.core.test_video import greys, written

MINUTE = 60_000
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def vace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("vace")
    checkpoint().save_pretrained(folder / "model")
    recipe = {"recipe": {"size": [64, 32], "steps": 2, "frames": 9}}
    (folder / "model" / "recipe.json").write_text(json.dumps(recipe))
    with served(folder, WAN_MODEL=str(folder / "model"), WAN_DTYPE="float32") as address:
        yield address


def test_a_program_changes_part_of_a_video(vace: str, photo: Path, tmp_path: Path) -> None:
    client = Client(vace, verbose=False, download_files=str(tmp_path), analytics_enabled=False)
    source, mask = written(tmp_path / "x.mp4", greys(13)), tmp_path / "mask.png"
    Image.new("RGB", (64, 32), "white").save(mask)
    video, recipe, _ = client.predict(
        prompt="a red star", video=handle_file(source), mask=handle_file(mask), seed=3, conditioning_scale=0.5,
        reference_images=[handle_file(photo)], api_name="/reference_to_video",
    )  # fmt: skip
    assert read(video_of(video))[1].shape == (13, 32, 64, 3)  # as long as what was given
    assert (recipe["mode"], recipe["conditioning_scale"]) == ("reference", 0.5)
    with pytest.raises(AppError, match="a mask says what of a video is changed"):
        client.predict(
            prompt="a", mask=handle_file(mask), reference_images=[handle_file(photo)], api_name="/reference_to_video"
        )
    broken = tmp_path / "broken.mp4"
    broken.write_text("not a video")
    with pytest.raises(AppError, match="is not a video that can be read"):
        client.predict(prompt="a", video=handle_file(broken), api_name="/reference_to_video")


def test_the_tab_has_a_video_and_no_voice(vace: str, browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 1400})
    page = context.new_page()
    with closing(context), quiet(page):
        page.goto(vace)
        page.get_by_role("tab", name="Reference").click()
        page.get_by_text("A video to follow or to change").click()
        page.locator("input[type=file][accept*=video]:visible, input[type=file][accept*=video]").first.set_input_files(
            str(written(tmp_path / "x.mp4", greys(9)))
        )
        expect(page.get_by_label("Voice")).to_have_count(0)
        expect(page.locator("video[src*='x.mp4']").first).to_be_attached(timeout=MINUTE)
        page.get_by_label("Prompt", exact=True).last.fill("a red star")
        page.get_by_role("button", name="Generate").last.click()
        plays(page, 9 / 16, size=(64, 32))
