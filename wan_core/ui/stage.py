"""The stage: one box whose states are empty, waiting, denoising, decoding, playing and failed."""

from __future__ import annotations

import base64
import html
import io

import numpy as np
from PIL import Image

from wan_core.types import Preview, Progress

PHASES = {"encode": "Reading the prompt", "denoise": "Denoising", "decode": "Decoding"}


def empty() -> str:
    """Before anything was asked for."""
    return _view('<div class="quiet">Your video appears here.</div>')


def waiting() -> str:
    """In the queue, or the model is busy with someone else's video."""
    return _view('<div class="quiet">Waiting for the model …</div>')


def stopped() -> str:
    """The user cancelled."""
    return _view('<div class="quiet">Stopped. Nothing was kept.</div>')


def failed(message: str) -> str:
    """Something is to be mended; the message says what."""
    return _view(f'<div class="fault" role="alert"><b>This cannot be made yet</b>{html.escape(message)}</div>')


def working(progress: Progress, picture: str | None, seconds_left: float | None) -> str:
    """A phase, its step, and the preview so far.

    Args:
        progress: where the work is.
        picture: a data URI from :func:`preview`, or None.
        seconds_left: an estimate, or None while there is none.
    """
    words = PHASES[progress.phase]
    if progress.phase == "denoise":
        words += f", step {progress.step} of {progress.of}"
    left = "" if seconds_left is None else f"{seconds_left:.0f} s left"
    image = f'<img src="{picture}" alt="preview of the video so far">' if picture else ""
    return _view(
        f'{image}<div class="line"><div class="words"><span>{words}</span><span>{left}</span></div>'
        f'<div class="track"><div style="width:{100 * progress.share:.1f}%"></div></div></div>'
    )


def preview(event: Preview) -> str:
    """An animated picture of the latents, as a data URI."""
    frames = [Image.fromarray(np.asarray(f)) for f in event.frames]
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], duration=240, loop=0, quality=80)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def _view(inner: str) -> str:
    return f'<div class="view" aria-live="polite">{inner}</div>'
