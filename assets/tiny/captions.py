"""What people may say about a scene, in English, Japanese and Chinese, in any order.

A caption names some of a scene's attributes. ``caption`` also returns which ones it named, so the
text encoder can be taught to read them and nothing else.
"""

from __future__ import annotations

import random
from dataclasses import replace

from assets.tiny.world import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, SIZES, Scene

LANGUAGES = ("en", "ja", "zh")

#: Each attribute's values in the order the text encoder is taught them; index 0 is "not said".
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "colour": ("", *COLOURS),
    "shape": ("", *SHAPES),
    "motion": ("", *MOTIONS),
    "background": ("", *BACKGROUNDS),
    "size": ("", *SIZES),
}

WORDS: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "en": {
        "colour": {
            "red": ("red", "crimson", "scarlet", "ruby"),
            "orange": ("orange", "tangerine", "amber"),
            "yellow": ("yellow", "golden", "lemon", "gold"),
            "green": ("green", "emerald", "lime"),
            "cyan": ("cyan", "turquoise", "aqua", "teal"),
            "blue": ("blue", "azure", "navy", "cobalt"),
            "purple": ("purple", "violet", "lilac"),
            "pink": ("pink", "rose", "magenta", "rosy"),
            "white": ("white", "ivory", "snowy", "snow white"),
        },
        "shape": {
            "ball": ("ball", "sphere", "circle", "disc", "orb", "dot"),
            "square": ("square", "box", "block", "cube"),
            "triangle": ("triangle", "pyramid", "three-sided shape"),
            "star": ("star", "five-pointed star", "starlet"),
            "heart": ("heart", "love heart", "heart shape"),
            "ring": ("ring", "donut", "hoop", "doughnut", "torus"),
        },
        "motion": {
            "left": ("moving left", "drifting to the left", "sliding left", "going left", "moves to the left",
                     "flying leftwards", "heading left", "travelling from right to left"),
            "right": ("moving right", "drifting to the right", "sliding right", "going right", "moves to the right",
                      "flying rightwards", "heading right", "travelling from left to right"),
            "up": ("moving up", "rising", "floating upwards", "going up", "moves upward", "flying up", "ascending",
                   "drifting up"),
            "down": ("moving down", "falling", "sinking", "going down", "moves downward", "dropping", "descending",
                     "drifting down"),
            "bounce": ("bouncing", "hopping", "jumping", "bounces up and down", "jumping up and down", "bounces",
                       "hops"),
            "spin": ("spinning", "rotating", "turning around itself", "spins", "twirling", "rotates", "whirling",
                     "turning"),
            "circle": ("circling", "moving in a circle", "orbiting", "going round and round", "going in circles",
                       "flies in a circle", "looping around"),
            "grow": ("growing", "getting bigger", "expanding", "grows", "becoming larger", "swelling",
                     "becoming bigger"),
            "shrink": ("shrinking", "getting smaller", "contracting", "shrinks", "becoming smaller", "getting tiny",
                       "dwindling"),
            "still": ("standing still", "not moving", "motionless", "staying still", "resting", "at rest", "static",
                      "stationary"),
        },
        "background": {
            "black": ("on a black background", "on black", "in the dark", "in front of a black wall",
                      "against black", "black background"),
            "gray": ("on a gray background", "on gray", "on grey", "in front of a gray wall", "against grey",
                     "grey background", "gray background"),
            "blue sky": ("in a blue sky", "in the sky", "against a blue sky", "in the blue sky with clouds",
                         "among the clouds", "in a daytime sky", "blue sky"),
            "night sky": ("in a night sky", "at night", "under the stars", "in a starry night sky", "by moonlight",
                          "against the night sky", "night sky"),
            "grass": ("on green grass", "on grass", "on a meadow", "on a green lawn", "in a grassy field",
                      "over the grass", "green grass", "in a meadow"),
            "desert": ("in the desert", "on sand", "over sand dunes", "in a sandy desert", "on a desert",
                       "on the dunes", "desert"),
        },
        "size": {
            "small": ("small", "little", "tiny", "mini"),
            "medium": ("medium", "medium-sized", "normal-sized"),
            "big": ("big", "large", "huge", "giant"),
        },
    },
    "ja": {
        "colour": {
            "red": ("赤い", "赤の", "真っ赤な", "赤色の", "紅の"),
            "orange": ("オレンジ色の", "オレンジの", "橙色の"),
            "yellow": ("黄色い", "黄色の", "金色の", "レモン色の"),
            "green": ("緑の", "緑色の", "エメラルド色の", "グリーンの"),
            "cyan": ("水色の", "シアンの", "シアン色の", "青緑の"),
            "blue": ("青い", "青の", "青色の", "ブルーの", "紺色の"),
            "purple": ("紫の", "紫色の", "パープルの", "すみれ色の"),
            "pink": ("ピンクの", "ピンク色の", "桃色の", "桜色の"),
            "white": ("白い", "白の", "真っ白な", "白色の"),
        },
        "shape": {
            "ball": ("ボール", "球", "丸", "玉", "円"),
            "square": ("四角", "正方形", "ブロック", "箱", "四角形"),
            "triangle": ("三角", "三角形", "ピラミッド"),
            "star": ("星", "スター", "星形", "お星さま"),
            "heart": ("ハート", "心", "ハート形"),
            "ring": ("輪", "リング", "ドーナツ", "輪っか"),
        },
        "motion": {
            "left": ("左に動く", "左へ移動する", "左に流れる", "左へ進む", "左に向かう", "右から左へ動く"),
            "right": ("右に動く", "右へ移動する", "右に流れる", "右へ進む", "右に向かう", "左から右へ動く"),
            "up": ("上に動く", "上へ移動する", "昇る", "上昇する", "浮かび上がる", "上へ進む"),
            "down": ("下に動く", "下へ移動する", "落ちる", "下降する", "沈む", "下へ進む"),
            "bounce": ("弾む", "跳ねる", "ジャンプする", "バウンドする", "ぴょんぴょん跳ねる"),
            "spin": ("回転する", "くるくる回る", "自転する", "スピンする", "回る"),
            "circle": ("円を描いて動く", "円を描く", "旋回する", "ぐるりと一周する", "周回する"),
            "grow": ("大きくなる", "膨らむ", "拡大する", "成長する", "だんだん大きくなる"),
            "shrink": ("小さくなる", "縮む", "縮小する", "しぼむ", "だんだん小さくなる"),
            "still": ("止まっている", "動かない", "静止している", "じっとしている", "静止した"),
        },
        "background": {
            "black": ("黒い背景で", "黒い背景の前で", "真っ暗な中で", "暗闇で", "黒背景で"),
            "gray": ("灰色の背景で", "グレーの背景で", "灰色の壁の前で", "グレーの前で"),
            "blue sky": ("青空で", "青い空で", "空で", "雲のある空で", "青空の中で"),
            "night sky": ("夜空で", "夜に", "星空で", "月夜に", "夜空の中で"),
            "grass": ("緑の草の上で", "草原で", "芝生の上で", "草の上で", "原っぱで"),
            "desert": ("砂漠で", "砂の上で", "砂丘で", "砂漠の中で"),
        },
        "size": {
            "small": ("小さな", "小さい", "ちいさな", "ミニ"),
            "medium": ("中くらいの", "普通サイズの"),
            "big": ("大きな", "大きい", "巨大な", "でかい"),
        },
    },
    "zh": {
        "colour": {
            "red": ("红色的", "红", "红色", "大红色的", "鲜红的"),
            "orange": ("橙色的", "橙", "橘色的", "橙色", "橘黄色的"),
            "yellow": ("黄色的", "黄", "黄色", "金色的", "金黄的"),
            "green": ("绿色的", "绿", "绿色", "翠绿的"),
            "cyan": ("青色的", "青", "青色", "蓝绿色的", "天青色的"),
            "blue": ("蓝色的", "蓝", "蓝色", "深蓝的"),
            "purple": ("紫色的", "紫", "紫色", "紫罗兰色的"),
            "pink": ("粉色的", "粉红色的", "粉", "粉红", "玫红色的"),
            "white": ("白色的", "白", "白色", "雪白的"),
        },
        "shape": {
            "ball": ("球", "圆球", "小球体", "圆", "圆形"),
            "square": ("方块", "正方形", "方形", "盒子"),
            "triangle": ("三角形", "三角", "金字塔"),
            "star": ("星星", "五角星", "星形", "星"),
            "heart": ("爱心", "心形", "心", "红心形状"),
            "ring": ("圆环", "环", "甜甜圈", "圈"),
        },
        "motion": {
            "left": ("向左移动", "往左移动", "向左飘", "向左滑动", "向左走", "从右往左移动"),
            "right": ("向右移动", "往右移动", "向右飘", "向右滑动", "向右走", "从左往右移动"),
            "up": ("向上移动", "上升", "往上飞", "升起", "向上飘", "往上移动"),
            "down": ("向下移动", "下降", "往下掉", "落下", "下沉", "往下移动"),
            "bounce": ("弹跳", "跳动", "蹦蹦跳跳", "上下弹跳", "跳跃"),
            "spin": ("旋转", "自转", "转动", "打转", "原地旋转"),
            "circle": ("绕圈", "转圈移动", "做圆周运动", "绕圈移动", "盘旋"),
            "grow": ("变大", "长大", "放大", "膨胀", "逐渐变大"),
            "shrink": ("变小", "缩小", "收缩", "逐渐变小", "越来越小"),
            "still": ("静止", "不动", "静止不动", "一动不动", "停着"),
        },
        "background": {
            "black": ("在黑色背景上", "在黑暗中", "黑色背景", "在黑背景前"),
            "gray": ("在灰色背景上", "灰色背景", "在灰色的墙前", "在灰背景前"),
            "blue sky": ("在蓝天上", "在蓝天中", "在天空中", "在有云的天空中", "蓝天"),
            "night sky": ("在夜空中", "在夜晚", "在星空下", "夜空", "在月光下"),
            "grass": ("在绿色的草地上", "在草地上", "在绿草上", "在草坪上", "草地"),
            "desert": ("在沙漠中", "在沙漠里", "在沙地上", "在沙丘上", "沙漠"),
        },
        "size": {
            "small": ("小", "小小的", "很小的", "小型"),
            "medium": ("中等大小的", "不大不小的"),
            "big": ("大", "巨大的", "很大的", "大大的"),
        },
    },
}  # fmt: skip

FILLERS = {
    "en": ("please", "a video of", "cinematic", "4k", "beautiful", "show me", "cute", "high quality", "my",
           "cartoon style", "shiny", "today", "smooth", "funny", "a clip of", "nice lighting", "animation"),
    "ja": ("かわいい", "動画", "きれいな", "高画質", "アニメ", "見せて", "お願い", "素敵な"),
    "zh": ("可爱的", "视频", "漂亮的", "高清", "动画", "请", "画面", "好看的"),
}  # fmt: skip

Said = dict[str, str]


def caption(scene: Scene, rng: random.Random, language: str, *, forget: float = 0.06) -> tuple[str, Said]:
    """Describe a scene.

    Args:
        scene: what to describe.
        rng: source of the wording.
        language: "en", "ja" or "zh".
        forget: chance of leaving each attribute out.

    Returns:
        The caption, and the attributes it names (a medium size mostly goes without saying).
    """
    said: Said = {}
    for name in ATTRIBUTES:
        value = getattr(scene, name)
        leave_out = forget
        if name == "size":
            leave_out = 0.9 if value == "medium" else 2 * forget
        said[name] = "" if rng.random() < leave_out else value
    words = WORDS[language]
    pick = {n: rng.choice(words[n][v]) if v else "" for n, v in said.items()}
    text = {"en": _english, "ja": _japanese, "zh": _chinese}[language](pick, rng)
    return decorated(text, language, rng), said


def plain(scene: Scene, rng: random.Random, language: str) -> str:
    """A caption that leaves nothing out and adds nothing: what the evaluation asks for."""
    words = WORDS[language]
    size = "" if scene.size == "medium" else rng.choice(words["size"][scene.size])
    pick = {n: rng.choice(words[n][getattr(scene, n)]) for n in ("colour", "shape", "motion", "background")}
    text = {"en": _english, "ja": _japanese, "zh": _chinese}[language](pick | {"size": size}, rng)
    return _tidy(text, language)


def scene_from(said: Said, scene: Scene) -> Scene:
    """The scene with every named attribute set."""
    return replace(scene, **{n: v for n, v in said.items() if v})


def _tidy(text: str, language: str) -> str:
    text = " ".join(text.split()) if language == "en" else text.replace(" ", "")
    return text.strip(" ,、，")


def decorated(text: str, language: str, rng: random.Random) -> str:
    """Fillers, punctuation and capitals, which change nothing."""
    text = _tidy(text, language)
    gap = " " if language == "en" else rng.choice(("", "、" if language == "ja" else "，"))
    if rng.random() < 0.25:
        text = rng.choice(FILLERS[language]) + gap + text
    if rng.random() < 0.15:
        text = text + ("," if language == "en" else "") + gap + rng.choice(FILLERS[language])
    if rng.random() < 0.2:
        text += "." if language == "en" else "。"
    if language == "en" and rng.random() < 0.2:
        text = text[:1].upper() + text[1:]
    return text


def _thing(pick: dict[str, str], rng: random.Random, article: bool = True) -> str:
    shape = pick["shape"] or rng.choice(("thing", "shape", "object"))
    words = [pick["size"], pick["colour"]]
    if rng.random() < 0.15:
        words.reverse()
    lead = rng.choice(("a", "one", "the", "a single")) if article and rng.random() < 0.85 else ""
    if pick["colour"] and rng.random() < 0.08:
        return f"{lead} {pick['size']} {shape} that is {pick['colour']}"
    return f"{lead} {' '.join(words)} {shape}"


def _english(pick: dict[str, str], rng: random.Random) -> str:
    thing, motion, place = _thing(pick, rng), pick["motion"], pick["background"]
    match rng.randrange(7):
        case 0 | 1 | 2:
            return f"{thing} {motion} {place}"
        case 3:
            return f"{place}, {thing} {motion}"
        case 4:
            return f"{thing} {place}, {motion}"
        case 5:
            parts = [motion, thing, place]
            rng.shuffle(parts)
            return ", ".join(p for p in parts if p)
        case _:
            return f"{place}, {motion} {_thing(pick, rng, article=False)}"


def _japanese(pick: dict[str, str], rng: random.Random) -> str:
    shape = pick["shape"] or rng.choice(("もの", "形", "物体"))
    adjectives = [pick["size"], pick["colour"]]
    if rng.random() < 0.4:
        adjectives.reverse()
    thing, motion, place = "".join(adjectives) + shape, pick["motion"], pick["background"]
    match rng.randrange(5):
        case 0:
            return f"{place}{motion}{thing}"
        case 1:
            return f"{place}{thing}が{motion}"
        case 2:
            return f"{thing}が{place}{motion}"
        case 3:
            return f"{motion}{thing}、{place.removesuffix('で').removesuffix('に')}"
        case _:
            return f"{place.removesuffix('で').removesuffix('に')}、{thing}、{motion}"


def _chinese(pick: dict[str, str], rng: random.Random) -> str:
    shape = pick["shape"] or rng.choice(("东西", "形状", "物体"))
    adjectives = [pick["size"], pick["colour"]]
    if rng.random() < 0.3:
        adjectives.reverse()
    lead = rng.choice(("", "一个", "一颗", "一只"))
    thing, motion, place = lead + "".join(adjectives) + shape, pick["motion"], pick["background"]
    match rng.randrange(5):
        case 0:
            return f"{thing}{place}{motion}"
        case 1:
            return f"{place}{motion}的{thing}"
        case 2:
            return f"{place}，{thing}{motion}"
        case 3:
            return f"{thing}，{motion}，{place}"
        case _:
            return f"{motion}的{thing}，{place}"
