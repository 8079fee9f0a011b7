"""What the core says reaches every visitor in a language of theirs."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from wan_core.condition.sound import KINDS
from wan_core.errors import BusyError, FaultError, MediaError, RequestError
from wan_core.placement import Sizes, policies
from wan_core.studio.work import NO_ROOM, TOO_MUCH
from wan_core.ui.told import FIELDS, SENTENCES, told

ROOT = Path(__file__).resolve().parents[2] / "wan_core"
ERRORS = ("RequestError", "MediaError", "BusyError")
#: Only programs get these: the page cannot send what they complain of.
FOR_PROGRAMS = {
    "must be (H, W, 3) uint8", "must be a path, a PIL image or a uint8 array", "is not a sound", "are not all numbers",
    "give (rate, samples)", "record it again", "a job takes files", "give a path", "must be a JSON object",
    'try {"prompt": "a red ball"}', "is no field of a recipe", "this would be 7", "is not finished yet", "is 7",
    "only one that failed can be tried again", "is only just ending", "reference mode takes reference images",
    "give it as a reference", "nothing that is loaded makes this", "see what the page's tabs say", "ask /status",
    "is not what is loaded for this", "must be a path or an (F, H, W, 3) uint8 array", "must be (F, H, W, 3) uint8",
}  # fmt: skip


def said() -> Iterator[str]:
    """Every rule and hint that stands in the code, 7 in place of what is filled in."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
                for part in node.args[2:4]:
                    yield from texts(part)


def texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant) and node.value:
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(v.value) if isinstance(v, ast.Constant) else "7" for v in node.values)
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)


@pytest.mark.parametrize("language", ["ja", "zh"])
def test_every_rule_and_hint_is_translated(language: str) -> None:
    found = set(said()) - FOR_PROGRAMS
    assert len(found) > 40
    assert [text for text in found if left_in_english(told(language, text))] == []


@pytest.mark.parametrize("language", ["ja", "zh"])
def test_where_weights_wait_is_translated(language: str) -> None:
    words = {policy.words(Sizes(1, 1, ((4, 1),), 2)) for policy in policies(Sizes(1, 1, ((4, 1),), 2))} - {""}
    assert len(words) == 4
    assert [text for text in words if left_in_english(told(language, text))] == []


def left_in_english(text: str) -> set[str]:
    """English words in a translation, formats and examples aside."""
    text = re.sub('"a red ball bouncing on grass"', "", text)
    names = {"Wan", "PNG", "JPEG", "WebP", "WAN", "MODEL", "RAM", "fast", *KINDS.replace(",", "").split()}
    return set(re.findall("[A-Za-z]{3,}", text)) - names


@pytest.mark.parametrize(("error", "japanese"), [
    (RequestError("num_frames", 32, "Wan makes 4n+1 frames, 1 to 33", "try 29 or 33"),
     "長さ（フレーム）（32）：フレーム数は4n+1、1から33までです。29か33ではどうでしょう。"),
    (MediaError("image", "a: b.png", "this file is not a picture", "use PNG, JPEG or WebP"),
     "最初のフレーム（'a: b.png'）：画像ファイルではありません。PNG、JPEG、WebPを使ってください。"),
    (BusyError("queue", "50 videos", "at most 50 may wait", "try again later"),
     "順番待ち：順番待ちは50件までです。後でもう一度試してください。"),
    (FaultError(), "こちらで問題が起きました。もう一度お試しください。"),
    (RequestError("prompt", "", "must say what to show", 'try "a red ball bouncing on grass"'),
     'プロンプト（\'\'）：何を映すかを書いてください。"a red ball bouncing on grass"ではどうでしょう。'),
])  # fmt: skip
def test_whole_messages(error: Exception, japanese: str) -> None:
    assert told("ja", str(error)) == japanese
    assert told("en", str(error)) == str(error)


@pytest.mark.parametrize("message", [
    NO_ROOM, TOO_MUCH.format(tries=3), "128x128, 33 frames, seed 4, 3.1 s",
    "128x128, 48 frames, seed 4, 3.1 s · lip sync: 1 frame late, r = 0.81",
    "128x128, 33 frames, seed 4, 3.1 s · read as: 夜空で赤い星が回る",
])  # fmt: skip
@pytest.mark.parametrize("language", ["ja", "zh"])
def test_how_a_job_ended(language: str, message: str) -> None:
    assert not left_in_english(told(language, message))


def test_what_nobody_wrote_stays_as_it_is() -> None:
    assert told("zh", "You have exceeded your GPU quota") == "You have exceeded your GPU quota"


def test_translations_fill_in_what_the_sentence_holds() -> None:
    for english, translations in (SENTENCES | FIELDS).items():
        japanese, chinese = translations
        assert holes(chinese) == holes(japanese)
        assert holes(japanese) <= holes(english)
        assert holes(english) - holes(japanese) <= {"media"}, english  # a word of English, said otherwise


def holes(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}
