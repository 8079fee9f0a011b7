"""Which steps a schedule leaves out (MagCache): known before the first one, from a curve that belongs to the model.

How much the trunk adds to its tokens shrinks from step to step by a factor that depends on the step and hardly on the
prompt. Where the factors stay near 1, what the last computed step added stands in for what this one would. A curve is
measured once (``python -m wan_core.calibrate``); each of two experts has its own. Pure arithmetic: the price of a
request is told with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from wan_core.specs import FEW_STEPS, Limits, Recipe
from wan_core.types import Kind


def left_out(recipe: Recipe, kinds: Sequence[Kind]) -> frozenset[int]:
    """The steps that are not computed, numbered from 0.

    Args:
        recipe: the model's, with its curves.
        kinds: per step, whose turn it is and which branches it runs; a step of another kind than the one before it is
            computed.

    Returns:
        None of the first of an expert's turn, nor the last one of all; none of an expert without a curve; and none at
        all of so few steps that each one counts.

    Source: MagCache (Ma and others 2025, arXiv 2506.09045); Zehong-Ma/MagCache MagCache4Wan2.1/magcache_generate.py.
    Other than there, a run of fewer steps than the curve has takes between two of them the product of the factors that
    lie there, and the last step is computed. For two experts that code has one curve, stretched over all steps; here
    each turn is measured by its own, wherever shift and boundary put the change.
    """
    steps = len(kinds)
    if steps <= FEW_STEPS:
        return frozenset()
    curves, found = (recipe.magnitudes, recipe.magnitudes_low), set()
    for expert, turn in groupby(range(steps), lambda step: kinds[step][0]):
        first, *rest = turn
        if curves[expert] and rest:
            some = _left_out(curves[expert], recipe.limits, kinds[first : first + len(rest) + 1])
            found |= {first + step for step in some}
    return frozenset(found - {steps - 1})


def _left_out(curve: Sequence[float], limits: Limits, kinds: Sequence[Kind]) -> set[int]:
    """The same of one expert's turn, two steps or more, its last one like any other."""
    sizes = _sizes(curve, len(kinds))
    always = max(1, int(limits.first * len(kinds) + 0.5))
    found, last, error, run = set(), 0, 0.0, 0
    for step in range(1, len(kinds)):
        error += abs(1 - sizes[step] / sizes[last])
        run += 1
        changed = kinds[step] != kinds[step - 1]
        if step < always or changed or run > limits.longest or error >= limits.error:
            last, error, run = step, 0.0, 0
        else:
            found.add(step)
    return found


def _sizes(factors: Sequence[float], steps: int) -> list[float]:
    """What the trunk adds at each of so many steps, beside what it adds at the first."""
    known = [1.0]
    for factor in factors:
        known.append(known[-1] * factor)
    sizes = []
    for step in range(steps):
        place = step * (len(known) - 1) / (steps - 1)
        low = min(int(place), len(known) - 2)
        sizes.append(known[low] + (place - low) * (known[low + 1] - known[low]))
    return sizes
