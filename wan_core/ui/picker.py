"""The picker: which models serve a tab, how large they are, whether they fit, and their licence."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wan_core.specs import PUBLISHED, TEXT_ENCODER, ModelSpec
from wan_core.ui.told import told
from wan_core.ui.words import say


@dataclass(frozen=True)
class Choice:
    """A model that can be picked.

    Attributes:
        spec: what it is; its name is its own among all choices.
        fits: how it fits this machine, in English; empty where nobody knows.
        badge: says which model, device and precision, once it is loaded.
        first: the tabs that it serves on the first page.
    """

    spec: ModelSpec
    fits: str
    badge: Callable[[], str]
    first: frozenset[str] = frozenset()


def path(spec: ModelSpec) -> str:
    """The address of a model's own page."""
    return re.sub(r"[^a-zA-Z0-9.-]+", "-", spec.name)


def picker(mode: str, current: ModelSpec | None, choices: Sequence[Choice], language: str) -> str:
    """A tab's models, as links to their pages.

    Args:
        mode: the tab's.
        current: the model that serves it here; None where none does.
        choices: all models that can be picked.
        language: the visitor's.
    """
    rows = [_row(mode, choice, choice.spec is current, language) for choice in choices if mode in choice.spec.modes]
    head = html.escape(f"{say(language, 'Model')}: {current.name if current else '–'}")
    return f'<details class="models"><summary>{head}</summary><ul>{"".join(rows)}</ul></details>'


def _row(mode: str, choice: Choice, current: bool, language: str) -> str:
    spec = choice.spec
    published = PUBLISHED.get(spec.name)
    facts = [spec.licence, told(language, choice.fits)]
    if published is not None:
        experts = 1 if spec.boundary is None else 2
        size = 2 * experts * published.parameters + TEXT_ENCODER  # in bfloat16
        facts.insert(0, f"{size / 1e9:.1f} GB")
    words = html.escape(" · ".join(filter(None, facts)))
    address = html.escape(f"./{'' if mode in choice.first else path(spec)}?tab={mode}")
    here = ' aria-current="page"' if current else ""
    return f'<li><a href="{address}"{here}>{html.escape(spec.name)}</a> <span>{words}</span></li>'
