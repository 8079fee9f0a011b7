"""The page for everybody: axe-core's rules in light and dark, the keyboard, a quiet console, a video that plays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

MINUTE = 60_000
pytestmark = pytest.mark.browser


def faults(page: Page) -> list[str]:
    """What axe-core calls serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:160]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.fixture(params=["light", "dark"])
def page(app: str, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=request.param)
    page = context.new_page()
    page.goto(app)
    expect(page.locator("#head .badge")).to_contain_text("CPU", timeout=MINUTE)
    yield page
    context.close()


def test_no_rule_is_broken_on_any_tab(page: Page) -> None:
    for tab in ("Text", "Image", "Reference"):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        assert faults(page) == []


def test_a_video_by_keyboard_alone_and_nothing_in_the_console(page: Page) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.get_by_label("Prompt", exact=True).first.focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("a pink heart growing")
    page.keyboard.press("Control+Enter")
    video = page.locator(".stage video").first
    expect(video).to_be_visible(timeout=MINUTE)
    page.wait_for_function("() => document.querySelector('.stage video')?.readyState >= 3", timeout=MINUTE)
    assert abs(video.evaluate("v => v.duration") - 33 / 16) <= 1 / 16
    assert faults(page) == []
    assert said == []
