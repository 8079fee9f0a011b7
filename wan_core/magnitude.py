"""Which steps a schedule leaves out (MagCache): known before the first one, from a curve that belongs to the model.

How much the trunk adds to its tokens shrinks from step to step by a factor that depends on the step and hardly on the
prompt. Where the factors stay near 1, what the last computed step added stands in for what this one would. A curve is
measured once (``python -m wan_core.calibrate``). Pure arithmetic: the price of a request is told with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from wan_core.specs import FEW_STEPS, Recipe


def left_out(recipe: Recipe, kinds: Sequence[object]) -> frozenset[int]:
    """The steps that are not computed, numbered from 0.

    Args:
        recipe: the model's, with its curve.
        kinds: per step, whose turn it is and which branches it runs; a step of another kind than the one before it is
            computed.

    Returns:
        None of the first and the last ones; none at all without a curve, or of so few steps that each one counts.

    Source: MagCache (Ma and others 2025, arXiv 2506.09045); Zehong-Ma/MagCache MagCache4Wan2.1/magcache_generate.py.
    Other than there, a run of fewer steps than the curve has takes between two of them the product of the factors that
    lie there, and the last step is computed.
    """
    steps, limits = len(kinds), recipe.limits
    if not recipe.magnitudes or steps <= FEW_STEPS:
        return frozenset()
    sizes = _sizes(recipe.magnitudes, steps)
    always = max(1, round(limits.first * steps))
    found, last, error, run = set(), 0, 0.0, 0
    for step in range(1, steps):
        error += abs(1 - sizes[step] / sizes[last])
        run += 1
        changed = kinds[step] != kinds[step - 1]
        if step < always or step == steps - 1 or changed or run > limits.longest or error >= limits.error:
            last, error, run = step, 0.0, 0
        else:
            found.add(step)
    return frozenset(found)


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
