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
_BRACES = re.compile(r"\{(\w+)\}")
_SPACED = re.compile(r"[a-z0-9]")  # scripts that put spaces between words
#: Scripts that tell languages apart, by the beginnings of their letters' names.
_SCRIPTS = {"HIRAGANA": "kana", "KATAKANA": "kana", "CJK": "han", "IDEOGRAPHIC": "han"}


class _Meaning(NamedTuple):
    attribute: str
    value: str
    trained: bool


@dataclass(frozen=True)
class Speech:
    """One language of a vocabulary.

    Attributes:
        words: what the model was trained on, the usual way of saying it first.
        sentence: braces name attributes.
        hints: what else people say for the same; they count where none of ``words`` is said.
        unsaid: what stands in the sentence for attributes that stay open; "" for most.
        lost: what says nothing of this world, though it holds such words.
        denied: what right before, and what right after words takes them back.
        elsewhere: by attribute, what its words stand before where they speak of something else.
    """

    words: Words
    sentence: str
    hints: Words = field(default_factory=dict)
    unsaid: Mapping[str, str] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    denied: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def heard(self, prompt: str) -> tuple[Said, Said]:
        """What a prompt names in words of the training, the first of each; and in others, the last of each."""
        trained, other = {}, {}
        for meaning in self._found(prompt):
            if not meaning.trained:
                other[meaning.attribute] = meaning.value
            elif meaning.attribute not in trained:
                trained[meaning.attribute] = meaning.value
        return trained, other

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
        """Finds phrases, long ones before short ones; whole words only, where words are spaced."""
        return re.compile("|".join(map(_bounded, sorted(self._meaning, key=lambda phrase: (-len(phrase), phrase)))))

    def _found(self, prompt: str) -> Iterator[_Meaning]:
        text = f" {_folded(prompt)}"
        for match in self._pattern.finditer(text):
            meaning, before, after = self._meaning[match[0]], text[: match.start()], text[match.end() :]
            if meaning is None or before.rstrip().endswith(self.denied[0]) or after.startswith(self.denied[1]):
                continue
            if not after.lstrip().startswith(self.elsewhere.get(meaning.attribute, ())):
                yield meaning


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
        trained, other = self._spoken(prompt).heard(prompt)
        return other | trained

    def read(self, prompt: str, seed: int, *, pictured: bool) -> str:
        """What a model is to be told in a prompt's place.

        Args:
            prompt: what somebody wrote.
            seed: of the noise; what the prompt leaves open is drawn from it.
            pictured: a first frame is given, and shows some of what is left open.

        Returns:
            A sentence of the model's world; "" where the prompt is one already.
        """
        speech = self._spoken(prompt)
        trained, other = speech.heard(prompt)
        needed = [name for name in self.needed if not (pictured and name in self.pictured)]
        if all(name in trained for name in needed):
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
        if not self.speech or not set(self.pictured) <= set(self.needed):
            raise ValueError("there is no language, or a picture shows what nobody needs")
        values = [{name: set(one.words[name]) for name in self.needed} for one in self.speech.values()]
        if any(other != values[0] for other in values) or any(not self._drawable(*pair) for pair in self._pairs()):
            raise ValueError("its languages do not name the same values, or there are none")
        for one in self.speech.values():
            if set(_BRACES.findall(one.sentence)) != set(one.words):
                raise ValueError(f"the sentence {one.sentence!r} does not name every attribute")
            for meaning in filter(None, one._meaning.values()):
                one.say({meaning.attribute: meaning.value})
            one.heard("")

    def _pairs(self) -> Iterator[tuple[Speech, str]]:
        return ((one, name) for one in self.speech.values() for name in self.needed)


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


def _bounded(phrase: str) -> str:
    start = r"(?<![a-z0-9])" if _SPACED.match(phrase[0]) else ""
    return start + re.escape(phrase) + (r"(?![a-z0-9])" if _SPACED.match(phrase[-1]) else "")


def _folded(text: str) -> str:
    """Without what only looks different: width, capitals, apostrophes, runs of spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().replace("’", "'").split())


def _scripts(texts: Iterable[str]) -> set[str]:
    names = (unicodedata.name(letter, "") for text in texts for letter in text if letter.isalpha())
    return {script for name in names for start, script in _SCRIPTS.items() if name.startswith(start)}
