"""Recipes: how a video was made, written into it, and read back to make it again.

A recipe is one flat JSON object in the video's comment: the request's own fields with every choice
made, and what made it. Pictures and sounds are not in it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wan_core import __version__
from wan_core.errors import MediaError, RequestError
from wan_core.plan import Plan
from wan_core.specs import ModelSpec
from wan_core.studio.provenance import verify
from wan_core.types import Request, Started

VERSION = 1
_MEDIA = {"image": "the first frame", "reference": "the reference pictures, the voice and the video"}
#: What a recipe says beyond a request's fields.
_FACTS = {"version", "application", "model", "revision", "backend", "fps", "mode", "in_front", "read_as"}
Engines = Mapping[str, ModelSpec | None]


def _text(value: object) -> bool:
    return isinstance(value, str)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _point(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_number(v) for v in value)


#: A request's fields that a recipe holds, and what each must be.
_KINDS: dict[str, Callable[[Any], bool]] = {
    "prompt": _text, "negative_prompt": _text, "width": _whole, "height": _whole, "num_frames": _whole,
    "num_inference_steps": _whole, "guidance_scale": _number, "guidance_scale_2": _number,
    "audio_guidance_scale": _number, "image_guidance_scale": _number, "conditioning_scale": _number,
    "flow_shift": _number, "sampler": _text, "seed": _whole, "image_fit": _text, "focal_point": _point,
    "tier": _text, "guidance_method": _text, "guidance_start": _number, "guidance_stop": _number,
}  # fmt: skip

#: What fields that came later were as long as they did not exist.
LATER = {"tier": "exact", "guidance_method": "plain", "guidance_start": 0.0, "guidance_stop": 1.0}


def recipe_of(started: Started) -> dict[str, Any]:
    """The recipe of a video that is being made."""
    made_with = {"model": started.model, "revision": started.revision, "backend": started.backend}
    return {"version": VERSION, "application": __version__} | made_with | started.settled.as_json()


def fingerprint(request: Request, plan: Plan, signed: str = "") -> str:
    """What two requests share exactly if one video answers both: choices, weights, backend, and files.

    Args:
        request: with its seed given; its pictures and sound are paths.
        plan: what it comes to.
        signed: who signs the video.

    Raises:
        OSError: a file cannot be read.
    """
    made_with = [VERSION, __version__, signed, plan.model, plan.revision, plan.backend, plan.settled.as_json()]
    mark = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode())
    media = (request.image, request.last_image, request.extends, request.audio, request.video, request.mask)
    for source in (*media, *request.reference_images):
        content = b"" if source is None else Path(source).read_bytes()
        mark.update(len(content).to_bytes(8, "big") + content)
    return mark.hexdigest()


def asked(recipe: Any) -> dict[str, Any]:
    """A recipe that somebody hands in, as a request's fields; whether their values fit is settled later.

    Args:
        recipe: what was handed in.

    Returns:
        Fields of a :class:`Request`, none of them media.

    Raises:
        RequestError: it is no object, or has a field that nobody knows.
    """
    if not isinstance(recipe, dict):
        raise RequestError("recipe", recipe, "must be a JSON object", 'try {"prompt": "a red ball"}')
    known = {*_KINDS, "duration_seconds"}
    for name in recipe.keys() - known - _FACTS:
        near = difflib.get_close_matches(str(name), known, 1)
        raise RequestError(str(name)[:40], recipe[name], "is no field of a recipe", f"try {near[0]}" if near else "")
    fields = {k: v for k, v in recipe.items() if k in known and v is not None}
    return {"prompt": ""} | fields


def recipe_in_address(text: str) -> dict[str, Any]:
    """A recipe in an address, as a request's fields and ``mode``; {} where there is none that can be read.

    Args:
        text: JSON; it may come from anybody.
    """
    try:
        recipe = json.loads(text)
        known = asked(recipe)
    except (ValueError, RequestError):
        return {}
    return {k: v for k, v in known.items() if _KINDS.get(k, _number)(v)} | {"mode": str(recipe.get("mode", "text"))}


def restore(path: Path, engines: Engines) -> tuple[dict[str, Any], list[str]]:
    """Read a video's recipe back as a request's fields.

    The file may come from anybody: what is not of the kind that a field holds is left out.

    Args:
        path: an mp4.
        engines: the model that would serve each mode now, or None where nothing does.

    Returns:
        Fields of a :class:`Request`, ``mode`` among them, and sentences on what would differ now.

    Raises:
        MediaError: it is no mp4, or none that was made here.
    """
    recipe = verify(path).recipe
    wanted = LATER | {k: recipe[k] for k, fits in _KINDS.items() if k in recipe and fits(recipe[k])}
    mode = recipe.get("mode")
    if not {"prompt", "seed"} <= wanted.keys() or not isinstance(mode, str) or mode not in engines:
        raise MediaError("file", path.name, "it holds no recipe", "give a video made here, not one converted since")
    differs = []
    if recipe.get("version") != VERSION:
        differs.append("It was made by another version; what this one does not know is left out.")
    elif recipe.get("application", __version__) != __version__:
        differs.append(f"It was made by version {str(recipe['application'])[:20]}; this is {__version__}.")
    if odd := sorted(recipe.keys() - wanted.keys() - _FACTS):
        differs.append(f"Not understood here: {', '.join(odd)}.")
    if mode in _MEDIA:
        held = "the video that it goes on from" if recipe.get("in_front") else _MEDIA[mode]
        differs.append(f"A recipe does not hold {held}; give the same again.")
    differs += _model_differs(recipe, wanted, mode, engines[mode])
    return wanted | {"mode": mode}, differs


def _model_differs(recipe: dict[str, Any], wanted: dict[str, Any], mode: str, spec: ModelSpec | None) -> list[str]:
    if spec is None:
        return [f"Nothing that is loaded makes {mode} videos."]
    differs = []
    if recipe.get("model", spec.name) != spec.name:
        differs.append(f"It was made by {recipe['model']}; {spec.name} would make it now.")
    elif recipe.get("revision", spec.revision) != spec.revision:
        differs.append(f"It was made by other weights of {spec.name}; the same seed makes another video now.")
    size = (wanted.get("width"), wanted.get("height"))
    if spec.fixed_size and size != spec.recipe.size:
        differs.append(f"{spec.name} only makes {spec.recipe.size[0]}x{spec.recipe.size[1]}.")
        wanted["width"], wanted["height"] = spec.recipe.size
    if wanted.get("num_frames", 0) > spec.max_frames:
        differs.append(f"{spec.name} makes at most {spec.max_frames} frames.")
        wanted["num_frames"] = spec.max_frames
    if wanted.get("tier") == "scheduled" and not spec.scheduled:
        differs.append(f"{spec.name} has no schedule of steps to leave out.")
        wanted["tier"] = "exact"
    same = recipe.get("model", spec.name) == spec.name
    if same and recipe.get("read_as", "") != spec.reads(wanted["prompt"], wanted["seed"], mode):
        differs.append("Its prompt is read otherwise now; the same seed makes another video.")
    if recipe.get("fps", spec.recipe.fps) != spec.recipe.fps:
        differs.append(f"It has {recipe['fps']} frames a second; {spec.name} makes {spec.recipe.fps}.")
    return differs
