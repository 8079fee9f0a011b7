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
UNDRAWN = {"motion": ("still",)}
SENTENCES = {
    "en": "one {size} {colour} {shape} {motion} {background}",
    "ja": "{background}{size}{colour}{shape}が{motion}",
    "zh": "一个{colour}{size}{shape}{background}{motion}",  # 大红色的 is a word for red, so the size comes later
}
UNSAID = {"en": {"shape": "thing"}, "ja": {"shape": "もの"}, "zh": {"shape": "东西"}}
#: A Japanese caption may drop the particle after a place.
PARTICLES = {"ja": ("で", "に")}
HINTS: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "en": {
        "colour": {
            "red": ("maroon", "cherry", "blood-red", "reddish"), "orange": ("peach", "apricot"),
            "yellow": ("blond", "blonde"), "green": ("mint", "olive", "jade"), "cyan": ("sky blue", "sky-blue"),
            "blue": ("indigo", "sapphire", "bluish"), "purple": ("lavender", "mauve", "plum", "purplish"),
            "pink": ("fuchsia", "salmon", "cherry blossom", "cherry blossoms"),
            "white": ("cream", "snow-white", "pale"),
        },
        "shape": {
            "ball": ("balls", "spheres", "round", "bubble", "balloon", "marble", "globe", "planet", "moon", "sun",
                     "coin"),
            "square": ("squares", "boxes", "cubes", "blocks", "rectangle", "brick"),
            "triangle": ("triangles", "pyramids", "triangular", "right triangle"),
            "star": ("stars", "starfish", "⭐", "★", "🌟"),
            "heart": ("hearts", "❤", "♥"),
            "ring": ("rings", "donuts", "doughnuts", "hoops", "wheel"),
        },
        "motion": {
            "left": ("left", "leftward", "leftwards", "turning left", "turns left"),
            "right": ("right", "rightward", "rightwards", "turning right", "turns right"),
            "up": ("up", "upward", "upwards", "rise", "rises", "climbs", "climbing", "ascends", "floating", "floats",
                   "rose into", "rose up"),
            "down": ("down", "downward", "downwards", "fall", "falls", "drop", "drops", "sinks", "descends"),
            "bounce": ("bounce", "jump", "jumps", "hop", "leaps", "leaping", "up and down", "dancing", "dances",
                       "jump up", "jumps up"),
            "spin": ("spin", "rotate", "turns", "twirls", "whirls", "rolling", "rolls", "swirling"),
            "circle": ("in circles", "in a circle", "circles the", "circles around", "circle around", "orbits",
                       "revolving", "round and round", "going round"),
            "grow": ("grow", "bigger", "larger", "expands", "swells", "inflating"),
            "shrink": ("shrink", "smaller", "contracts", "deflating", "growing smaller", "grows smaller"),
            "still": ("still", "stands", "standing", "sits", "sitting", "rests", "frozen", "stops", "stopped",
                      "does not move", "doesn't move", "never moves", "no motion", "sits down", "stands up",
                      "standing up", "sitting down", "don't move", "do not move", "without moving"),
        },
        "background": {
            "black": ("darkness", "dark background", "dark room", "black wall"),
            "gray": ("gray", "grey", "concrete"),
            "blue sky": ("sky", "clouds", "daytime"),
            "night sky": ("night", "starry", "moonlit", "midnight", "space", "galaxy", "dark sky", "in the dark sky",
                          "in the dark night sky", "in the sky at night"),
            "grass": ("grass", "meadow", "lawn", "field", "garden", "park", "grassy"),
            "desert": ("sand", "sandy", "dunes", "beach"),
        },
        "size": {"small": ("miniature",), "big": ("gigantic", "enormous", "massive")},
    },
    "ja": {
        "colour": {
            "red": ("赤", "紅"), "orange": ("オレンジ", "橙"), "yellow": ("黄", "金"), "green": ("緑",),
            "cyan": ("水色", "シアン"), "blue": ("青", "ブルー"), "purple": ("紫",), "pink": ("ピンク", "桃色"),
            "white": ("白",),
        },
        "shape": {
            "ball": ("風船", "月", "太陽", "丸い", "惑星"), "square": ("四角い", "立方体"), "triangle": ("三角の",),
        },
        "motion": {
            "left": ("左",), "right": ("右",), "up": ("上へ", "上に", "上が", "昇り", "昇っ", "浮かぶ", "浮かんで"),
            "down": ("下へ", "下に", "落ち", "下が"),
            "bounce": ("跳ね", "跳ん", "弾ん", "ジャンプ", "バウンド", "上下に", "踊"),
            "spin": ("回って", "回転", "スピン", "ぐるぐる", "転が"), "circle": ("円を", "一周"),
            "grow": ("大きくな", "膨ら"), "shrink": ("小さくな", "縮"), "still": ("止ま", "静止", "動かず"),
        },
        "background": {
            "black": ("闇",), "gray": ("灰色", "グレー"), "blue sky": ("雲",),
            "night sky": ("宇宙",), "grass": ("草", "芝", "公園", "庭", "野原", "牧場"),
            "desert": ("砂", "ビーチ", "海辺"),
        },
        "size": {"small": ("小さく",), "big": ("でっかい",)},
    },
    "zh": {
        "colour": {
            "red": ("紅",), "yellow": ("黃",), "green": ("綠",), "blue": ("藍",), "pink": ("桃红", "玫瑰红"),
            "white": ("洁白",),
        },
        "shape": {
            "ball": ("气球", "氣球", "月亮", "太阳", "星球", "圓"), "ring": ("圆圈", "戒指", "指环", "圓環"),
            "square": ("方的", "正方", "立方", "立方体", "正方体"),
        },
        "motion": {
            "left": ("左",), "right": ("右",), "up": ("向上", "往上", "升"), "down": ("向下", "往下", "掉"),
            "bounce": ("跳", "彈跳"), "spin": ("在转", "转着", "滚", "旋轉", "轉動"), "circle": ("绕着", "转圈"),
            "grow": ("大起来", "越来越大", "變大"), "shrink": ("小下去", "變小", "縮小"),
            "still": ("静静", "停下", "靜止", "不会动"),
        },
        "background": {
            "black": ("黑暗", "黑色的背景", "黑背景"), "gray": ("灰色",),
            "blue sky": ("天空", "云", "白云", "天上", "藍天"),
            "night sky": ("夜里", "夜晚", "晚上", "星空", "太空", "宇宙"), "grass": ("草", "青草", "公园", "花园"),
            "desert": ("沙滩", "沙子", "沙地", "海滩", "海边"),
        },
        "size": {"small": ("迷你",), "big": ("超大",)},
    },
}  # fmt: skip
#: What holds such words and does not mean them.
LOST = {
    "en": (
        "close up", "close-up", "upside down", "slow down", "slows down", "calm down", "calms down", "ice cream",
        "turning into", "turns into", "right angle", "still life", "left over", "heads up", "left hand", "right hand",
        "right now", "all right", "in the sun", "brick wall", "marble statue", "heart of", "down the street",
        "in the fall", "parking space", "good night", "middle-aged", "middle aged", "central park", "he left",
        "she left", "still talking", "still singing", "still speaking", "sea turtle",
    ),
    "ja": (
        "面白", "中心", "安心", "心地", "心配", "都心", "一輪", "モンスター", "スタート", "ポスター",
        "マスター", "ハムスター", "サイクリング", "段ボール", "グレープ", "赤ちゃん", "赤ん坊", "空間", "空港", "空手",
        "空気", "空の箱", "空っぽ", "落ち着", "左右", "左手", "右手", "の上に", "の下に", "盛り上が",
        "夜明け", "家庭", "砂糖", "青年", "白鳥",
        *(f"{month}月" for month in "一二三四五六七八九十"),
    ),
    "zh": (
        "中心", "开心", "心情", "心里", "关心", "伤心", "担心", "点心", "星期", "云南", "摇滚", "摇头", "左手",
        "右手", "白天", "环境", "循环", "草莓", "角落", "大海", "大象", "大家", "黄昏", "青蛙", "青年", "左右",
        "晚上好", "特别",
    ),
}  # fmt: skip
#: Where something stands is no motion.
POSITIONS = {
    "en": ("on the left", "on the right", "to the left of", "to the right of", "left side", "right side", "upper left",
           "upper right", "bottom left", "bottom right", "top left", "top right", "right in"),
    "ja": ("左側", "右側"),
    "zh": ("左边", "右边", "左侧", "右侧"),
}  # fmt: skip
#: What takes words back, right before them and right after.
DENIED = {
    "en": ((" not", " not a", " not the", " never", " without", " without a", " without any", " no", " no longer",
            "n't", "n't a", "n't the"), ()),
    "ja": ((), ("ない", "なく", "らな", "かな", "ばな", "ばず", "いな", "でいな", "くない", "ではな", "じゃな",
                "のない", "がない", "なし")),
    "zh": (("不", "没", "没有", "没在", "没有在", "别", "别再", "不是", "不要", "不会", "不再"),
           ("不下来", "不起来")),
}  # fmt: skip
#: A colour right before one of these is not the object's.
ELSEWHERE = {
    "en": ("background", "backdrop", "wall", "walls", "sky", "cloud", "clouds", "field", "fields", "hill", "hills",
           "meadow", "meadows", "lawn", "sea", "ocean"),
    "ja": ("背景", "空", "夜空", "雲", "海の", "海を", "海で", "海に", "壁", "草原", "野原"),
    "zh": tuple(de + noun for noun in ("背景", "天空", "夜空", "云", "大海", "海水", "海面", "墙", "草地")
                for de in ("", "的")),
}  # fmt: skip


def vocabulary() -> dict[str, Any]:
    """All of it, as :class:`wan_core.vocabulary.Vocabulary` takes it."""
    languages = {
        name: {
            "sentence": SENTENCES[name], "unsaid": UNSAID[name], "lost": LOST[name] + POSITIONS[name],
            "denied": DENIED[name], "elsewhere": {"colour": ELSEWHERE[name]},
            "words": _words(name), "hints": HINTS[name],
        }
        for name in LANGUAGES
    }  # fmt: skip
    return {"needed": NEEDED, "pictured": PICTURED, "undrawn": UNDRAWN, "languages": languages}


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
