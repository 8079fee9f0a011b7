"""What the tier "scheduled" goes by, measured: ``python -m wan_core.calibrate MODEL [--write]``.

Makes a few videos without guidance and prints by how much what the trunk adds grows from step to step, as a model's
``recipe.json`` holds it; ``--write`` puts it there. See :mod:`wan_core.magnitude`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from wan_core import BUILT_IN, Request, WanError
from wan_core.errors import CheckpointError
from wan_core.model.dit import Embedded, WanDiT
from wan_core.pipeline import Pipeline

log = logging.getLogger(__name__)

Curves = dict[str, list[float]]
NAMES = ("magnitudes", "magnitudes_low")  # a recipe's, of the one expert or the high-noise one, and of the other
PROMPTS = ("a small red star bouncing on green grass", "a cat walks along a wall", "waves on a beach at night")


@contextmanager
def watched(expert: WanDiT, ratios: list[float]) -> Iterator[None]:
    """Within this context, note by how much what the trunk adds has grown since the pass before."""
    original, last = expert.trunk, []

    def trunk(embedded: Embedded, *given: Any, **named: Any) -> Tensor:
        out = original(embedded, *given, **named)
        added = (out - embedded.tokens).float().norm(dim=-1)  # (B, L)
        ratios.extend(float((added / before).mean()) for before in last)
        last[:] = [added]
        return out

    expert.trunk = trunk  # pyright: ignore[reportAttributeAccessIssue] - the same arguments
    try:
        yield
    finally:
        del expert.trunk


def curves(pipe: Pipeline, prompts: Sequence[str] = PROMPTS, steps: int | None = None) -> Curves:
    """Measure a model's curves.

    Args:
        pipe: a loaded model of text mode.
        prompts: one video each; what they show hardly matters.
        steps: of the solver; by default the recipe's.

    Returns:
        By the recipe's name for it, every expert's: one factor fewer than steps in its turn, the videos' mean.

    Raises:
        CheckpointError: it has no text mode, or an expert has too few steps to measure.
    """
    if "text" not in pipe.spec.modes:
        raise CheckpointError(f"{pipe.spec.name}: schedules are measured in text mode, which it does not have")
    named = dict(zip(NAMES, pipe.parts.experts, strict=False))
    runs: dict[str, list[list[float]]] = {name: [] for name in named}
    for number, prompt in enumerate(prompts):
        with ExitStack() as stack:
            for name, expert in named.items():
                runs[name].append([])
                stack.enter_context(watched(expert, runs[name][-1]))
            pipe.latents(
                Request(prompt, seed=number, guidance_scale=1.0, guidance_scale_2=1.0, num_inference_steps=steps)
            )
        log.info("%d of %d videos", number + 1, len(prompts))
    if not all(made[0] for made in runs.values()):
        raise CheckpointError(f"{pipe.spec.name}: of so few steps, an expert makes one or none; take more")
    return {
        name: [round(sum(factors) / len(factors), 4) for factors in zip(*made, strict=True)]
        for name, made in runs.items()
    }


def write(folder: Path, found: Curves) -> None:
    """Put curves into a model's ``recipe.json``.

    Raises:
        CheckpointError: the model is no folder, or what stands there is no recipe.
    """
    path = folder / "recipe.json"
    try:
        recipe = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        recipe.setdefault("recipe", {}).update(found)
        path.write_text(json.dumps(recipe, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{folder.name}: its recipe.json cannot be written, or holds no recipe") from error


def main(argv: list[str] | None = None) -> int:
    """Measure a model; 0 when its curves are told, 1 for an error that is the user's to mend."""
    parser = argparse.ArgumentParser(prog="python -m wan_core.calibrate", description="Measure a model's schedule.")
    parser.add_argument("model", nargs="?", default=str(BUILT_IN), help="default: the built-in model")
    parser.add_argument("--steps", type=int, metavar="N", help="default: the recipe's")
    parser.add_argument("--write", action="store_true", help="into the model's recipe.json")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from wan_core.assembly import load

    try:
        found = curves(load(options.model), steps=options.steps)
        sys.stdout.write(json.dumps(found) + "\n")
        if options.write:
            write(Path(options.model), found)
    except WanError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
