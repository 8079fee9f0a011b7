"""The page in the visitor's own language."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from wan_core.ui.words import WORDS, label, say

MINUTE = 60_000


def test_every_word_is_said_in_all_languages() -> None:
    for word, others in WORDS.items():
        assert len(others) == 2
        assert all(others), word
        assert "." not in word, "the browser takes dots for paths"
        braces = set(re.findall(r"{\w+}", word))
        assert all(set(re.findall(r"{\w+}", other)) == braces for other in others), word


def test_words_that_nobody_wrote_are_noticed() -> None:
    with pytest.raises(KeyError):
        label("Generat")
    assert say("zh", "step {step} of {of}", step=2, of=9) == "第 2/9 步"


@pytest.mark.browser
@pytest.mark.parametrize(("locale", "prompt", "make", "quiet", "plan", "fault"), [
    ("ja-JP", "プロンプト", "生成", "ここに動画が表示されます", "2.1秒", "何を映すかを書いてください"),
    ("zh-CN", "提示词", "生成", "视频会显示在这里", "2.1 秒", "请描述要生成的画面"),
    ("de-DE", "Prompt", "Generate", "Your video appears here", "2.1 s", "must say what to show"),
])  # fmt: skip
def test_the_page_speaks_the_browsers_language(
    app: str, browser: Browser, locale: str, prompt: str, make: str, quiet: str, plan: str, fault: str
) -> None:
    context = browser.new_context(locale=locale)
    page = context.new_page()
    page.goto(app)
    expect(page.get_by_label(prompt, exact=True).first).to_be_visible(timeout=MINUTE)
    expect(page.get_by_role("button", name=make, exact=True).first).to_be_visible(timeout=MINUTE)
    expect(page.get_by_text(quiet).first).to_be_visible(timeout=MINUTE)
    expect(page.get_by_text(plan).first).to_be_visible(timeout=MINUTE)
    page.get_by_label(prompt, exact=True).first.fill(" ")
    page.get_by_role("button", name=make, exact=True).first.click()
    expect(page.get_by_role("alert").first).to_contain_text(fault, timeout=MINUTE)
    context.close()
