"""Which of two experts owns a timestep."""

from __future__ import annotations

TRAIN_STEPS = 1000


def pick(timestep: float, boundary: float | None) -> int:
    """The expert for a timestep: 0 above the boundary (high noise), 1 below it.

    The scheduler's shifted timestep decides, not the step's index, so the split follows the shift.

    Args:
        timestep: 0 to 1000.
        boundary: share of the range that the high-noise expert owns, or None for a single model.

    Returns:
        0 or 1.
    """
    return int(boundary is not None and timestep < boundary * TRAIN_STEPS)
