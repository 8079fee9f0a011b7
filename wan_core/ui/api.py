"""What programs call: named endpoints with typed parameters, and errors that they can read.

``/text_to_video`` and its like wait for the video; ``/plan`` prices a recipe and ``/submit`` takes one
and returns at once; a job is then found by its id. An error's sentence is its message, and its title
holds the same for programs, as JSON: ``code``, ``field``, ``message``, ``fix``, ``retry_after``.
"""

from __future__ import annotations

import html
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from wan_core.errors import EarlyError, MediaError, RequestError
from wan_core.plan import OWN_GUIDANCE, Plan
from wan_core.specs import ModelSpec
from wan_core.studio.provenance import verify
from wan_core.studio.recipe import Engines, asked, restore
from wan_core.types import Request
from wan_core.ui.desk import Desk, fit_to_show
from wan_core.ui.handlers import named
from wan_core.ui.inputs import clip, flattened, picture, request_of, voice

#: Every parameter and what the documentation says of it. What is left out follows the model's recipe.
PARAMETERS = {
    "recipe": 'an object such as {"prompt": "a red ball", "seed": 1}, or the recipe in what /plan or /restore gives',
    "job": "its id",
    "file": "an mp4",
    "prompt": "what to show, 1 to 2,000 characters",
    "image": "the first frame, a picture",
    "last_image": "the last frame, for models that take one",
    "extends": "a video to go on from, in place of image: it stands in front of what is made, without its sound",
    "image_fit": "how pictures meet the frame: crop or pad; crop if left out",
    "focal_x": "what a crop keeps in view, across: 0 to 1",
    "focal_y": "what a crop keeps in view, down: 0 to 1",
    "reference_images": "up to three pictures of who or what is shown",
    "audio": "a voice or another sound; the video lasts as long",
    "video": "a video to follow or to change, for models that take one; padded, what is around it is made",
    "mask": "where that video is changed: a video or a picture, white there and black elsewhere",
    "negative_prompt": "what to avoid",
    "width": "pixels",
    "height": "pixels",
    "num_frames": "4n+1 frames",
    "duration_seconds": "seconds, in place of num_frames",
    "num_inference_steps": "1 to 100",
    "guidance_scale": "1 to 20; 1 is off",
    "guidance_scale_2": "the same for the expert at low noise",
    "audio_guidance_scale": "how closely lips follow the sound",
    "image_guidance_scale": "how closely reference images are kept",
    "conditioning_scale": "how closely the video and references are followed; 1 is as trained",
    "guidance_method": "plain, or zero_star: CFG-Zero*",
    "guidance_start": "guidance begins after this share of the steps, 0 to 1",
    "guidance_stop": "and ends after this one; steps without it take less time",
    "flow_shift": "how far sampling leans to high noise",
    "sampler": "unipc, euler or renoise (for models distilled with DMD)",
    "tier": "exact; or fast: steps that would change little are left out; or scheduled: fixed ones are",
    "seed": "a whole number from 0; one is drawn if left out, and returned in the recipe",
}
_MEDIA = ("image", "last_image", "extends", "reference_images", "audio", "video", "mask")
#: Which modes have a parameter, where not all do, and what the model must take there.
_ONLY = {
    "image": {"image": ""}, "last_image": {"image": ""}, "extends": {"image": ""},
    **{name: {"image": "", "reference": "video"} for name in ("image_fit", "focal_x", "focal_y")},
    **{name: {"reference": ""} for name in ("reference_images", "image_guidance_scale")},
    **{name: {"reference": "sound"} for name in ("audio", "audio_guidance_scale")},
    **{name: {"reference": "video"} for name in ("video", "mask", "conditioning_scale")},
}  # fmt: skip
_WORDS = ("prompt", "image_fit", "negative_prompt", "sampler", "tier", "guidance_method")
Offered = Mapping[str, ModelSpec]
T = TypeVar("T")


def parameters(mode: str, engine: ModelSpec) -> list[str]:
    """The parameters of a mode's endpoint, in order, as far as the model that serves it has a use for them."""

    def useful(name: str) -> bool:
        takes = _ONLY.get(name, {mode: ""}).get(mode)
        if name == "guidance_method" and engine.kind in OWN_GUIDANCE:
            return False
        return name not in ("recipe", "job", "file") and takes is not None and (not takes or takes in engine.modes)

    return [name for name in PARAMETERS if useful(name)]


def publish(desk: Desk, engines: Engines, offered: Offered) -> None:
    """Add all endpoints to the page that is being built.

    Args:
        desk: runs requests.
        engines: which model serves which mode.
        offered: all that a recipe may name.
    """
    video, recipe = gr.Video(label="video", visible=False), gr.JSON(label="recipe", visible=False)
    job = gr.Textbox(visible=False, label="job")
    for mode, engine in ((mode, engine) for mode, engine in engines.items() if engine is not None):
        names = parameters(mode, engine)
        _add(f"{mode}_to_video", _making(desk, mode, names), [_part(n) for n in names], [video, recipe, job])
    given = [_part(name) for name in ("recipe", *_MEDIA)]
    _add("plan", _planning(desk, engines, offered), given, gr.JSON(visible=False, label="plan"))
    _add("submit", _submitting(desk, engines, offered), given, job)
    said = gr.JSON(visible=False, label="status")
    for name, call, outputs in (
        ("status", _status, said), ("result", _result, [video, recipe]), ("cancel", _cancel, said),
        ("retry", _retry, said),
    ):  # fmt: skip
        _add(name, call(desk), [job], outputs)
    file, said = gr.File(visible=False, label="file"), gr.JSON(visible=False, label="statement")
    _add("verify", _verifying(), [file], said)
    _add("restore", _restoring(engines), [file], said)


def _add(name: str, call: Callable[..., Any], inputs: Sequence[Any], outputs: Any) -> None:
    call.__name__ = name  # what MCP calls its tools by
    takes = [part for part in inspect.signature(call).parameters if part in PARAMETERS]
    call.__doc__ = "\n".join([call.__doc__ or "", "", "Args:", *(f"    {part}: {PARAMETERS[part]}" for part in takes)])
    gr.Button(visible=False).click(call, list(inputs), outputs, api_name=name, show_progress="hidden")


def _part(name: str) -> Any:
    """An invisible widget that carries a parameter."""
    words = PARAMETERS[name]
    if name == "recipe":
        widget = gr.JSON(label=words, visible=False)
        widget.api_info = lambda: {"type": "object"}  # Gradio's own is no JSON schema, and MCP refuses it
        return widget
    if name == "reference_images":
        return gr.File(file_count="multiple", label=words, visible=False)
    if name == "audio":
        return voice(words, visible=False)
    if name in ("video", "extends"):
        return clip(words, visible=False)
    if name == "mask":
        return gr.File(label=words, visible=False)
    if name in _MEDIA:
        return picture(words, visible=False)
    return gr.Textbox(label=words, visible=False) if name in _WORDS else gr.Number(label=words, visible=False)


# --- making -----------------------------------------------------------------------------------


def _making(desk: Desk, mode: str, names: list[str]) -> Callable[..., Any]:
    async def call(*inputs: Any) -> AsyncIterator[tuple[str | None, dict[str, Any] | None, str]]:
        *values, visitor = inputs
        fields = dict(zip(names, values, strict=True))
        job = await worded(desk.submit(lambda: request_of(mode, fields), visitor.session_hash or ""))
        yield None, None, job
        async with aclosing(desk.watch(job)) as statuses:
            async for _ in statuses:
                pass
        yield *await _made(desk, job), job

    text = f"Make a video in {mode} mode. The job's id comes at once, the video and its recipe in the end."
    return _documented(call, text, names, required="prompt")


def _planning(desk: Desk, engines: Engines, offered: Offered) -> Callable[..., Any]:
    async def call(*inputs: Any) -> dict[str, Any]:
        *values, _ = inputs
        plan, seconds = await worded(desk.price(lambda: _wanted(engines, offered, *values)))
        return priced(plan, seconds)

    text = "What a recipe comes to before anything is spent: every choice made, FLOPs, memory, and seconds here."
    return _documented(call, text, ["recipe", *_MEDIA], required="recipe")


def _submitting(desk: Desk, engines: Engines, offered: Offered) -> Callable[..., Any]:
    async def call(*inputs: Any) -> str:
        *values, visitor = inputs
        return await worded(desk.submit(lambda: _wanted(engines, offered, *values), visitor.session_hash or ""))

    call.__doc__ = (
        'Hand in a recipe, such as {"prompt": "a red ball", "seed": 1} or what /restore and /plan return, and '
        "get the job's id at once."
    )
    return named(call, ["recipe", *_MEDIA], required=("recipe",))


def _wanted(engines: Engines, offered: Offered, recipe: Any, *files: Any) -> Request:
    """A recipe and the files that it cannot hold, as a request to the model that it names."""
    given = {name: file for name, file in zip(_MEDIA, files, strict=True) if file}
    if "reference_images" in given:
        given["reference_images"] = tuple(given["reference_images"])
    request = Request(**asked(recipe) | given)
    if recipe.get("mode", request.mode) != request.mode:
        rule = "is not what the files given are for"
        raise RequestError("mode", recipe["mode"], rule, f"this would be {request.mode}")
    engine, named = engines[request.mode], offered.get(str(recipe.get("model")))
    if named is not None and request.mode in named.modes and named is not engine:
        engine, request = named, replace(request, model=str(recipe["model"]))
    if engine is None:
        raise RequestError("mode", request.mode, "nothing that is loaded makes this", "see what the page's tabs say")
    for name, is_now in (("model", engine.name), ("revision", engine.revision), ("fps", engine.recipe.fps)):
        if recipe.get(name, is_now) != is_now:
            hint = f"this would be {is_now}: leave {name} out if that will do"
            raise RequestError(name, recipe[name], "is not what is loaded for this", hint)
    return request


def priced(plan: Plan, seconds: float | None) -> dict[str, Any]:
    """A plan as programs get it."""
    settled = plan.settled.as_json()
    return {
        "recipe": {"model": plan.model} | settled, "video_seconds": plan.settled.frames / plan.settled.fps,
        "tokens": plan.tokens, "forward_passes": plan.passes, "flops": plan.flops, "peak_bytes": plan.peak,
        "placement": plan.placement,
        "seconds_here": seconds,
    }  # fmt: skip


# --- jobs -------------------------------------------------------------------------------------


def _status(desk: Desk) -> Callable[..., Any]:
    async def status(job: str) -> dict[str, Any]:
        """How far a job is: its phase, step, share, seconds left, and how many are before it."""
        return await _progress(desk, job)

    return status


def _result(desk: Desk) -> Callable[..., Any]:
    async def finished(job: str) -> tuple[str, dict[str, Any]]:
        """A finished job's video and recipe."""
        return await _made(desk, job)

    return finished


def _cancel(desk: Desk) -> Callable[..., Any]:
    async def cancel(job: str) -> dict[str, Any]:
        """Stop a job at its next step."""
        await worded(desk.cancel(job))
        return await _progress(desk, job)

    return cancel


def _retry(desk: Desk) -> Callable[..., Any]:
    async def retry(job: str) -> dict[str, Any]:
        """Run a job that failed or was stopped once more, from what it kept."""
        await worded(desk.again(job))
        return await _progress(desk, job)

    return retry


async def _progress(desk: Desk, job: str) -> dict[str, Any]:
    status, ahead = await worded(desk.aside(desk.look, job))
    return asdict(status) | {"ahead": ahead}


async def _made(desk: Desk, job: str) -> tuple[str, dict[str, Any]]:
    """A finished job's video and the recipe that stands in it."""
    status, _ = await worded(desk.aside(desk.look, job))
    if status.phase != "done":
        raise _error(status.error or EarlyError("job", job, "is not finished yet", "ask /status").details())
    path = await worded(desk.hand_out(job))
    return str(path), (await worded(desk.aside(verify, path))).recipe


# --- what a video says ------------------------------------------------------------------------


def _verifying() -> Callable[..., Any]:
    def statement(file: str | None) -> dict[str, Any]:
        """Tell what a video says about its own making; nothing of it is proven but a signed manifest."""
        try:
            return asdict(verify(_given(file)))
        except Exception as error:
            raise refused(error) from None

    return statement


def _restoring(engines: Engines) -> Callable[..., Any]:
    def recipe(file: str | None) -> dict[str, Any]:
        """How to make a video again: the endpoint and its fields, the recipe, and what would differ now."""
        try:
            wanted, differs = restore(_given(file), engines)
        except Exception as error:
            raise refused(error) from None
        mode = wanted.pop("mode")
        engine = engines[mode]
        known = [] if engine is None else parameters(mode, engine)
        fields = {k: v for k, v in flattened(wanted).items() if k in known}
        return {"api_name": f"/{mode}_to_video", "fields": fields, "recipe": wanted, "differs": differs}

    return recipe


def _given(file: str | None) -> Path:
    if not file:
        raise MediaError("file", "nothing", "there is no video to look at", "give an mp4")
    return Path(file)


# --- errors and signatures --------------------------------------------------------------------


async def worded(work: Awaitable[T]) -> T:
    """Let an error reach a program in words that are fit to be shown."""
    try:
        return await work
    except Exception as error:
        raise refused(error) from None


def refused(error: Exception) -> gr.Error:
    """An error as programs get it."""
    return _error(fit_to_show(error).details())


def _error(details: dict[str, Any]) -> gr.Error:
    title = json.dumps(details).replace("<", "\\u003c")  # whoever shows it as a page shows no markup
    return gr.Error(html.escape(details["message"]), title=title, print_exception=False)


def _documented(call: Callable[..., Any], text: str, names: list[str], required: str) -> Callable[..., Any]:
    """Give an endpoint its words and parameters."""
    call.__doc__ = text
    return named(call, names, (required,))
