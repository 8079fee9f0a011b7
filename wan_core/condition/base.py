"""Everything about a request that does not change over the steps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from wan_core.model.text import padded
from wan_core.types import Branch


@dataclass(frozen=True)
class Conditioning:
    """What the transformer is told besides the noisy latents.

    Attributes:
        text: (1, n, text_dim), the prompt's tokens.
        negative: (1, m, text_dim), or None when guidance is off.
        image: (1, N, image_dim) CLIP features, or None.
        channels: (1, 20, T, h, w) joined to the latents' channels, or None.
        first: (1, C, 1, h, w) clean latents that stand for the first frame, or None.
        tail: (1, C, n, h, w) clean latents of references that stand behind the video, or None.
        without: the same fields for branches that are shown no references, where they differ.
        heard: keyword arguments of the transformer's ``context`` that carry sound and references.
        silent: what replaces some of them in branches that hear nothing.
        behind: latent frames behind the video, which are no part of it.
        ahead: the same in front of it.
    """

    text: Tensor
    negative: Tensor | None = None
    image: Tensor | None = None
    channels: Tensor | None = None
    first: Tensor | None = None
    tail: Tensor | None = None
    without: dict[str, Tensor] = field(default_factory=dict)
    heard: dict[str, Tensor] = field(default_factory=dict)
    silent: dict[str, Tensor] = field(default_factory=dict)
    behind: int = 0
    ahead: int = 0

    def rows(self, branch: Branch) -> Tensor:
        """The text tokens of a branch."""
        rows = self.text if branch.text else self.negative
        assert rows is not None
        return rows

    def context(self, branch: Branch) -> dict[str, Tensor]:
        """What a branch is told beside its text, as the transformer's ``context`` takes it."""
        told = self.heard if branch.audio else self.heard | self.silent
        return told if self.image is None else told | {"image": self.image}

    def shape(self, latents: Tensor, text_step: int) -> tuple[object, ...]:
        """What a compiled block is made for: sizes of the latents and the prompts, and what stands beside them.

        Args:
            latents: (1, C, T, h, w).
            text_step: see :func:`wan_core.model.text.pad`.
        """
        rows = [rows for rows in (self.text, self.negative) if rows is not None]
        prompts = tuple(padded(row.shape[1], text_step) for row in rows)
        told = tuple(tuple(tensor.shape) for tensor in self.heard.values())
        kinds = (self.first is None, self.image is None, self.negative is None)
        return tuple(latents.shape), prompts, told, kinds

    def model_input(self, latents: Tensor, branch: Branch) -> Tensor:
        """What goes into the transformer. latents: (1, C, T, h, w)."""
        if self.first is not None:
            latents = self.keep_first(latents)
        if self.tail is not None:
            tail = self.tail if branch.image else self.without["tail"]
            latents = torch.cat([latents[:, :, : -tail.shape[2]], tail.to(latents)], dim=2)
        if self.channels is not None:
            channels = self.channels if branch.image else self.without.get("channels", self.channels)
            latents = torch.cat([latents, channels.to(latents)], dim=1)
        return latents

    def keep_first(self, latents: Tensor) -> Tensor:
        """The latents with the given first frame in place, where there is one."""
        if self.first is None:
            return latents
        return torch.cat([self.first.to(latents), latents[:, :, 1:]], dim=2)

    def span(self, start: int, stop: int) -> Conditioning:
        """The conditioning of a stretch of the video's latent frames, with what stands behind it."""

        def cut(tensor: Tensor, axis: int) -> Tensor:
            frames = tensor.shape[axis]
            index = torch.cat([torch.arange(start, stop), torch.arange(frames - self.behind, frames)])
            return tensor.index_select(axis, index.to(tensor.device))

        return replace(
            self,
            channels=None if self.channels is None else cut(self.channels, 2),
            without=self.without | {k: cut(v, 2) for k, v in self.without.items() if k == "channels"},
            heard=self.heard | {k: cut(v, 1) for k, v in self.heard.items() if k == "audio"},
            silent=self.silent | {k: cut(v, 1) for k, v in self.silent.items() if k == "audio"},
        )

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
