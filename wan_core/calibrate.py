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


def curve(pipe: Pipeline, prompts: Sequence[str] = PROMPTS, steps: int | None = None) -> list[float]:
    """Measure a model's curve.

    Args:
        pipe: a loaded model of text mode with one expert.
        prompts: one video each; what they show hardly matters.
        steps: of the solver; by default the recipe's.

    Returns:
        One factor fewer than steps, the videos' mean.

    Raises:
        CheckpointError: it has no text mode, or two experts, whose turns depend on the request.
    """
    if "text" not in pipe.spec.modes or len(pipe.parts.experts) > 1:
        raise CheckpointError(f"{pipe.spec.name}: schedules are measured in text mode, of one expert")
    runs: list[list[float]] = []
    for number, prompt in enumerate(prompts):
        runs.append([])
        with ExitStack() as stack:
            stack.enter_context(watched(pipe.parts.experts[0], runs[-1]))
            pipe.latents(Request(prompt, seed=number, guidance_scale=1.0, num_inference_steps=steps))
        log.info("%d of %d videos", number + 1, len(prompts))
    return [round(sum(factors) / len(factors), 4) for factors in zip(*runs, strict=True)]


def write(folder: Path, factors: Sequence[float]) -> None:
    """Put a curve into a model's ``recipe.json``.

    Raises:
        CheckpointError: the model is no folder, or what stands there is no recipe.
    """
    path = folder / "recipe.json"
    try:
        recipe = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        recipe.setdefault("recipe", {})["magnitudes"] = list(factors)
        path.write_text(json.dumps(recipe, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{folder.name}: its recipe.json cannot be written, or holds no recipe") from error


def main(argv: list[str] | None = None) -> int:
    """Measure a model; 0 when its curve is told, 1 for an error that is the user's to mend."""
    parser = argparse.ArgumentParser(prog="python -m wan_core.calibrate", description="Measure a model's schedule.")
    parser.add_argument("model", nargs="?", default=str(BUILT_IN), help="default: the built-in model")
    parser.add_argument("--steps", type=int, metavar="N", help="default: the recipe's")
    parser.add_argument("--write", action="store_true", help="into the model's recipe.json")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from wan_core.assembly import load

    try:
        factors = curve(load(options.model), steps=options.steps)
        sys.stdout.write(json.dumps(factors) + "\n")
        if options.write:
            write(Path(options.model), factors)
    except WanError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
