"""Steps left out: where little changes, what was computed last is carried on.

EasyCache (:class:`StepCache`): how much a network's output moves for how much its input moves, k, hardly changes from
step to step. So what a step would add can be told from the latents alone, and while it stays small the step is not
computed: latents plus the last computed difference of velocity and latents stand in for the velocity.

MagCache (:class:`Schedule`): which steps are left out is known beforehand (:mod:`wan_core.magnitude`), and what the
trunk added last stands in for it.

Approximations, of the tiers "fast" and "scheduled"; recipes name them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from torch import Tensor

from wan_core.specs import FEW_STEPS

FIRST = 0.2  # share of the steps that are always computed, at the start, where everything is decided
SETTLING = 2  # steps computed after the start and after a change of expert: k takes two


@dataclass
class StepCache:
    """What one clip's steps leave behind for the next ones.

    Attributes:
        steps: of the solver.
        tolerance: relative change of the velocity that steps which are left out may add up to.
        computed: steps that were.

    Source: EasyCache (Zhou and others 2025, arXiv 2507.02860), sections 3.2 and 3.3, on the guided velocity:
    guidance weights sum to 1, so its difference from the latents is the weighted sum of the branches'.
    """

    steps: int
    tolerance: float
    computed: int = 0
    _kind: object = None
    _due: int = 0
    _moved: float = 0.0
    _slope: float | None = None
    _latents: Tensor | None = None  # at the step before, computed or not
    _last: tuple[Tensor, Tensor] | None = None  # latents and velocity of the last computed step
    _ahead: Tensor | None = field(default=None, repr=False)

    def velocity(self, latents: Tensor, step: int, kind: object) -> Tensor | None:
        """The velocity at a step, if it need not be computed.

        Args:
            latents: (B, C, T, h, w).
            step: from 0.
            kind: whose turn it is, and which branches it runs; steps of different kinds do not compare.
        """
        if kind != self._kind:  # k belongs to a network, and to how it is guided
            self._kind, self._due, self._slope, self._last = kind, SETTLING, None, None
        before, self._latents = self._latents, latents
        always = step < max(SETTLING, round(FIRST * self.steps)) or step == self.steps - 1
        if self.steps <= FEW_STEPS or always or self._due > 0 or self._slope is None or self._last is None:
            return None
        assert before is not None
        assert self._ahead is not None
        self._moved += self._slope * _size(latents - before) / _size(self._last[1])
        return latents + self._ahead if self._moved < self.tolerance else None

    def keep(self, latents: Tensor, velocity: Tensor) -> None:
        """Note what was computed at a step. Both (B, C, T, h, w)."""
        if self._last is not None:
            moved = _size(latents - self._last[0])
            self._slope = _size(velocity - self._last[1]) / moved if moved else None
        self._last, self._ahead = (latents, velocity), velocity - latents
        self._moved, self._due = 0.0, self._due - 1
        self.computed += 1


@dataclass
class Schedule:
    """A schedule of steps that are left out, and what each pass through the trunk added last.

    Attributes:
        left_out: the steps, numbered from 0.
        computed: steps that were.
    """

    left_out: frozenset[int]
    computed: int = 0
    _carry: bool = False
    _kind: object = None
    _added: dict[Hashable, Tensor] = field(default_factory=dict, repr=False)

    def velocity(self, latents: Tensor, step: int, kind: object) -> Tensor | None:  # noqa: ARG002 - as StepCache has it
        """Note which step it is; the velocity itself is always asked for, as the ends of the model are run."""
        if kind != self._kind:  # its first step is computed; what another expert added would only take room
            self._kind, self._added = kind, {}
        self._carry = step in self.left_out

    def keep(self, latents: Tensor, velocity: Tensor) -> None:  # noqa: ARG002 - likewise
        """Count the step."""
        self.computed += not self._carry

    def trunk(self, which: Hashable, tokens: Tensor, run: Callable[[], Tensor]) -> Tensor:
        """What comes out of a trunk, computed or carried on.

        Args:
            which: of the passes of a step.
            tokens: that go in, (B, L, C).
            run: computes what comes out, likewise.
        """
        if self._carry:
            return tokens + self._added[which]
        out = run()
        self._added[which] = out - tokens
        return out


def _size(difference: Tensor) -> float:
    return float(difference.float().abs().mean())
