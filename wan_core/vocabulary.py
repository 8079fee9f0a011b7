"""What a small model understands, and how a prompt that leaves some of it open is read.

A model of few words has nothing to go by where a prompt names none of them: it would draw a little of
everything. So what such a prompt leaves open is drawn from the seed, and the prompt is read as a sentence
that the model was trained on. The video's recipe says which.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

Words = Mapping[str, Mapping[str, tuple[str, ...]]]  # attribute, value, how it is said
Said = dict[str, str]  # attribute, value
MOST = 4000  # letters of a prompt that are looked at
_BRACES = re.compile(r"\{(\w+)\}")
_SPACED = re.compile(r"[a-z0-9]")  # scripts that put spaces between words
#: Scripts that tell languages apart, by the beginnings of their letters' names.
_SCRIPTS = {"HIRAGANA": "kana", "KATAKANA": "kana", "CJK": "han", "IDEOGRAPHIC": "han"}


class _Meaning(NamedTuple):
    attribute: str
    value: str
    trained: bool


class Heard(NamedTuple):
    """What a prompt names.

    Attributes:
        trained: in words of the training.
        other: in other words.
        plain: whether nothing was taken back, said of something else, or said twice in different ways.
    """

    trained: Said
    other: Said
    plain: bool


@dataclass(frozen=True)
class Speech:
    """One language of a vocabulary.

    Attributes:
        words: what the model was trained on, the usual way of saying it first.
        sentence: braces name attributes.
        hints: what else people say for the same; they count where none of ``words`` is said.
        unsaid: what stands in the sentence for attributes that stay open; "" for most.
        lost: phrases that hold a word of these and do not mean it.
        denied: what takes back the word right after it, and what takes back the word right before it.
        elsewhere: by attribute: right before one of these, its words describe that and not the object.
    """

    words: Words
    sentence: str
    hints: Words = field(default_factory=dict)
    unsaid: Mapping[str, str] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    denied: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def heard(self, prompt: str) -> Heard:
        """What a prompt names.

        Of words of the training the first counts, as captions say each thing once and say it first; of hints the
        last, as "flying to the left" says more with its last word than with its first.
        """
        text = f" {_folded(prompt)}"
        matches = list(self._pattern.finditer(text))
        text = self._pattern.sub(lambda match: match[0] if self._meaning[match[0]] else "\n" * len(match[0]), text)
        gone, trained, other, plain = self._taken_back(text, matches), {}, {}, True
        for match in matches:
            meaning = self._meaning[match[0]]
            if meaning is None:
                continue
            if match.start() in gone or self._is_elsewhere(meaning.attribute, text[match.end() :]):
                plain = False
            elif not meaning.trained:
                other[meaning.attribute] = meaning.value
            else:
                plain &= trained.setdefault(meaning.attribute, meaning.value) == meaning.value
        return Heard(trained, other, plain)

    def letters(self, prompt: str) -> int:
        """How many of a prompt's letters are words of this language."""
        return sum(len(match[0]) for match in self._pattern.finditer(_folded(prompt)))

    def say(self, said: Mapping[str, str]) -> str:
        """The sentence that a model understands best."""
        usual = {name: self.unsaid.get(name, "") for name in self.words}
        usual |= {name: self.words[name][value][0] for name, value in said.items()}
        return " ".join(_BRACES.sub(lambda found: usual[found[1]], self.sentence).split())

    @cached_property
    def scripts(self) -> set[str]:
        """What it is written in."""
        return _scripts(phrase for phrase, _ in _meanings(self.words, True))

    @cached_property
    def _meaning(self) -> dict[str, _Meaning | None]:
        """What phrases mean; None, nothing.

        Raises:
            ValueError: one means two things.
        """
        known: dict[str, _Meaning | None] = {_folded(phrase): None for phrase in self.lost}
        for phrase, meaning in (*_meanings(self.words, True), *_meanings(self.hints, False)):
            if known.setdefault(phrase, meaning) != meaning:
                raise ValueError(f"{phrase!r} means two things")
        return known

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return _any_of(self._meaning)

    @cached_property
    def _nouns(self) -> dict[str, re.Pattern[str]]:
        return {name: _any_of(map(_folded, nouns)) for name, nouns in self.elsewhere.items()}

    def _is_elsewhere(self, attribute: str, after: str) -> bool:
        return attribute in self._nouns and bool(self._nouns[attribute].match(after.lstrip()))

    def _taken_back(self, text: str, matches: list[re.Match[str]]) -> set[int]:
        """Where words start that are denied, and those that touch them: "no red ball" names neither."""
        before, after = self.denied
        gone: set[int] = set()
        end = -1  # of the last word that was denied
        for match in matches:
            if text[: match.start()].rstrip().endswith(before) or (text[end : match.start()] in ("", " ") and end >= 0):
                gone.add(match.start())
                end = match.end()
            else:
                end = -1
        start = -1
        for match in reversed(matches):
            if text[match.end() :].startswith(after) or (text[match.end() : start] in ("", " ") and start >= 0):
                gone.add(match.start())
                start = match.start()
            else:
                start = -1
        return gone


@dataclass(frozen=True)
class Vocabulary:
    """All that a model understands.

    Attributes:
        speech: by language.
        needed: attributes that a prompt must name, or something is drawn for them.
        pictured: those of them that a first frame shows.
        undrawn: values, by attribute, that are never drawn: nobody who leaves the motion open wants none.
    """

    speech: Mapping[str, Speech]
    needed: tuple[str, ...]
    pictured: tuple[str, ...] = ()
    undrawn: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Vocabulary:
        """Read what a model's ``vocabulary.json`` holds: these attributes, a language's under its name.

        Raises:
            ValueError: it is not of this form, or its parts do not fit together.
        """
        try:
            speech = {name: _speech(one) for name, one in data["languages"].items()}
            undrawn = {name: _listed(values) for name, values in data.get("undrawn", {}).items()}
            whole = cls(speech, _listed(data["needed"]), _listed(data.get("pictured", [])), undrawn)
            whole._check()
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"no vocabulary: {error!r}") from error
        return whole

    def understood(self, prompt: str) -> Said:
        """The attributes that a prompt names, as far as the model has words for them."""
        trained, other, _ = self._spoken(prompt).heard(prompt)
        return other | trained

    def read(self, prompt: str, seed: int, *, pictured: bool) -> str:
        """What a model is to be told in a prompt's place.

        Args:
            prompt: what somebody wrote.
            seed: of the noise; what the prompt leaves open is drawn from it.
            pictured: a first frame is given, and shows some of what is left open.

        Returns:
            A sentence of the model's world; "" where the prompt says all of it, in words that the model knows.
        """
        speech = self._spoken(prompt)
        trained, other, plain = speech.heard(prompt)
        needed = [name for name in self.needed if not (pictured and name in self.pictured)]
        if plain and trained.keys() >= {*needed, *other}:
            return ""
        dice = random.Random(seed)
        drawn = {name: dice.choice(self._drawable(speech, name)) for name in self.needed}
        return speech.say({name: drawn[name] for name in needed} | other | trained)

    def _drawable(self, speech: Speech, name: str) -> list[str]:
        return sorted(set(speech.words[name]) - set(self.undrawn.get(name, ())))

    def _spoken(self, prompt: str) -> Speech:
        """The language of a prompt: of those that are written like it, the one that most of its letters are words of.

        Among equals it is the one of fewest scripts.
        """
        written = _scripts([_folded(prompt)])
        fitting = [one for one in self.speech.values() if written <= one.scripts] or list(self.speech.values())
        return max(fitting, key=lambda one: (one.letters(prompt), -len(one.scripts)))

    def _check(self) -> None:
        """Say what would break later."""
        if not self.speech or not {*self.pictured, *self.undrawn} <= set(self.needed):
            raise ValueError("there is no language, or something is said of what nobody needs")
        first, *others = ([set(one.words[name]) for name in self.needed] for one in self.speech.values())
        if any(other != first for other in others):
            raise ValueError("its languages do not name the same values")
        for one in self.speech.values():
            if set(_BRACES.findall(one.sentence)) != set(one.words) or not {*one.unsaid, *one.elsewhere} <= set(
                one.words
            ):
                raise ValueError(f"the sentence {one.sentence!r} does not name every attribute, or others are named")
            if not all(self._drawable(one, name) for name in self.needed):
                raise ValueError("there is nothing to draw")
            if not all(said for values in one.words.values() for said in values.values()):
                raise ValueError("there is nothing to say for a value")
            for meaning in filter(None, one._meaning.values()):
                if (
                    one.heard(one.say({meaning.attribute: meaning.value})).trained.get(meaning.attribute)
                    != meaning.value
                ):
                    raise ValueError(f"the sentence {one.sentence!r} does not say {meaning.value}")


def _speech(data: dict[str, Any]) -> Speech:
    denied = data.get("denied", [[], []])
    return Speech(
        _words(data["words"]), str(data["sentence"]), _words(data.get("hints", {})), dict(data.get("unsaid", {})),
        _listed(data.get("lost", [])), (_listed(denied[0]), _listed(denied[1])),
        {name: _listed(nouns) for name, nouns in data.get("elsewhere", {}).items()},
    )  # fmt: skip


def _words(data: dict[str, Any]) -> Words:
    return {name: {value: _listed(said) for value, said in values.items()} for name, values in data.items()}


def _listed(data: Any) -> tuple[str, ...]:
    if not isinstance(data, list | tuple) or not all(isinstance(text, str) and text for text in data):
        raise TypeError(f"{data!r} is no list of words")
    return tuple(data)


def _meanings(words: Words, trained: bool) -> Iterator[tuple[str, _Meaning]]:
    for name, values in words.items():
        for value, said in values.items():
            yield from ((_folded(phrase), _Meaning(name, value, trained)) for phrase in said)


def _any_of(phrases: Iterable[str]) -> re.Pattern[str]:
    """Finds phrases, long ones before short ones; whole words only, where words are spaced."""
    return re.compile("|".join(map(_bounded, sorted(phrases, key=lambda phrase: (-len(phrase), phrase)))) or "(?!)")


def _bounded(phrase: str) -> str:
    start = r"(?<![a-z0-9])" if _SPACED.match(phrase[0]) else ""
    return start + re.escape(phrase) + (r"(?![a-z0-9])" if _SPACED.match(phrase[-1]) else "")


def _folded(text: str) -> str:
    """Without what only looks different: width, capitals, apostrophes, what is not seen, runs of spaces.

    A prompt is cut short where it is far longer than anybody's that is made here: an old file may hold anything.
    """
    text = unicodedata.normalize("NFKC", text[:MOST])[:MOST].casefold().replace("’", "'")
    return " ".join("".join(letter for letter in text if unicodedata.category(letter) != "Cf").split())


def _scripts(texts: Iterable[str]) -> set[str]:
    names = (unicodedata.name(letter, "") for text in texts for letter in text if letter.isalpha())
    return {script for name in names for start, script in _SCRIPTS.items() if name.startswith(start)}
