"""The page in headless Chromium: type, press, watch, cancel."""

from __future__ import annotations

from pathlib import Path

import pytest
from gradio_client import Client
from playwright.sync_api import Browser, Page, expect

MINUTE = 60_000

pytestmark = pytest.mark.browser


def test_type_generate_watch_download(page: Page, tmp_path: Path) -> None:
    page.get_by_label("Prompt", exact=True).first.fill("a green ring on black")
    page.get_by_role("button", name="Generate").first.click()
    expect(page.get_by_text("step").first).to_be_visible(timeout=MINUTE)
    video = page.locator(".stage video").first
    expect(video).to_be_visible(timeout=MINUTE)
    page.wait_for_function("() => { const v = document.querySelector('.stage video'); return v && v.readyState >= 2 }")
    assert video.evaluate("v => [v.videoWidth, v.videoHeight]") == [128, 128]
    assert abs(video.evaluate("v => v.duration") - 33 / 16) < 0.1
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


def test_image_tab(page: Page, photo: Path) -> None:
    page.get_by_role("tab", name="Image").click()
    page.locator("input[type=file][accept*=image]").last.set_input_files(str(photo))
    page.get_by_role("button", name="moving", exact=False).or_(page.get_by_role("button", name="bouncing")).last.click()
    page.get_by_role("button", name="Generate").last.click()
    expect(page.locator(".stage video").last).to_be_visible(timeout=2 * MINUTE)


def test_a_click_moves_what_the_model_sees(page: Page, photo: Path) -> None:
    page.get_by_role("tab", name="Image").click()
    page.locator("input[type=file][accept*=image]").last.set_input_files(str(photo))
    seen = (
        page.get_by_label("What the model sees", exact=False)
        .locator("img")
        .or_(page.locator(".block", has_text="What the model sees").locator("img"))
    )
    expect(seen.last).to_be_visible(timeout=MINUTE)
    box = seen.last.bounding_box()
    assert box is not None
    seen.last.click(position={"x": box["width"] * 0.9, "y": box["height"] * 0.5})
    across = page.get_by_label("number input for Focus, across")
    expect(across).not_to_have_value("0.5", timeout=MINUTE)
    assert float(across.input_value()) > 0.6


def test_image_tab_without_an_image(page: Page) -> None:
    page.get_by_role("tab", name="Image").click()
    page.get_by_label("Prompt", exact=True).last.fill("spinning")
    page.get_by_role("button", name="Generate").last.click()
    expect(page.get_by_role("alert").last).to_contain_text("needs a first frame", timeout=MINUTE)


@pytest.mark.parametrize("dark", [False, True])
def test_phone_width_has_no_sideways_scroll(app: str, browser: Browser, dark: bool) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark" if dark else "light")
    page = context.new_page()
    page.goto(app)
    expect(page.get_by_role("button", name="Generate").first).to_be_visible(timeout=MINUTE)
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
    expect(page.locator("#head .badge")).to_have_text("built-in · CPU · bf16 + built-in speaker", timeout=MINUTE)
