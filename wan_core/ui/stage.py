"""The stage: one box whose states are empty, waiting, denoising, decoding, playing and failed."""

from __future__ import annotations

import base64
import html

from wan_core.studio.jobs import Status
from wan_core.types import Settled

PHASES = {"encode": "Reading the prompt", "denoise": "Denoising", "decode": "Decoding"}


def empty() -> str:
    """Before anything was asked for."""
    return _view('<div class="quiet">Your video appears here.</div>')


def waiting(ahead: int) -> str:
    """In the queue, behind so many others."""
    place = "" if not ahead else f"<br>{ahead} video{'s' if ahead > 1 else ''} before yours"
    return _view(f'<div class="quiet">Waiting for the model …{place}</div>')


def stopped() -> str:
    """The user cancelled."""
    return _view('<div class="quiet">Stopped.</div>')


def failed(message: str) -> str:
    """Something is to be mended; the message says what."""
    return _view(f'<div class="fault" role="alert"><b>This cannot be made yet</b>{html.escape(message)}</div>')


def working(status: Status, picture: str | None) -> str:
    """A phase, its step, and the preview so far.

    Args:
        status: where the work is.
        picture: a data URI, or None.
    """
    words = PHASES[status.phase]
    if status.phase == "denoise":
        words += f", step {status.step} of {status.of}"
    left = "" if status.seconds_left is None else f"{status.seconds_left:.0f} s left"
    image = f'<img src="{picture}" alt="preview of the video so far">' if picture else ""
    return _view(
        f'{image}<div class="line"><div class="words"><span>{words}</span><span>{left}</span></div>'
        f'<div class="track"><div style="width:{100 * status.share:.1f}%"></div></div></div>'
    )


def plan_line(settled: Settled, seconds: float | None) -> str:
    """What will be made, and how long that takes here if that is known."""
    length = f"**{settled.num_frames / settled.fps:.1f} s** ({settled.num_frames} frames, {settled.fps} a second)"
    line = f"{settled.width}x{settled.height} · {length} · {settled.num_inference_steps} steps"
    if seconds is None:
        return line
    minutes = f"{seconds / 60:.0f} min" if seconds > 90 else f"{max(1, seconds):.0f} s"
    return f"{line} · takes about **{minutes}** here"


def data_uri(webp: bytes) -> str:
    """A picture to put into the page itself."""
    return "data:image/webp;base64," + base64.b64encode(webp).decode()


def _view(inner: str) -> str:
    return f'<div class="view" aria-live="polite">{inner}</div>'
