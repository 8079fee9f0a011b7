"""The stage: one box whose states are empty, waiting, denoising, decoding, playing and failed."""

from __future__ import annotations

import base64
import html

from wan_core.plan import Plan
from wan_core.studio.jobs import Status
from wan_core.ui.told import told
from wan_core.ui.words import say

MUCH = 1e9  # bytes that are worth a word
PHASES = {
    "encode": "Reading the prompt",
    "compile": "Compiling for this size",
    "denoise": "Denoising",
    "decode": "Decoding",
}


def empty(language: str) -> str:
    """Before anything was asked for."""
    return _quiet(say(language, "Your video appears here"))


def waiting(language: str, ahead: int, news: tuple[str, int, int] | None = None) -> str:
    """In the queue, behind so many others; or behind a download, of which so many bytes of so many are here."""
    place = f"<br>{say(language, '{count} before yours', count=ahead)}" if ahead else ""
    if news:
        model, done, total = news
        words = "{model} is being downloaded: {done} of {total} GB"
        sizes = {"done": f"{done / 1e9:.1f}", "total": f"{total / 1e9:.1f}"}
        place += f"<br>{html.escape(say(language, words, model=model, **sizes))}"
    return _quiet(say(language, "Waiting for the model …") + place)


def stopped(language: str) -> str:
    """The user cancelled."""
    return _quiet(say(language, "Stopped"))


def failed(language: str, message: str) -> str:
    """Something is to be mended; the message says what."""
    head = say(language, "This cannot be made yet")
    return _view(f'<div class="fault" role="alert"><b>{head}</b>{html.escape(message)}</div>')


def working(language: str, status: Status, picture: str | None) -> str:
    """A phase, its step, and the preview so far.

    Args:
        language: of the words.
        status: where the work is.
        picture: a data URI, or None.
    """
    words, left = say(language, PHASES[status.phase]), ""
    if status.phase == "denoise":
        words += ", " + say(language, "step {step} of {of}", step=status.step, of=status.of)
    if status.seconds_left is not None:
        left = say(language, "{seconds} s left", seconds=round(status.seconds_left))
    image = f'<img src="{picture}" alt="{say(language, "preview of the video so far")}">' if picture else ""
    return _view(
        f'{image}<div class="line"><div class="words"><span>{words}</span><span>{left}</span></div>'
        f'<div class="track"><div style="width:{100 * status.share:.1f}%"></div></div></div>'
    )


def plan_line(language: str, plan: Plan, seconds: float | None) -> str:
    """What will be made, how long that takes here if known, memory if it is much, what waits for want of it."""
    settled = plan.settled
    length = say(
        language, "{seconds} s ({frames} frames, {fps} a second)", frames=settled.frames, fps=settled.fps,
        seconds=f"{settled.frames / settled.fps:.1f}",
    )  # fmt: skip
    steps = say(language, "{steps} steps", steps=settled.num_inference_steps)
    parts = [f"{settled.width}x{settled.height}", length, steps]
    if seconds is not None and seconds > 90:
        parts.append(say(language, "takes about {minutes} min here", minutes=round(seconds / 60)))
    elif seconds is not None:
        parts.append(say(language, "takes about {seconds} s here", seconds=max(1, round(seconds))))
    if plan.peak > MUCH:
        parts.append(say(language, "{gigabytes} GB of memory", gigabytes=f"{plan.peak / 1e9:.1f}"))
    if plan.placement:
        parts.append(told(language, plan.placement))
    return " · ".join(parts)


def line(text: str) -> str:
    """One quiet line; nothing in it is markup."""
    return f'<div class="plan">{html.escape(text)}</div>' if text else ""


def data_uri(webp: bytes) -> str:
    """A picture to put into the page itself."""
    return "data:image/webp;base64," + base64.b64encode(webp).decode()


def _quiet(inner: str) -> str:
    return _view(f'<div class="quiet">{inner}</div>')


def _view(inner: str) -> str:
    return f'<div class="view" aria-live="polite">{inner}</div>'
