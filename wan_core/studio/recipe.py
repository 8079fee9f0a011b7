"""Recipes: how a video was made, written into it, and read back to make it again.

A recipe is one flat JSON object in the video's comment: the request's own fields with every choice
made, and what made it. Pictures and sounds are not in it.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from wan_core.errors import MediaError
from wan_core.specs import ModelSpec
from wan_core.studio.provenance import verify
from wan_core.types import Request, Settled, Started

VERSION = 1
_MEDIA = {"image": "the first frame", "reference": "the reference pictures and the voice"}
#: What a recipe says beyond a request's fields.
_FACTS = {"version", "model", "fps", "mode"}


def recipe_of(started: Started) -> dict[str, Any]:
    """The recipe of a video that is being made."""
    return {"version": VERSION, "model": started.model} | started.settled.as_json()


def restore(path: Path, spec: ModelSpec | None) -> tuple[dict[str, Any], list[str]]:
    """Read a video's recipe back as a request's fields.

    Args:
        path: an mp4.
        spec: the model that would make it now, or None where nothing has its mode.

    Returns:
        Fields of a :class:`Request`, ``mode`` among them, and sentences on what would differ now.

    Raises:
        MediaError: it is no mp4, or none that was made here.
    """
    recipe = verify(path).recipe
    known = {f.name for f in fields(Settled)}
    if not recipe or not {"prompt", "seed", "mode"} <= recipe.keys():
        raise MediaError("file", path.name, "it holds no recipe", "give a video made here, not one converted since")
    wanted = {k: v for k, v in recipe.items() if k in known and k in {f.name for f in fields(Request)}}
    differs = []
    if recipe.get("version", VERSION) > VERSION:
        differs.append("It was made by a newer version; what this one does not know is left out.")
    if odd := sorted(recipe.keys() - known - _FACTS):
        differs.append(f"Not known here: {', '.join(odd)}.")
    if recipe["mode"] in _MEDIA:
        differs.append(f"A recipe does not hold {_MEDIA[recipe['mode']]}; give the same again.")
    differs += _model_differs(recipe, wanted, spec)
    return wanted | {"mode": recipe["mode"]}, differs


def _model_differs(recipe: dict[str, Any], wanted: dict[str, Any], spec: ModelSpec | None) -> list[str]:
    if spec is None:
        return [f"Nothing that is loaded makes {recipe['mode']} videos."]
    differs = []
    if recipe.get("model", spec.name) != spec.name:
        differs.append(f"It was made by {recipe['model']}; {spec.name} would make it now.")
    size = (wanted.get("width"), wanted.get("height"))
    if spec.fixed_size and size != spec.recipe.size:
        differs.append(f"{spec.name} only makes {spec.recipe.size[0]}x{spec.recipe.size[1]}.")
        wanted["width"], wanted["height"] = spec.recipe.size
    if isinstance(wanted.get("num_frames"), int) and wanted["num_frames"] > spec.max_frames:
        differs.append(f"{spec.name} makes at most {spec.max_frames} frames.")
        wanted["num_frames"] = spec.max_frames
    if recipe.get("fps", spec.recipe.fps) != spec.recipe.fps:
        differs.append(f"It has {recipe['fps']} frames a second; {spec.name} makes {spec.recipe.fps}.")
    return differs
