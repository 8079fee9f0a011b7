"""Wan Atelier: settings from the environment, the one GPU entry, launch.

Settings: WAN_MODEL, folders or repository ids with commas between them (default: the built-in
models), of which the first that has a tab's mode serves it; WAN_DEVICE and
WAN_DTYPE to override what is found; WAN_CACHE, a folder for what need not be computed twice;
WAN_OUTPUTS, the folder of jobs and videos (default: outputs), WAN_KEEP_DAYS and WAN_KEEP_GB for how
long and how much of them;
WAN_C2PA_CERT, WAN_C2PA_KEY and WAN_C2PA_ALG to sign what is made;
GRADIO_SERVER_NAME and GRADIO_SERVER_PORT as in Gradio.
"""

from __future__ import annotations

import spaces  # first: on ZeroGPU it must come before anything that touches CUDA

# isort: split
import os
import re
import sys
import threading
from collections.abc import Generator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from wan_core import BUILT_IN, CACHE, SPEAKER, Request, WanError
from wan_core.errors import DeviceError
from wan_core.plan import Plan
from wan_core.studio.credentials import Signing, configured
from wan_core.studio.jobs import Jobs
from wan_core.studio.ledger import Ledger
from wan_core.studio.produce import produce
from wan_core.studio.queue import Queue
from wan_core.studio.work import carry_out
from wan_core.types import CancelCheck, Event, Kept
from wan_core.ui.desk import Desk
from wan_core.ui.guard import shut
from wan_core.ui.inputs import SHELF
from wan_core.ui.page import KEYS, build
from wan_core.ui.theme import STYLE, theme
from wan_core.ui.words import translations
from wan_core.weights.describe import describe

if TYPE_CHECKING:
    from wan_core.pipeline import Pipeline
    from wan_core.specs import ModelSpec

#: What serves the tabs: a mode is made by the first model that has it.
MODELS = [name.strip() for name in os.environ.get("WAN_MODEL", "").split(",") if name.strip()] or [
    str(BUILT_IN), str(SPEAKER)
]
#: How many are loaded at start: all that were asked for; of the built-in ones the first, to be there sooner.
AT_START = len(MODELS) if os.environ.get("WAN_MODEL", "").strip() else 1
KEEP = {"WAN_KEEP_DAYS": "30", "WAN_KEEP_GB": "20"}
FIRST_PACE = 1e14  # FLOPs a second of a ZeroGPU slice, guessed low
_loading = threading.Lock()
_pipelines: dict[str, Pipeline] = {}


@lru_cache(maxsize=1)
def specs() -> tuple[ModelSpec, ...]:
    """What every model is, from its JSON files."""
    return tuple(describe(model) for model in MODELS)


def pipeline(mode: str) -> Pipeline:
    """The loaded model that makes a mode; whoever asks first loads it, the others wait."""
    return _loaded(next((i for i, spec in enumerate(specs()) if mode in spec.modes), 0))


def _loaded(number: int) -> Pipeline:
    if MODELS[number] not in _pipelines:
        with _loading:
            if MODELS[number] not in _pipelines:
                _pipelines[MODELS[number]] = _load(MODELS[number])
    return _pipelines[MODELS[number]]  # without the lock: a fork of ZeroGPU's must never wait for it


def _load(model: str) -> Pipeline:
    import torch  # here and not above: torch and the libraries on it take longer than the page

    from wan_core.pipeline import load

    dtype, kept = os.environ.get("WAN_DTYPE"), Path(os.environ.get("WAN_CACHE") or CACHE)
    return load(model, os.environ.get("WAN_DEVICE"), getattr(torch, dtype) if dtype else None, kept)


@lru_cache(maxsize=1)
def signer() -> Signing | None:
    """Who signs the videos, if anybody."""
    return configured(os.environ)


def check(request: Request) -> Plan:
    """What a request comes to, by the model that will make it."""
    return pipeline(request.mode).plan(request)


def seconds(job: str) -> int:
    """What to ask ZeroGPU for: by this Space's own finished jobs, or by a sane guess before the first."""
    card = ledger().jobs.card(job)
    return round(30 + 1.5 * card.flops / (ledger().pace(card.model) or FIRST_PACE))


@spaces.GPU(duration=seconds)
def make(job: str) -> None:
    """Do one job on the GPU; its folder tells how it is coming on and whether to stop."""

    def produced(request: Request, path: Path, cancelled: CancelCheck, kept: Kept) -> Generator[Event, None, None]:
        pipe = pipeline(request.mode)
        card = ledger().jobs.card(job)
        same = (pipe.spec.name, pipe.spec.revision) == (card.model, card.revision)  # latents are of no use to others
        return produce(pipe, request, path, cancelled, kept if same else None, signer())

    carry_out(ledger().jobs, job, produced)


def carry(job: str) -> None:
    """Do one job wherever it can be done.

    Raises:
        DeviceError: ZeroGPU lends no device (a quota is used up, say), or took it away.
    """
    try:
        make(job)
    except gr.Error as error:
        raise DeviceError(re.sub(r"<[^>]+>", "", str(error.message))) from error


@lru_cache(maxsize=1)
def ledger() -> Ledger:
    """All jobs."""
    return Ledger(Jobs(Path(os.environ.get("WAN_OUTPUTS") or "outputs").resolve()))


def badge() -> str:
    """Which models, device and precision; waits until those that are loaded at start are."""
    labels = [_label(number) if number < AT_START else spec.name for number, spec in enumerate(specs())]
    return " + ".join(dict.fromkeys(labels))


def _label(number: int) -> str:
    try:
        return _loaded(number).label
    except WanError as error:  # the same words reach whoever presses Generate
        sys.stderr.write(f"error: {error}\n")
        return f"{specs()[number].name} cannot be loaded"


def main() -> int:
    """Serve the page, and load the models behind it."""
    try:
        signer()
        known = specs()
        if os.environ.get("SPACES_ZERO_GPU"):  # ZeroGPU packs what is on its device at launch
            for number in range(len(known)):
                _label(number)
    except WanError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    # half of what is left to import: a page that comes 2 s later is better than a first video that does
    import torch  # noqa: F401

    threading.Thread(target=badge, daemon=True).start()
    on_loan = bool(os.environ.get("SPACES_ZERO_GPU"))
    days, gigabytes = (float(os.environ.get(name) or default) for name, default in KEEP.items())
    queue = Queue(ledger(), carry, immediate=on_loan, days=days, gigabytes=gigabytes)
    queue.start()
    build(known, badge, Desk(ledger(), queue, check)).launch(
        theme=theme(), css_paths=[STYLE], js=KEYS, i18n=translations(), footer_links=["api"], show_error=False,
        ssr_mode=False, run_history=False, enable_monitoring=False, max_file_size="50mb", mcp_server=False,
        app_kwargs={"middleware": shut()}, allowed_paths=[str(SHELF)],
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
