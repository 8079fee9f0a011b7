"""The page for everybody: axe-core's rules in light and dark, the keyboard, a video that plays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.app.conftest import plays, quiet

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
    with closing(context), quiet(page):
        page.goto(app)
        expect(page.locator("#head .badge")).to_contain_text("CPU", timeout=MINUTE)
        yield page


def test_no_rule_is_broken_on_any_tab(page: Page) -> None:
    for tab in ("Text", "Image", "Reference"):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        assert faults(page) == []


def test_a_video_by_keyboard_alone(page: Page) -> None:
    page.get_by_label("Prompt", exact=True).first.focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("a pink heart growing")
    page.keyboard.press("Control+Enter")
    plays(page, 33 / 16)
    assert faults(page) == []
