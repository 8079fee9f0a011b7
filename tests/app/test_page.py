"""The page in headless Chromium: type, press, watch, cancel."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import torch
from gradio_client import Client
from playwright.sync_api import Browser, Page, expect

from tests.app.conftest import plays, quiet
from wan_core.precision import native

MINUTE = 60_000

pytestmark = pytest.mark.browser


def test_type_generate_watch_download(page: Page, tmp_path: Path) -> None:
    page.get_by_label("Prompt", exact=True).first.fill("a green ring on black")
    page.get_by_role("button", name="Generate").first.click()
    expect(page.get_by_text("step").first).to_be_visible(timeout=MINUTE)
    plays(page, 33 / 16)
    with page.expect_download() as download:
        page.get_by_text("Download").first.click()
    target = tmp_path / "clip.mp4"
    download.value.save_as(target)
    assert target.read_bytes()[4:8] == b"ftyp"
    expect(page.get_by_text("seed").first).to_be_visible()


def test_cancel_stops_the_work(page: Page) -> None:
    page.get_by_text("Advanced").first.click()
    steps = page.get_by_label("number input for Steps").first
    steps.fill("100")
    steps.press("Tab")
    page.get_by_role("button", name="Generate").first.click()
    cancel = page.get_by_role("button", name="Cancel").first
    expect(page.get_by_text("of 100").first).to_be_visible(timeout=MINUTE)
    cancel.click()
    expect(page.get_by_text("Stopped").first).to_be_visible(timeout=MINUTE)
    expect(cancel).to_be_hidden()


def test_errors_are_words_on_the_stage(page: Page) -> None:
    page.get_by_label("Prompt", exact=True).first.fill("   ")
    page.get_by_role("button", name="Generate").first.click()
    alert = page.get_by_role("alert").first
    expect(alert).to_contain_text("must say what to show", timeout=MINUTE)


def test_a_video_brings_its_settings_back(page: Page, app: str, tmp_path: Path) -> None:
    client = Client(app, verbose=False, download_files=str(tmp_path), analytics_enabled=False)
    made, *_ = client.predict(prompt="黄色い星が回る", num_inference_steps=3, seed=12, api_name="/text_to_video")
    path = str(made["video"] if isinstance(made, dict) else made)
    page.locator("input[type=file][accept*=mp4]").first.set_input_files(path)
    expect(page.get_by_text("Restored.").first).to_be_visible(timeout=MINUTE)
    expect(page.get_by_label("Prompt", exact=True).first).to_have_value("黄色い星が回る")
    page.get_by_text("Advanced").first.click()
    expect(page.get_by_label("Seed", exact=False).first).to_have_value("12")


def test_a_video_dropped_anywhere_brings_its_settings_back(page: Page, app: str, tmp_path: Path) -> None:
    client = Client(app, verbose=False, download_files=str(tmp_path), analytics_enabled=False)
    made, *_ = client.predict(prompt="a grey cross", num_inference_steps=2, seed=13, api_name="/text_to_video")
    data = base64.b64encode(Path(made["video"] if isinstance(made, dict) else made).read_bytes()).decode()
    page.evaluate(
        """(data) => {
          const files = new DataTransfer()
          const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))
          files.items.add(new File([bytes], 'clip.mp4', {type: 'video/mp4'}))
          const drop = new DragEvent('drop', {dataTransfer: files, bubbles: true, cancelable: true})
          document.querySelector('.stage').dispatchEvent(drop)
        }""",
        data,
    )
    expect(page.get_by_text("Restored.").first).to_be_visible(timeout=MINUTE)
    expect(page.get_by_label("Prompt", exact=True).first).to_have_value("a grey cross")


def test_a_link_opens_the_page_with_its_settings(app: str, browser: Browser) -> None:
    recipe = json.dumps({"mode": "image", "prompt": "跳", "seed": 21, "focal_point": [0.2, 0.5]})
    page = browser.new_page()
    with quiet(page):
        page.goto(f"{app}/?{urlencode({'recipe': recipe})}")
        prompt = page.get_by_label("Prompt", exact=True).locator("visible=true")
        expect(prompt).to_have_value("跳", timeout=MINUTE)
        expect(page.get_by_role("tab", name="Image")).to_have_attribute("aria-selected", "true")
        expect(page.get_by_label("number input for Focus, across")).to_have_value("0.2")
    page.close()


def test_settings_as_code_ask_for_what_stands_on_the_page(page: Page) -> None:
    page.get_by_label("Prompt", exact=True).first.fill("a green ring on black")
    page.get_by_text("Advanced").first.click()
    for name, usual, value in (("number input for Steps", "24", "2"), ("Seed", "-1", "8")):
        field = page.get_by_label(name, exact=False).first
        expect(field).to_have_value(usual, timeout=MINUTE)  # what is typed before an accordion has opened is lost
        field.fill(value)
        field.press("Tab")
        expect(field).to_have_value(value)
    page.get_by_text("Use from a program").first.click()
    code = page.locator(".code textarea:visible")
    expect(code).to_have_value(re.compile("num_inference_steps=2,\n    seed=8,"), timeout=MINUTE)
    said: dict[str, Any] = {}
    exec(code.input_value(), said)  # what a visitor would paste
    assert (said["recipe"]["seed"], said["recipe"]["num_inference_steps"]) == (8, 2)
    assert said["recipe"]["prompt"] == "a green ring on black"


def test_image_tab(page: Page, photo: Path) -> None:
    page.get_by_role("tab", name="Image").click()
    page.locator("input[type=file][accept*=image]").last.set_input_files(str(photo))
    page.get_by_role("button", name="moving", exact=False).or_(page.get_by_role("button", name="bouncing")).last.click()
    expect(page.get_by_label("Prompt", exact=True).locator("visible=true")).not_to_have_value("", timeout=MINUTE)
    expect(page.locator("img[src*='gradio_api/file=']:visible").first).to_be_visible(timeout=MINUTE)
    page.get_by_role("button", name="Generate").last.click()
    plays(page, 33 / 16)


def test_the_frame_on_the_picture_can_be_dragged(page: Page, photo: Path) -> None:
    page.get_by_role("tab", name="Image").click()
    page.locator("input[type=file][accept*=image]").last.set_input_files(str(photo))
    frame = page.locator(".sight .box:visible")
    expect(frame).to_be_visible(timeout=MINUTE)
    frame.scroll_into_view_if_needed()
    before, area = frame.bounding_box(), page.locator(".sight .whole:visible").bounding_box()
    assert before is not None
    assert area is not None
    page.mouse.move(before["x"] + before["width"] / 2, before["y"] + before["height"] / 2)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"], before["y"], steps=5)
    page.mouse.up()
    across = page.get_by_label("number input for Focus, across")
    expect(across).not_to_have_value("0.5", timeout=MINUTE)
    assert abs(float(across.input_value()) - 2 / 3) < 0.02  # a square in a 3:2 picture, at its right edge
    after = frame.bounding_box()
    assert after is not None
    assert abs(after["x"] + after["width"] - area["x"] - area["width"]) <= 2


def test_image_tab_without_an_image(page: Page) -> None:
    page.get_by_role("tab", name="Image").click()
    page.get_by_label("Prompt", exact=True).last.fill("spinning")
    page.get_by_role("button", name="Generate").last.click()
    expect(page.get_by_role("alert").last).to_contain_text("needs a first frame", timeout=MINUTE)


@pytest.mark.parametrize(("language", "dark"), [("en-US", False), ("en-US", True), ("ja-JP", False), ("zh-CN", False)])
def test_phone_width_has_no_sideways_scroll(app: str, browser: Browser, language: str, dark: bool) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme="dark" if dark else "light", locale=language
    )
    page = context.new_page()
    page.goto(app)
    for number in range(3):
        page.get_by_role("tab").nth(number).click(timeout=MINUTE)
        expect(page.locator(".card:visible button.primary")).to_be_visible(timeout=MINUTE)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_embedded_the_page_has_no_head_and_opens_where_it_is_told(app: str, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.set_content(f'<iframe src="{app}/?view=embed&tab=image" width="900" height="800"></iframe>')
    frame = page.frame_locator("iframe")
    image = frame.get_by_role("tab", name="Image")
    expect(image).to_have_attribute("aria-selected", "true", timeout=MINUTE)
    expect(frame.locator("#head")).to_be_hidden()
    expect(frame.locator("footer")).to_be_hidden()
    context.close()


def test_nothing_is_fetched_from_elsewhere(app: str, browser: Browser) -> None:
    context = browser.new_context()
    page, asked = context.new_page(), []
    page.on("request", lambda r: asked.append(r.url))
    page.goto(app)
    expect(page.get_by_role("button", name="Generate").first).to_be_visible(timeout=MINUTE)
    assert [u for u in asked if not u.startswith((app, "data:", "blob:"))] == []
    context.close()


def test_the_badge_says_what_runs_once_it_is_loaded(page: Page) -> None:
    kind = "bf16" if native(torch.device("cpu")) == torch.bfloat16 else "float32"
    expect(page.locator("#head .badge")).to_have_text(f"built-in · CPU · {kind} + built-in speaker", timeout=MINUTE)
