"""Wan Atelier: settings from the environment, the one GPU entry, launch.

Settings: WAN_MODEL, folders or repository ids with commas between them (default: the built-in
models), of which the first that has a tab's mode serves it; WAN_MODELS, others that can be picked
on the page; WAN_LORA, LoRAs for the first of WAN_MODEL, as FILE:STRENGTH@EXPERT; WAN_DEVICE and
WAN_DTYPE to override what is found, float8_e4m3fn to keep weights in half the memory; WAN_COMPILE=1
to compile the transformer's blocks, at the first video of every size (not on ZeroGPU, which would
forget them), or a folder of artifacts that were compiled ahead; WAN_ATTENTION, cudnn, flash3 or sage
in place of torch's own choice on a GPU; WAN_CACHE, a folder for what need not be computed twice;
WAN_OUTPUTS, the folder of jobs and videos (default: outputs), WAN_KEEP_DAYS and
WAN_KEEP_GB for how long and how much of them;
WAN_C2PA_CERT, WAN_C2PA_KEY and WAN_C2PA_ALG to sign what is made;
GRADIO_SERVER_NAME and GRADIO_SERVER_PORT as in Gradio.
"""

from __future__ import annotations

import spaces  # first: on ZeroGPU it must come before anything that touches CUDA

# isort: split
import difflib
import gc
import os
import re
import sys
import threading
from collections.abc import Generator
from dataclasses import replace
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from wan_core import BUILT_IN, CACHE, SPEAKER, Request, WanError
from wan_core.errors import CheckpointError, DeviceError, RequestError
from wan_core.plan import Plan
from wan_core.specs import ARTIFACTS
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
from wan_core.ui.page import KEYS, TABS, build
from wan_core.ui.picker import Choice
from wan_core.ui.sessions import MOST, forgetful
from wan_core.ui.theme import STYLE, theme
from wan_core.ui.words import translations
from wan_core.weights.describe import describe, heft

if TYPE_CHECKING:
    import torch

    from wan_core.pipeline import Pipeline
    from wan_core.specs import ModelSpec

#: What serves the tabs: a mode is made by the first model that has it.
MODELS = [name.strip() for name in os.environ.get("WAN_MODEL", "").split(",") if name.strip()] or [
    str(BUILT_IN),
    str(SPEAKER),
]
#: How many are loaded at start: all that were asked for; of the built-in ones the first, to be there sooner.
AT_START = len(MODELS) if os.environ.get("WAN_MODEL", "").strip() else 1
#: What else can be picked.
MORE = [name.strip() for name in os.environ.get("WAN_MODELS", "").split(",") if name.strip()]
#: What weights can be computed or kept in.
DTYPES = ("bfloat16", "float32", "float16", "float8_e4m3fn", "float8_e5m2")
KEEP = {"WAN_KEEP_DAYS": "30", "WAN_KEEP_GB": "20"}
FIRST_PACE = 1e14  # FLOPs a second of a ZeroGPU slice, guessed low
_loading = threading.Lock()
_locks: dict[str, threading.Lock] = {}  # a model's own, so that a download holds up nobody else
_at_work = ""  # the model that makes a video now
_pipelines: dict[str, Pipeline] = {}  # by name, the oldest first
_news: dict[str, tuple[str, int, int]] = {}  # what is being downloaded


@lru_cache(maxsize=1)
def offered() -> dict[str, tuple[str, ModelSpec]]:
    """All models by their names, those that serve the tabs first, and what each is, from its JSON files."""
    found: dict[str, tuple[str, ModelSpec]] = {}
    for model in dict.fromkeys(MODELS + MORE):
        try:
            spec = describe(model, _loras(model))
        except WanError as error:
            if model in MODELS:
                raise
            sys.stderr.write(f"error: {error}; it cannot be picked\n")
            continue
        name = spec.name if spec.name not in found else f"{spec.name}-{spec.revision[:6]}"
        found[name] = model, replace(spec, name=name)
    return found


def specs() -> tuple[ModelSpec, ...]:
    """Those that serve the tabs."""
    return tuple(spec for model, spec in offered().values() if model in MODELS)


def _loras(model: str) -> str:
    """What is merged into a model: LoRAs belong to the first."""
    return os.environ.get("WAN_LORA", "") if model == MODELS[0] else ""


def pipeline(mode: str, name: str | None = None) -> Pipeline:
    """The loaded model that makes a mode, or the one that was picked; whoever asks first loads it, others wait.

    Raises:
        RequestError: it is not at hand.
    """
    if name is None:
        name = next((spec.name for spec in specs() if mode in spec.modes), specs()[0].name)
    if name not in offered():
        raise RequestError("model", name, "is not at hand", f"try {', or '.join(offered())}")
    return _loaded(name)


def _loaded(name: str) -> Pipeline:
    pipe = _pipelines.get(name)  # without a lock: a fork of ZeroGPU's must never wait for one
    if pipe is None:
        with _locks.setdefault(name, threading.Lock()):
            pipe = _pipelines.get(name) or _load(name)
            _pipelines[name] = pipe
    return pipe


def _load(name: str) -> Pipeline:

    from wan_core.assembly import load

    model, spec = offered()[name]
    kept, lent = Path(os.environ.get("WAN_CACHE") or CACHE), _on_loan()
    try:
        size = heft(model, lambda done, of: _news.update({name: (name, done, of)}))
        with _loading:  # one at a time, after what it downloads is here
            if not lent:
                _make_room(size)
            pipe = load(
                model, os.environ.get("WAN_DEVICE"), _dtype(), kept, _loras(model),
                lent=lent, compiled=_compiled(lent),
            )  # fmt: skip
    finally:
        _news.pop(name, None)
    pipe.call(spec.name)
    gc.collect()
    gc.freeze()  # libraries and weights stay: a collection that walked them all would hold up every answer
    return pipe


def _compiled(lent: bool) -> bool | Path:
    """What WAN_COMPILE asks for: compiling, or a folder of artifacts that were compiled ahead.

    Raises:
        CheckpointError: it is no such folder.
    """
    asked = os.environ.get("WAN_COMPILE", "").strip()
    if asked.lower() in ("", "0", "false"):
        return False
    if asked.lower() in ("1", "true"):
        return not lent
    if not (Path(asked) / ARTIFACTS).is_file():
        raise CheckpointError(f"WAN_COMPILE={Path(asked).name}: neither 1 nor a folder that wan_core.artifact wrote")
    return Path(asked)


def _dtype() -> torch.dtype | None:
    """What WAN_DTYPE asks for, if anything.

    Raises:
        CheckpointError: there is no such type of weights.
    """
    import torch

    name = os.environ.get("WAN_DTYPE", "").strip()
    if name and name not in DTYPES:
        near = difflib.get_close_matches(name, DTYPES, 1, 0.3)
        raise CheckpointError(f"WAN_DTYPE={name}: weights are {', '.join(DTYPES)}; try {(near or DTYPES)[0]}")
    return getattr(torch, name) if name else None


def _make_room(size: int) -> None:
    """Let go of models that are not at work, where another would not fit into RAM beside them.

    Those that were picked go first, and of the rest the oldest.
    """
    from wan_core.memory import free

    tabs = [spec.name for spec in specs()]
    for name in sorted(_pipelines, key=lambda name: name in tabs):
        if size <= free("cpu"):
            return
        if name != _at_work:
            _pipelines.pop(name).close()
            gc.unfreeze()
            gc.collect()


def _on_loan() -> bool:
    """Whether this is ZeroGPU, whose device comes with each visitor's request."""
    return bool(os.environ.get("SPACES_ZERO_GPU"))


def choices() -> list[Choice]:
    """What can be picked, where there is a choice."""
    if not MORE:
        return []
    import torch

    from wan_core.placement import verdict

    device = torch.device(os.environ.get("WAN_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = _dtype() or torch.bfloat16
    first = {mode: next((spec.name for spec in specs() if mode in spec.modes), None) for mode in TABS}
    return [
        Choice(
            spec, verdict(spec, device, dtype), partial(_label, name), frozenset(m for m in TABS if first[m] == name)
        )
        for name, (_, spec) in offered().items()
    ]


@lru_cache(maxsize=1)
def signer() -> Signing | None:
    """Who signs the videos, if anybody."""
    return configured(os.environ)


def check(request: Request) -> Plan:
    """What a request comes to, by the model that will make it."""
    return pipeline(request.mode, request.model).plan(request)


def seconds(job: str) -> int:
    """What to ask ZeroGPU for: by this Space's own finished jobs, or by a sane guess before the first."""
    card = ledger().jobs.card(job)
    return round(30 + 1.5 * card.flops / (ledger().pace(card.model, card.flops, card.tier) or FIRST_PACE))


@spaces.GPU(duration=seconds)
def make(job: str) -> None:
    """Do one job on the GPU; its folder tells how it is coming on and whether to stop."""

    def produced(request: Request, path: Path, cancelled: CancelCheck, kept: Kept) -> Generator[Event, None, None]:
        global _at_work  # noqa: PLW0603 - one job at a time
        pipe = pipeline(request.mode, request.model)
        _at_work = pipe.spec.name
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
    names = [spec.name for spec in specs()]
    labels = [_label(name) if number < AT_START else name for number, name in enumerate(names)]
    return " + ".join(dict.fromkeys(labels))


def _label(name: str) -> str:
    try:
        return _loaded(name).label
    except WanError as error:  # the same words reach whoever presses Generate
        sys.stderr.write(f"error: {error}\n")
        return f"{name} cannot be loaded"


def _speaks_mcp() -> bool:
    """Whether the endpoints can be MCP tools too: the package is installed, in the version that Gradio knows."""
    try:
        found = version("mcp")
    except PackageNotFoundError:
        return False
    if not found.startswith("1."):
        sys.stderr.write(f"mcp {found} is not the one that Gradio knows (1.x): the endpoints are no MCP tools\n")
    return found.startswith("1.")


def main() -> int:
    """Serve the page, and load the models behind it."""
    try:
        signer()
        _dtype()
        _compiled(lent=False)
        known = specs()
        if by := os.environ.get("WAN_ATTENTION", "").strip():
            from wan_core.assembly import attend

            attend(by)
        if _on_loan():  # ZeroGPU packs what is on its device at launch
            for name in offered():
                _label(name)
    except WanError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    # half of what is left to import: a page that comes 2 s later is better than a first video that does
    import torch  # noqa: F401

    picks = choices()  # it imports what loading imports, and two threads at that would meet half-made modules
    threading.Thread(target=badge, daemon=True).start()
    days, gigabytes = (float(os.environ.get(name) or default) for name, default in KEEP.items())
    queue = Queue(ledger(), carry, immediate=_on_loan(), days=days, gigabytes=gigabytes)
    queue.start()
    cert = os.environ.get("WAN_C2PA_CERT", "")
    desk = Desk(ledger(), queue, check, cert, lambda: next(iter(_news.values()), None))
    build(known, badge, desk, picks).launch(
        theme=theme(), css_paths=[STYLE], js=KEYS, i18n=translations(), footer_links=["api"], show_error=False,
        ssr_mode=False, run_history=False, enable_monitoring=False, max_file_size="50mb",
        mcp_server=_speaks_mcp(),
        app_kwargs={"middleware": shut() + forgetful()}, allowed_paths=[str(SHELF)], state_session_capacity=MOST,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
