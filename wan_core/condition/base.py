"""Everything about a request that does not change over the steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """What the transformer is told besides the noisy latents.

    Attributes:
        text: (1, n, text_dim), the prompt's tokens.
        negative: (1, m, text_dim), or None when guidance is off.
        image: (1, N, image_dim) CLIP features, or None.
        channels: (1, 20, T, h, w) joined to the latents' channels, or None.
        first: (1, C, 1, h, w) clean latents that stand for the first frame, or None.
    """

    text: Tensor
    negative: Tensor | None = None
    image: Tensor | None = None
    channels: Tensor | None = None
    first: Tensor | None = None

    def model_input(self, latents: Tensor) -> Tensor:
        """What goes into the transformer. latents: (1, C, T, h, w)."""
        if self.first is not None:
            return self.keep_first(latents)
        if self.channels is not None:
            return torch.cat([latents, self.channels.to(latents)], dim=1)
        return latents

    def keep_first(self, latents: Tensor) -> Tensor:
        """The latents with the given first frame in place, where there is one."""
        if self.first is None:
            return latents
        return torch.cat([self.first.to(latents), latents[:, :, 1:]], dim=2)

    def timesteps(self, timestep: Tensor, tokens: tuple[int, int]) -> tuple[Tensor, tuple[int, ...]]:
        """The distinct timesteps along the sequence, and how many tokens hold each.

        Args:
            timestep: scalar, 0 to 1000.
            tokens: tokens of one latent frame, and of all.

        Returns:
            (1, U) timesteps and U token counts: a clean first frame is at timestep 0.
        """
        one, all_ = tokens
        t = timestep.float().reshape(1, 1)
        if self.first is None:
            return t, (all_,)
        if one == all_:
            return torch.zeros_like(t), (all_,)
        return torch.cat([torch.zeros_like(t), t], dim=1), (one, all_ - one)
