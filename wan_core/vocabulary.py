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
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Words = Mapping[str, Mapping[str, tuple[str, ...]]]  # attribute, value, how it is said
_BRACES = re.compile(r"\{(\w+)\}")
_SPACED = re.compile(r"[a-z0-9]")  # scripts that put spaces between words


@dataclass(frozen=True)
class Speech:
    """One language of a vocabulary.

    Attributes:
        words: what the model was trained on, the usual way of saying it first.
        hints: what else people say for the same.
        sentence: braces name attributes.
        unsaid: what stands in the sentence for attributes that stay open; "" for most.
    """

    words: Words
    hints: Words
    sentence: str
    unsaid: Mapping[str, str]

    def heard(self, prompt: str) -> dict[str, str]:
        """The attributes that a prompt names in words of the training; the first that it says of each."""
        return dict(reversed([self._meaning[phrase] for phrase in self._words.findall(_folded(prompt))]))

    def guessed(self, prompt: str) -> dict[str, str]:
        """Those that the rest of it names in other words; the last that it says of each."""
        rest = self._words.sub("\n", _folded(prompt))
        return dict(self._meaning[phrase] for phrase in self._hints.findall(rest))

    def letters(self, prompt: str) -> int:
        """How many of a prompt's letters are words of the training."""
        return sum(map(len, self._words.findall(_folded(prompt))))

    def say(self, said: Mapping[str, str]) -> str:
        """The sentence that a model understands best."""
        usual = {name: self.unsaid.get(name, "") for name in self.words}
        usual |= {name: self.words[name][value][0] for name, value in said.items()}
        return " ".join(_BRACES.sub(lambda found: usual[found[1]], self.sentence).split())

    @cached_property
    def _words(self) -> re.Pattern[str]:
        return _any_of(self.words)

    @cached_property
    def _hints(self) -> re.Pattern[str]:
        return _any_of(self.hints)

    @cached_property
    def _meaning(self) -> dict[str, tuple[str, str]]:
        both = (*_phrases(self.hints), *_phrases(self.words))
        return {phrase: (name, value) for phrase, name, value in both}


@dataclass(frozen=True)
class Vocabulary:
    """All that a model understands.

    Attributes:
        speech: by language.
        needed: attributes that a prompt must name, or something is drawn for them.
        pictured: those of them that a first frame shows.
    """

    speech: Mapping[str, Speech]
    needed: tuple[str, ...]
    pictured: tuple[str, ...]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Vocabulary:
        """Read what a model's ``vocabulary.json`` holds.

        Raises:
            ValueError: it is not of this form, or its sentences are not of its words.
        """
        try:
            speech = {
                name: Speech(_words(one["words"]), _words(one["hints"]), str(one["sentence"]), dict(one["unsaid"]))
                for name, one in data["languages"].items()
            }
            whole = cls(speech, tuple(data["needed"]), tuple(data["pictured"]))
            for one in speech.values():
                for _, name, value in (*_phrases(one.words), *_phrases(one.hints)):
                    one.say({name: value})
            whole.read("", 0, pictured=False)
        except (KeyError, TypeError, AttributeError, IndexError, StopIteration) as error:
            raise ValueError(f"no vocabulary: {error!r}") from error
        return whole

    def understood(self, prompt: str) -> dict[str, str]:
        """The attributes that a prompt names, as far as the model has words for them."""
        speech = self.speech[self._language(prompt)]
        return speech.guessed(prompt) | speech.heard(prompt)

    def read(self, prompt: str, seed: int, pictured: bool) -> str:
        """What a model is to be told in a prompt's place.

        Args:
            prompt: what somebody wrote.
            seed: of the noise; what the prompt leaves open is drawn from it.
            pictured: a first frame is given, and shows some of what is left open.

        Returns:
            A sentence of the model's world; "" where the prompt is one already.
        """
        speech = self.speech[self._language(prompt)]
        heard = speech.heard(prompt)
        needed = [name for name in self.needed if not (pictured and name in self.pictured)]
        if all(name in heard for name in needed):
            return ""
        dice = random.Random(seed)
        drawn = {name: dice.choice(sorted(speech.words[name])) for name in self.needed}
        return speech.say({name: drawn[name] for name in needed} | speech.guessed(prompt) | heard)

    def _language(self, prompt: str) -> str:
        """The language that most of a prompt's letters are words of; among equals, the one written like it."""
        letters = {name: one.letters(prompt) for name, one in self.speech.items()}
        equals = [name for name, count in letters.items() if count == max(letters.values())]
        scripts = _scripts([prompt]) - {"LATIN"}  # every language here may hold Latin names
        written = {name: _scripts(p for p, *_ in _phrases(self.speech[name].words)) for name in equals}
        fitting = [name for name in equals if scripts and scripts <= written[name]]
        return min(fitting, key=lambda name: len(written[name])) if fitting else equals[0]


def _words(data: Any) -> Words:
    return {n: {v: tuple(map(str, said)) for v, said in values.items()} for n, values in data.items()}


def _phrases(words: Words) -> Iterator[tuple[str, str, str]]:
    for name, values in words.items():
        for value, said in values.items():
            yield from ((_folded(phrase), name, value) for phrase in said)


def _any_of(words: Words) -> re.Pattern[str]:
    """Finds phrases, long ones before short ones; whole words only, where words are spaced."""
    phrases = sorted({phrase for phrase, *_ in _phrases(words)}, key=lambda phrase: (-len(phrase), phrase))
    return re.compile("|".join(map(_bounded, phrases)) or "(?!)")


def _bounded(phrase: str) -> str:
    before, after = (r"(?<![a-z0-9])", r"(?![a-z0-9])")
    start = before if _SPACED.match(phrase[0]) else ""
    return start + re.escape(phrase) + (after if _SPACED.match(phrase[-1]) else "")


def _folded(text: str) -> str:
    """Without what only looks different: width, capitals, runs of spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _scripts(texts: Iterable[str]) -> set[str]:
    """HIRAGANA, CJK, LATIN ...: of all letters."""
    return {unicodedata.name(letter, "").split(" ")[0] for text in texts for letter in text if letter.isalpha()}
