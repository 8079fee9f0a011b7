"""What a model is, from its JSON files: nothing heavy is imported unless only shapes can tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from wan_core.errors import CheckpointError
from wan_core.specs import ModelSpec, family
from wan_core.weights.hub import find
from wan_core.weights.places import find_parts, implied_index, read_json, trunk_config
from wan_core.weights.revision import revision


def describe(model: str | Path) -> ModelSpec:
    """Say what a model is and how it is sampled.

    Args:
        model: a folder in diffusers' or the official layout, or a repository id to download.

    Returns:
        The spec that the loaded pipeline will have.

    Raises:
        CheckpointError: there is no such model, or its JSON files do not describe a Wan model.
    """
    root = find(model)
    index, stored = implied_index(root), trunk_config(root)
    try:
        kind, config = _from_shapes(root) if stored is None else trunk(stored)
        spec = family(config, index, config["num_layers"], kind)
    except KeyError as error:
        raise CheckpointError(f"config.json: {error} is missing; this is not a Wan transformer") from error
    return own_recipe(spec, root)


def _from_shapes(root: Path) -> tuple[str, dict]:
    """The same from a bare file of tensors, as HuMo-1.7B is one."""
    from wan_core.weights import keymap, load

    tensors = load.renamed(load.read(find_parts(root).experts[0]))
    return keymap.kind_of(set(tensors)), keymap.config_from(tensors)


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
    """A checkpoint's ``recipe.json``, if it has one, over its family's recipe, and which weights they are."""
    own = read_json(root / "recipe.json", required=False)
    try:
        changes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in own.pop("recipe", {}).items()}
        note = own.get("note", {})
        own["note"] = {"en": note} if isinstance(note, str) else dict(note)
        if "modes" in own:
            own["modes"] = frozenset(own["modes"])
        return replace(spec, recipe=replace(spec.recipe, **changes), **own | {"revision": revision(root)})
    except (TypeError, AttributeError, ValueError) as error:
        raise CheckpointError("recipe.json: it names something that a recipe does not have") from error
