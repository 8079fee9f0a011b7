"""The built-in model's vocabulary, as ``wan_core`` reads it: ``python -m assets.tiny.vocabulary``.

Words are those of the captions it was trained on. Hints are what people say beside them: the model was never
trained on those, so a prompt that needs them is read in the captions' words.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from assets.tiny.captions import LANGUAGES, WORDS

FILE = Path(__file__).parent / "vocabulary.json"
NEEDED, PICTURED = ("colour", "shape", "motion", "background"), ("colour", "shape", "background")
SENTENCES = {
    "en": "one {size} {colour} {shape} {motion} {background}",
    "ja": "{background}{size}{colour}{shape}が{motion}",
    "zh": "一个{colour}{size}{shape}{background}{motion}",  # the other way round, 大 before 红色的 is a red of its own
}
UNSAID = {"en": {"shape": "thing"}, "ja": {"shape": "もの"}, "zh": {"shape": "东西"}}
#: A Japanese caption may drop the particle after a place.
PARTICLES = {"ja": ("で", "に")}
HINTS: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "en": {
        "colour": {
            "red": ("maroon", "cherry", "blood-red"), "orange": ("peach", "apricot"), "yellow": ("blond", "blonde"),
            "green": ("mint", "olive", "jade"), "blue": ("indigo", "sapphire"),
            "purple": ("lavender", "mauve", "plum", "purplish"), "pink": ("fuchsia", "salmon"),
            "white": ("cream", "snow-white", "pale"),
        },
        "shape": {
            "ball": ("balls", "spheres", "circles", "round", "bubble", "balloon", "marble", "globe", "planet", "moon",
                     "sun", "coin", "bouncy ball"),
            "square": ("squares", "boxes", "cubes", "blocks", "rectangle", "brick"),
            "triangle": ("triangles", "pyramids", "triangular"),
            "star": ("stars", "starfish"),
            "heart": ("hearts",),
            "ring": ("rings", "donuts", "doughnuts", "hoops", "wheel"),
        },
        "motion": {
            "left": ("left", "leftward", "leftwards"),
            "right": ("right", "rightward", "rightwards"),
            "up": ("up", "upward", "upwards", "rise", "rises", "climbs", "climbing", "ascends", "floating", "floats"),
            "down": ("down", "downward", "downwards", "fall", "falls", "drop", "drops", "sinks", "descends"),
            "bounce": ("bounce", "jump", "jumps", "hop", "leaps", "leaping", "up and down"),
            "spin": ("spin", "rotate", "turns", "twirls", "whirls", "rolling", "rolls", "swirling"),
            "circle": ("in circles", "in a circle", "circles around", "orbits", "revolving", "round and round"),
            "grow": ("grow", "bigger", "larger", "expands", "swells", "inflating"),
            "shrink": ("shrink", "smaller", "contracts", "deflating"),
            "still": ("still", "stands", "standing", "sits", "sitting", "rests", "frozen"),
        },
        "background": {
            "black": ("dark", "darkness", "black wall"),
            "gray": ("gray wall", "grey wall", "concrete"),
            "blue sky": ("sky", "clouds", "daytime"),
            "night sky": ("night", "starry", "moonlit", "midnight", "space", "galaxy"),
            "grass": ("grass", "meadow", "lawn", "field", "garden", "park", "grassy"),
            "desert": ("sand", "sandy", "dunes", "beach"),
        },
        "size": {"small": ("smaller", "miniature"), "big": ("gigantic", "enormous", "massive")},
    },
    "ja": {
        "colour": {
            "red": ("赤",), "orange": ("オレンジ", "橙"), "yellow": ("黄", "金"), "green": ("緑",),
            "cyan": ("水色", "シアン"), "blue": ("青", "ブルー"), "purple": ("紫",), "pink": ("ピンク", "桃色"),
            "white": ("白",),
        },
        "shape": {"ball": ("風船", "月", "太陽", "丸い"), "square": ("四角い",), "triangle": ("三角の",)},
        "motion": {
            "left": ("左",), "right": ("右",), "up": ("上へ", "上が", "昇り", "浮かぶ", "浮かんで"),
            "down": ("下へ", "落ち", "下が"), "bounce": ("跳ね", "弾ん", "ジャンプ", "バウンド"),
            "spin": ("回って", "回転", "スピン"), "circle": ("円を", "一周"), "grow": ("大きくな", "膨ら"),
            "shrink": ("小さくな", "縮"), "still": ("止ま", "静止", "動かず"),
        },
        "background": {
            "black": ("闇",), "gray": ("灰色", "グレー"), "blue sky": ("雲",), "night sky": ("夜",),
            "grass": ("草", "芝"), "desert": ("砂",),
        },
        "size": {"small": ("小さく",), "big": ("でっかい",)},
    },
    "zh": {
        "colour": {"pink": ("桃红",), "white": ("洁白",)},
        "shape": {"ball": ("气球", "月亮", "太阳"), "ring": ("圆圈",), "heart": ("红心",), "square": ("方",)},
        "motion": {
            "left": ("左",), "right": ("右",), "up": ("向上", "往上", "升"), "down": ("向下", "往下", "落", "掉"),
            "bounce": ("跳",), "spin": ("转",), "circle": ("绕", "转圈"), "grow": ("大起来",), "shrink": ("小下去",),
            "still": ("静", "停"),
        },
        "background": {
            "black": ("黑暗", "黑色"), "gray": ("灰色",), "blue sky": ("天空", "云"), "night sky": ("夜", "星空"),
            "grass": ("草",), "desert": ("沙",),
        },
        "size": {"small": ("迷你",), "big": ("超大",)},
    },
}  # fmt: skip


def vocabulary() -> dict[str, Any]:
    """All of it, as :class:`wan_core.vocabulary.Vocabulary` takes it."""
    languages = {
        name: {"sentence": SENTENCES[name], "unsaid": UNSAID[name], "words": _words(name), "hints": HINTS[name]}
        for name in LANGUAGES
    }
    return {"needed": NEEDED, "pictured": PICTURED, "languages": languages}


def backdrops(language: str) -> dict[str, tuple[str, ...]]:
    """What captions say for each backdrop."""
    particles = PARTICLES.get(language, ())
    return {
        place: (*said, *(p.removesuffix(tail) for p in said for tail in particles if p.endswith(tail)))
        for place, said in WORDS[language]["background"].items()
    }


def write(data: dict[str, Any], file: Path) -> None:
    """Write a vocabulary where the model's other files are, a value a line."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    text = re.sub(r"\[[^][]*\]", lambda row: " ".join(row.group().split()).replace("[ ", "[").replace(" ]", "]"), text)
    file.write_text(text + "\n", encoding="utf-8")


def _words(language: str) -> dict[str, dict[str, tuple[str, ...]]]:
    return {**WORDS[language], "background": backdrops(language)}


if __name__ == "__main__":
    write(vocabulary(), FILE)
