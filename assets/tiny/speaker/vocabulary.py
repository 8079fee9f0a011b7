"""The built-in speaker's vocabulary, as ``wan_core`` reads it: ``python -m assets.tiny.speaker.vocabulary``.

Who speaks the picture tells, and what is said the sound; see :mod:`assets.tiny.vocabulary`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assets.tiny import vocabulary as first
from assets.tiny.speaker.captions import ATTRIBUTES, LANGUAGES, WORDS

FILE = Path(__file__).parent / first.FILE.name
SENTENCES = {
    "en": "someone talking, {motion}, {place}, {background}",
    "ja": "{background}{place}人が{motion}話す",
    "zh": "一个人{background}{place}{motion}说话",
}
HINTS: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "en": {
        "place": {"left": ("left",), "middle": ("middle", "centre", "center", "central"), "right": ("right",)},
        "motion": {
            "still": ("still", "calm", "calmly", "quietly", "doesn't move", "without moving"),
            "swaying": ("sway", "sways", "rocking", "swinging"),
            "nodding": ("nod", "nodded"),
            "hopping": ("jump", "jumps", "bouncing", "dancing", "dances"),
        },
    },
    "ja": {
        "place": {"left": ("左",), "middle": ("真ん中", "中央"), "right": ("右",)},
        "motion": {
            "still": ("静か",), "swaying": ("揺れ",), "nodding": ("うなず", "頷"), "hopping": ("跳", "ジャンプ"),
        },
    },
    "zh": {
        "place": {"left": ("左",), "middle": ("中间", "中央"), "right": ("右",)},
        "motion": {"still": ("安静",), "swaying": ("摇",), "nodding": ("点点头",), "hopping": ("跳",)},
    },
}  # fmt: skip


def vocabulary() -> dict[str, Any]:
    """All of it, as :class:`wan_core.vocabulary.Vocabulary` takes it."""
    languages = {
        name: {
            "sentence": SENTENCES[name], "lost": first.LOST[name], "denied": first.DENIED[name],
            "words": _words(name), "hints": _hints(name),
        }
        for name in LANGUAGES
    }  # fmt: skip
    return {"needed": tuple(ATTRIBUTES), "languages": languages}


def _words(language: str) -> dict[str, dict[str, tuple[str, ...]]]:
    return {name: first.backdrops(language) if name == "background" else WORDS[language][name] for name in ATTRIBUTES}


def _hints(language: str) -> dict[str, dict[str, tuple[str, ...]]]:
    return {**HINTS[language], "background": first.HINTS[language]["background"]}


if __name__ == "__main__":
    first.write(vocabulary(), FILE)
