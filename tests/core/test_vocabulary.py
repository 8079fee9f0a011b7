"""Prompts that leave something open are read as sentences of the model's world; all others are left alone."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

import wan_core
from assets.tiny import captions, world
from assets.tiny import vocabulary as built_in
from assets.tiny.evaluate import HALF, ODD
from assets.tiny.speaker import captions as speaker_captions
from assets.tiny.speaker import vocabulary as speaker
from assets.tiny.speaker import world as speaker_world
from wan_core.errors import CheckpointError
from wan_core.plan import settle
from wan_core.specs import SPECS
from wan_core.types import Geometry, Request
from wan_core.vocabulary import Vocabulary
from wan_core.weights.describe import describe

SPEC = describe(wan_core.BUILT_IN)
GEOMETRY = Geometry(spatial=16, temporal=4, patch=(1, 2, 2), channels=20)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.from_json(json.loads(built_in.FILE.read_text(encoding="utf-8")))


@pytest.mark.parametrize("which", [built_in, speaker])
def test_the_file_is_what_the_captions_say(which: ModuleType, tmp_path: Path) -> None:
    built_in.write(which.vocabulary(), tmp_path / "v.json")
    assert (tmp_path / "v.json").read_text(encoding="utf-8") == which.FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize("language", captions.LANGUAGES)
@pytest.mark.parametrize(("which", "says", "world"), [
    (built_in, captions, world), (speaker, speaker_captions, speaker_world)
])  # fmt: skip
def test_what_captions_name_is_understood_and_whole_ones_are_left_alone(
    which: ModuleType, says: ModuleType, world: ModuleType, language: str
) -> None:
    rng, vocabulary = random.Random(0), Vocabulary.from_json(which.vocabulary())
    for _ in range(500):
        scene = world.sample_scene(rng)
        assert vocabulary.read(says.plain(scene, rng, language), rng.randrange(99), pictured=False) == ""
        text, said = says.caption(scene, rng, language, forget=0.4)
        found = vocabulary.understood(text)
        assert {k: found.get(k, "") for k in vocabulary.needed} == {k: said[k] for k in vocabulary.needed}, text


@pytest.mark.parametrize(("prompt", "sentence"), [
    ("she jumps on the left, in the garden", "someone talking, hopping, on the left, on green grass"),
    ("夜空の左で静かに歌う", "夜空で左側で人がじっとして話す"),
])  # fmt: skip
def test_the_speaker_is_told_where_and_how(prompt: str, sentence: str) -> None:
    assert Vocabulary.from_json(speaker.vocabulary()).read(prompt, 0, pictured=False) == sentence


@pytest.mark.parametrize("prompt", [*ODD, *HALF, "?" * 2000, "\0", "{colour}"])
def test_any_prompt_is_read_as_a_whole_sentence_that_keeps_what_it_says(vocabulary: Vocabulary, prompt: str) -> None:
    said = vocabulary.understood(prompt)
    for seed in range(5):
        sentence = vocabulary.read(prompt, seed, pictured=False)
        understood = vocabulary.understood(sentence)
        assert understood.items() >= said.items()
        assert understood.keys() >= set(vocabulary.needed)
        assert vocabulary.read(sentence, seed, pictured=False) == "", "it is a sentence of the model's world"
        assert vocabulary.read(prompt, seed, pictured=False) == sentence


@pytest.mark.parametrize(("prompt", "sentence"), [
    ("a red ball jumps on GRASS", "one red ball bouncing on green grass"),
    ("A Yellow Sun, rising over the beach", "one yellow ball moving up in the desert"),
    ("tiny purple hearts that go up and down at night", "one small purple heart bouncing in a night sky"),
    ("a white star flying left in the sky", "one white star moving left in a blue sky"),
    ("草原でピンクの星が跳んでいる", "緑の草の上でピンクの星が弾む"),
    ("红色的气球升到天空", "一个红色的球在蓝天上向上移动"),
    # all is said, and more than the model has words for
    ("a gigantic red ball bouncing on grass", "one big red ball bouncing on green grass"),
    ("a red ball bouncing on grass, not spinning", "one red ball bouncing on green grass"),
    ("a red ball bouncing on grass and a blue star", "one red ball bouncing on green grass"),
])  # fmt: skip
def test_other_words_for_the_same_are_read_too(vocabulary: Vocabulary, prompt: str, sentence: str) -> None:
    assert vocabulary.read(prompt, 0, pictured=False) == sentence


@pytest.mark.parametrize(("prompt", "said"), [
    # words that hold others
    ("flying in a circle, a red star", "red, star, circle"), ("星空下的红色球", "red, ball, night sky"),
    ("星星转圈", "star, circle"), ("球慢慢大起来", "ball, grow"), ("円を描いて飛ぶ星", "star, circle"),
    ("桃红色的球", "pink, ball"), ("画面の中心で青いボールが回る", "blue, ball, spin"),
    ("开心的球在草地上跳", "ball, grass, bounce"), ("一个星球在旋转", "ball, spin"),
    ("面白い赤い星", "red, star"), ("close-up of a red heart", "red, heart"),
    ("upside down triangle", "triangle"), ("a red ball turning into a star", "red, ball"),
    ("星が上下に動く", "star, bounce"),
    # colours of something else
    ("a green meadow with a red ball", "red, ball, grass"), ("on a white background, a red star", "red, star"),
    ("绿草地上的红球", "red, ball, grass"), ("白色的背景上有红球", "red, ball"), ("白い背景に赤いボール", "red, ball"),
    ("紺色の夜空に黄色い星", "yellow, star, night sky"), ("a dark blue ball", "blue, ball"), ("黑色的球", "ball"),
    # what is denied
    ("a yellow star that doesn’t bounce", "yellow, star"), ("not bouncing, a red ball", "red, ball"),
    ("赤いボールが跳ねない", "red, ball"), ("一个不跳的红球", "red, ball"), ("停不下来的球", "ball"),
    ("no star, no ball", ""), ("a heart that never moves", "heart, still"),
    ("a red ball, not moving", "red, ball, still"),
    ("not a red ball but a blue star", "blue, star"), ("不是红色的球，是蓝色的星星", "blue, star"),
    ("赤いボールではなく青い星", "blue, star"), ("星のない夜空", "night sky"), ("特别大的红球", "big, red, ball"),
    # places, and words that are one with others
    ("a red star on the left, on grass", "red, star, grass"), ("屋根の上に赤い星", "red, star"),
    ("a white seal on sand", "white, desert"), ("赤い海老", "red"), ("红色的海星", "red, star"),
    ("a star in the sky at night", "star, night sky"), ("a heart growing smaller", "heart, shrink"),
    ("白云下的红球", "red, ball, blue sky"), ("星星一起落下", "star, down"), ("re\u200bd ball", "red, ball"),
    # other scripts' letters
    ("⭐ on grass", "star, grass"), ("一個紅色的氣球變大", "red, ball, grow"),
    ("ﾎﾞｰﾙ", "ball"), ("ＲＥＤ ＢＡＬＬ", "red, ball"), ("紅色的球", "red, ball"), ("气球飞上天空", "ball, blue sky"),
])  # fmt: skip
def test_nobody_is_contradicted(vocabulary: Vocabulary, prompt: str, said: str) -> None:
    assert set(vocabulary.understood(prompt).values()) == set(filter(None, said.split(", ")))


def test_what_is_left_open_is_drawn_from_the_seed(vocabulary: Vocabulary) -> None:
    read = [vocabulary.understood(vocabulary.read("a cat", seed, pictured=False)) for seed in range(400)]
    for name in vocabulary.needed:
        assert {one[name] for one in read} == set(captions.WORDS["en"][name]) - set(built_in.UNDRAWN.get(name, ()))
    again = vocabulary.understood(vocabulary.read("a green cat", 7, pictured=False))
    assert again == read[7] | {"colour": "green"}, "what is said changes nothing else"


@pytest.mark.parametrize(("prompt", "language"), [
    ("富士山の前を走る新幹線", "ja"), ("ねこ", "ja"), ("一个女孩在雨中奔跑", "zh"), ("猫", "zh"), ("сова", "en"),
    ("42", "en"),
])  # fmt: skip
def test_it_is_read_in_the_language_it_is_written_in(vocabulary: Vocabulary, prompt: str, language: str) -> None:
    sentence = vocabulary.read(prompt, 3, pictured=False)
    assert vocabulary.speech[language].say(vocabulary.understood(sentence)) == sentence


def test_a_picture_says_what_is_there_and_leaves_only_the_motion_open(vocabulary: Vocabulary) -> None:
    assert vocabulary.read("it is spinning", 1, pictured=True) == ""
    assert vocabulary.read("make it jump", 1, pictured=True) == "one thing bouncing"
    motion = vocabulary.understood(vocabulary.read("dance!", 1, pictured=True))
    assert motion.keys() == {"motion"}


def test_the_request_and_its_recipe_keep_the_prompt_and_tell_what_was_read() -> None:
    settled = settle(Request("a star", seed=5), SPEC, GEOMETRY)
    assert settled.prompt == "a star"
    assert settled.read_as.startswith("one ")
    assert " star " in settled.read_as
    assert settle(Request("a red star bouncing on grass", seed=5), SPEC, GEOMETRY).read_as == ""
    image = settle(Request("bouncing", image="x.png", seed=5), SPEC, GEOMETRY, (128, 128))
    assert image.read_as == ""


def test_a_prompt_of_any_length_is_read_at_once(vocabulary: Vocabulary) -> None:
    """A file that is restored may hold anything; minutes, if all of it were looked at."""
    assert vocabulary.understood("a red ball " + "\ufdfa no star " * 10**6) == {"colour": "red", "shape": "ball"}


def test_large_models_read_anything() -> None:
    spec = SPECS["wan2.1-t2v-1.3b"]
    assert spec.vocabulary is None
    assert settle(Request("a star"), spec, Geometry(8, 4, (1, 2, 2), 16)).read_as == ""
    assert settle(Request("a star"), replace(SPEC, vocabulary=None), GEOMETRY).read_as == ""


def damaged(**changes: object) -> str:
    """A vocabulary of one word, with something changed."""
    english = {"words": {"colour": {"red": ["red"]}}, "sentence": "{colour}"}
    for name in ("words", "hints", "sentence", "unsaid", "lost", "denied"):
        english |= {name: changes.pop(name)} if name in changes else {}
    return json.dumps({"needed": ["colour"], "languages": {"en": english}} | changes)


OTHER = {"words": {"colour": {"rot": ["rot"]}}, "sentence": "{colour}"}


@pytest.mark.parametrize("content", [
    "[]", "{", '{"needed": []}', damaged(languages={}), damaged(languages={"en": 7}), damaged(languages={"en": {}}),
    damaged(needed=["shape"]), damaged(needed=7), damaged(needed="colour"), damaged(pictured=["shape"]),
    damaged(undrawn={"colour": ["red"]}), damaged(undrawn={"colour": "red"}), damaged(words={}), damaged(words=[]),
    *(damaged(words={"colour": one}) for one in ({"red": []}, {}, {"red": [""]}, {"red": 7}, {"red": "red"})),
    damaged(words={"colour": {"red": ["red"], "blue": ["Red"]}}), damaged(hints={"colour": {"blue": ["sad"]}}),
    damaged(hints={"shape": {"star": ["sun"]}}), damaged(hints={"colour": {"red": [""]}}), damaged(lost=["red"]),
    damaged(sentence="{colour} {shape}"), damaged(sentence="hello"), damaged(sentence="{colour}x"),
    damaged(undrawn={"color": ["red"]}), damaged(lost=["red."], sentence="{colour}."),
    damaged(unsaid=7), damaged(denied=[]),
    json.dumps({"needed": ["colour"], "languages": json.loads(damaged())["languages"] | {"de": OTHER}}),
])  # fmt: skip
def test_a_damaged_vocabulary_is_named(tmp_path: Path, content: str) -> None:
    for name in ("model_index.json", "recipe.json", "transformer/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((wan_core.BUILT_IN / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "vocabulary.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"vocabulary\.json"):
        describe(tmp_path)
    (tmp_path / "vocabulary.json").write_text(damaged())
    assert describe(tmp_path).vocabulary is not None
