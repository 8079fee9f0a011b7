"""What people may say about a speaker's scene: the place, the motion and the backdrop, in any order.

Who it is, the reference tells. Backdrops are worded as in the first world.
"""

from __future__ import annotations

import random

from assets.tiny import captions as first
from assets.tiny.speaker.world import MOTIONS, PLACES, Scene
from assets.tiny.world import BACKGROUNDS

LANGUAGES = first.LANGUAGES
#: Each attribute's values in the order the text encoder is taught them; index 0 is "not said".
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "background": ("", *BACKGROUNDS),
    "place": ("", *PLACES),
    "motion": ("", *MOTIONS),
}
WORDS: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "en": {
        "place": {
            "left": ("on the left", "at the left side", "to the left", "standing on the left"),
            "middle": ("in the middle", "in the centre", "in the center", "at the centre of the picture"),
            "right": ("on the right", "at the right side", "to the right", "standing on the right"),
        },
        "motion": {
            "still": ("standing still", "not moving", "keeping still", "motionless"),
            "swaying": ("swaying", "rocking from side to side", "swinging left and right", "swaying to the rhythm"),
            "nodding": ("nodding", "nodding along", "moving the head up and down", "nods"),
            "hopping": ("hopping", "jumping", "bouncing up and down", "hops", "jumping for joy"),
        },
        "who": ("someone", "a person", "this person", "the character", "they", "the speaker", "my friend", "she", "he"),
        "act": ("talking", "speaking", "singing", "telling a story", "saying something", "says hello", ""),
    },
    "ja": {
        "place": {
            "left": ("左側で", "左で", "左の方で"),
            "middle": ("真ん中で", "中央で", "画面の中央で"),
            "right": ("右側で", "右で", "右の方で"),
        },
        "motion": {
            "still": ("じっとして", "動かずに", "静かに立って"),
            "swaying": ("ゆらゆら揺れて", "左右に揺れながら", "体を揺らして"),
            "nodding": ("うなずいて", "頷きながら", "首を縦に振って"),
            "hopping": ("跳ねながら", "ジャンプして", "ぴょんぴょん跳ねて"),
        },
        "who": ("人が", "この人が", "キャラクターが", "彼女が", "彼が", "誰かが"),
        "act": ("話す", "話している", "しゃべる", "歌う", "語る", ""),
    },
    "zh": {
        "place": {
            "left": ("在左边", "在画面左侧", "在左侧"),
            "middle": ("在中间", "在画面中央", "在正中"),
            "right": ("在右边", "在画面右侧", "在右侧"),
        },
        "motion": {
            "still": ("站着不动", "静静地", "一动不动地"),
            "swaying": ("左右摇摆", "摇晃着", "轻轻摇摆着"),
            "nodding": ("点着头", "点头", "频频点头"),
            "hopping": ("蹦蹦跳跳", "跳着", "上下跳动"),
        },
        "who": ("一个人", "这个人", "角色", "她", "他", "有人"),
        "act": ("说话", "讲话", "唱歌", "讲故事", ""),
    },
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
        The caption, and the attributes it names.
    """
    said = {n: "" if rng.random() < forget else getattr(scene, n) for n in ATTRIBUTES}
    words, backdrops = WORDS[language], first.WORDS[language]["background"]
    pick = {n: rng.choice(words[n][v]) if v else "" for n, v in said.items() if n != "background"}
    pick["background"] = rng.choice(backdrops[said["background"]]) if said["background"] else ""
    who, act = rng.choice(words["who"]), rng.choice(words["act"])
    rest = [pick["motion"], pick["place"], pick["background"]]
    if language == "en":
        rng.shuffle(rest)
        parts = [f"{who} {act}", *rest] if rng.random() < 0.7 else [*rest, f"{who} {act}"]
        text = (", " if rng.random() < 0.4 else " ").join(p.strip() for p in parts if p.strip())
    elif language == "ja":
        places = [pick["background"], pick["place"]]
        rng.shuffle(places)
        text = "".join([*places, who, pick["motion"], act])
    else:
        places = [pick["background"], pick["place"]]
        rng.shuffle(places)
        text = "".join([who, *places, pick["motion"], act])
    return first.decorated(text, language, rng), said


def plain(scene: Scene, rng: random.Random, language: str) -> str:
    """A caption that leaves nothing out: what the evaluation asks for."""
    return caption(scene, rng, language, forget=0.0)[0]
