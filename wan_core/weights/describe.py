"""What a model is, from its JSON files alone: nothing heavy is imported, no tensor is read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from wan_core.errors import CheckpointError
from wan_core.specs import ModelSpec, family
from wan_core.weights.hub import find


def describe(model: str | Path) -> ModelSpec:
    """Say what a model is and how it is sampled.

    Args:
        model: a folder in diffusers' layout, or a repository id to download.

    Returns:
        The spec that the loaded pipeline will have.

    Raises:
        CheckpointError: there is no such model, or its JSON files do not describe a Wan model.
    """
    root = find(model)
    index = read_json(root / "model_index.json")
    try:
        kind, config = trunk(read_json(root / "transformer" / "config.json"))
        spec = family(config, index, config["num_layers"], kind)
    except KeyError as error:
        raise CheckpointError(f"transformer/config.json: {error} is missing; this is not a Wan transformer") from error
    return own_recipe(spec, root)


def trunk(config: dict) -> tuple[str, dict]:
    """The class of trunk that a ``config.json`` speaks of, and its channels and layers under our names.

    Raises:
        KeyError: naming what is missing.
    """
    names = {"in_channels": "in_dim", "out_channels": "out_dim", "num_layers": "num_layers"}
    known = {new: config.get(new, config.get(old)) for new, old in names.items()}
    if missing := [k for k, v in known.items() if v is None]:
        raise KeyError(missing[0])
    kind = "wan"
    if "audio_inject_layers" in config:
        kind = "s2v"
    elif config.get("insert_audio") or "audio_tokens" in config:
        kind = "humo"
    return kind, config | known


def own_recipe(spec: ModelSpec, root: Path) -> ModelSpec:
    """A checkpoint's ``recipe.json``, if it has one, over its family's recipe."""
    own = read_json(root / "recipe.json", required=False)
    try:
        changes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in own.pop("recipe", {}).items()}
        if "modes" in own:
            own["modes"] = frozenset(own["modes"])
        return replace(spec, recipe=replace(spec.recipe, **changes), **own)
    except (TypeError, AttributeError) as error:
        raise CheckpointError("recipe.json: it names something that a recipe does not have") from error


def read_json(path: Path, required: bool = True) -> dict[str, Any]:
    """Read a JSON object; a missing one is {} unless required.

    Raises:
        CheckpointError: it is missing, or not a JSON object.
    """
    if not path.exists():
        if required:
            raise CheckpointError(f"{path.parent.name}/{path.name}: this file is missing")
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path.parent.name}/{path.name}: not valid JSON") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path.parent.name}/{path.name}: not a JSON object")
    return data
