"""Wan Atelier: settings from the environment, the one GPU entry, launch.

Settings: WAN_MODEL, a folder or repository id (default: the built-in model); WAN_DEVICE and
WAN_DTYPE to override what is found; WAN_CACHE, a folder for what need not be computed twice;
WAN_C2PA_CERT, WAN_C2PA_KEY and WAN_C2PA_ALG to sign what is made;
GRADIO_SERVER_NAME and GRADIO_SERVER_PORT as in Gradio.
"""

from __future__ import annotations

import spaces  # first: on ZeroGPU it must come before anything that touches CUDA

# isort: split
import os
import sys
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from wan_core import BUILT_IN, CACHE, Request, WanError
from wan_core.studio.credentials import Signing, configured
from wan_core.studio.produce import produce
from wan_core.types import Event
from wan_core.ui.handlers import Desk
from wan_core.ui.page import build
from wan_core.ui.theme import STYLE, theme
from wan_core.weights.describe import describe

if TYPE_CHECKING:
    from wan_core.pipeline import Pipeline

MODEL = os.environ.get("WAN_MODEL") or BUILT_IN
_loading = threading.Lock()


def pipeline() -> Pipeline:
    """The loaded model; whoever asks first loads it, the others wait."""
    with _loading:
        return _load()


@lru_cache(maxsize=1)
def _load() -> Pipeline:
    import torch  # here and not above: torch and the libraries on it take longer than the page

    from wan_core.pipeline import load

    dtype, cache = os.environ.get("WAN_DTYPE"), Path(os.environ.get("WAN_CACHE") or CACHE)
    return load(MODEL, os.environ.get("WAN_DEVICE"), getattr(torch, dtype) if dtype else None, cache)


@lru_cache(maxsize=1)
def signer() -> Signing | None:
    """Who signs the videos, if anybody."""
    return configured(os.environ)


def seconds(request: Request, path: Path) -> int:  # noqa: ARG001 - called with what make is called with
    """What to ask ZeroGPU for: a minute, and more for more steps and frames."""
    settled = pipeline().settle(request)
    return 60 + settled.num_inference_steps * settled.num_frames // 40


@spaces.GPU(duration=seconds)
def make(request: Request, path: Path) -> Iterator[Event]:
    """Make one video on the GPU; closing the iterator stops it."""
    yield from produce(pipeline(), request, path, signing=signer())


def badge() -> str:
    """Which model, device and precision; waits until the model is loaded."""
    try:
        return pipeline().label
    except WanError as error:  # the same words reach whoever presses Generate
        sys.stderr.write(f"error: {error}\n")
        return "the model cannot be loaded"


def main() -> int:
    """Serve the page, and load the model behind it."""
    try:
        spec = describe(MODEL)
        signer()
        if os.environ.get("SPACES_ZERO_GPU"):  # ZeroGPU packs what is on its device at launch
            pipeline()
    except WanError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    # half of what is left to import: a page that comes 2 s later is better than a first video that does
    import torch  # noqa: F401

    threading.Thread(target=badge, daemon=True).start()
    build(spec, badge, Desk(make)).launch(
        theme=theme(), css_paths=[STYLE], footer_links=["api"], show_error=False, ssr_mode=False,
        run_history=False, enable_monitoring=False, max_file_size="50mb", mcp_server=False,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
