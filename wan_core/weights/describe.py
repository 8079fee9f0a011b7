"""What a model is, from its JSON files: nothing heavy is imported unless only shapes can tell."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from wan_core.errors import CheckpointError
from wan_core.specs import Limits, ModelSpec, family
from wan_core.vocabulary import Vocabulary
from wan_core.weights.hub import Watch, find, split
from wan_core.weights.places import Root, find_parts, implied_index, read_json, trunk_config
from wan_core.weights.revision import revision, with_loras

KINDS = (".safetensors", ".pth", ".gguf")  # of files that hold weights


def describe(model: str | Path, loras: str = "") -> ModelSpec:
    """Say what a model is and how it is sampled.

    Args:
        model: see :func:`wan_core.weights.hub.find`, perhaps with a family in front: "phantom-1.3b=DIR".
        loras: see :func:`wan_core.weights.lora.listed`.

    Returns:
        The spec that the loaded pipeline will have.

    Raises:
        CheckpointError: there is no such model, or its JSON files do not describe a Wan model.
    """
    asked, where = split(model)
    root = find(where, whole=False)
    try:
        index, stored = implied_index(root), trunk_config(root)
        kind, config = _from_shapes(root) if stored is None else trunk(stored)
        spec = named(config, index, kind, asked)
    except KeyError as error:
        raise CheckpointError(f"{root.name}: {error} is missing; this is not a Wan transformer") from error
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"{root.name}: this is not a Wan transformer") from error
    spec = own_recipe(spec, root)
    if not loras:
        return spec
    from wan_core.weights.lora import listed, quickened  # torch, which JSON files do without

    return quickened(replace(spec, revision=with_loras(spec.revision, listed(loras))), listed(loras))


def heft(model: str | Path, watch: Watch | None = None) -> int:
    """Bytes of a model's weights on the disk, where they are then; what it takes in RAM is less.

    Args:
        model: as for :func:`describe`.
        watch: is told how a download is coming on.

    Raises:
        CheckpointError: they cannot be downloaded.
    """
    root = find(split(model)[1], watch=watch)
    files = root.files or [p for kind in KINDS for p in root.folder.rglob(f"*{kind}")]
    return sum(path.stat().st_size for path in files)


def named(config: dict, index: dict, kind: str, asked: str | None) -> ModelSpec:
    """The family of a checkpoint; see :func:`wan_core.specs.family`.

    Raises:
        CheckpointError: it cannot be the one that was asked for, or no videos are made with it here.
    """
    if kind == "animate":
        raise CheckpointError(
            "this is Wan2.2-Animate, which follows a video of poses and one of a face; no videos are made with it "
            "here. Its transformer works in diffusers' WanAnimatePipeline (wan_core.model.adapters.AnimateDiT)"
        )
    try:
        return family(config, index, config["num_layers"], kind, asked)
    except ValueError as error:
        raise CheckpointError(f"{asked}: {error}") from error


def _from_shapes(root: Root) -> tuple[str, dict]:
    """The same from a bare file of tensors, as HuMo-1.7B is one."""
    from wan_core.weights import keymap, storage

    shapes = keymap.to_diffusers(storage.shapes(find_parts(root).experts[0]))
    return keymap.kind_of(set(shapes)), keymap.config_from(shapes)


def trunk(config: dict) -> tuple[str, dict]:
    """The class of trunk that a ``config.json`` speaks of, and its channels and layers under our names.

    Raises:
        KeyError: naming what is missing.
    """
    names = {"in_channels": "in_dim", "out_channels": "out_dim", "num_layers": "num_layers"}
    known = {new: config.get(new, config.get(old)) for new, old in names.items()}
    if missing := [k for k, v in known.items() if v is None]:
        raise KeyError(missing[0])
    kind = "vace" if config.get("vace_layers") else "animate" if config.get("motion_encoder_dim") else "wan"
    if "audio_inject_layers" in config:
        kind = "s2v"
    elif config.get("insert_audio") or "audio_tokens" in config:
        kind = "humo"
    return kind, config | known


def own_recipe(spec: ModelSpec, root: Root) -> ModelSpec:
    """What a checkpoint's folder says of itself over its family's recipe, and which weights they are.

    ``recipe.json`` holds fields of a spec, ``vocabulary.json`` all that a model of few words understands; most
    checkpoints have neither.
    """
    own = {} if root.files else read_json(root.folder / "recipe.json", required=False)
    spec = replace(spec, vocabulary=_own_vocabulary(root))
    try:
        changes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in own.pop("recipe", {}).items()}
        if "limits" in changes:
            error, longest, first = changes["limits"]
            changes["limits"] = Limits(float(error), int(longest), float(first))
        factors = [*changes.get("magnitudes", ()), *changes.get("magnitudes_low", ())]
        if not all(0 < factor < math.inf for factor in factors):
            raise ValueError("magnitudes must be above 0")
        note = own.get("note", {})
        own["note"] = {"en": note} if isinstance(note, str) else dict(note)
        if "modes" in own:
            own["modes"] = frozenset(own["modes"])
        return replace(spec, recipe=replace(spec.recipe, **changes), **own | {"revision": revision(root)})
    except (TypeError, AttributeError, ValueError) as error:
        raise CheckpointError("recipe.json: it names something that a recipe does not have, or not so") from error


def _own_vocabulary(root: Root) -> Vocabulary | None:
    data = {} if root.files else read_json(root.folder / "vocabulary.json", required=False)
    try:
        return Vocabulary.from_json(data) if data else None
    except ValueError as error:
        raise CheckpointError(f"vocabulary.json: {error}") from error
