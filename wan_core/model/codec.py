"""Pixels to latents and back: AutoencoderKLWan behind a streaming decoder.

The VAE is causal in time, so a clip decodes latent frame by latent frame: one pixel frame first,
then one group per latent. Only the present group and two frames of every layer's past exist at any
time, however long the clip is. Of small pictures several latent frames make a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from wan_core import ops
from wan_core.model import vae as network

GROUP = 2**8  # latent positions that are coded at once, unless one latent frame has more


class Codec:
    """A VAE with its latent statistics, an encoder for stills and clips, and a streaming decoder.

    Encoding stays float32: it seeds the whole trajectory. Decoding may run in a shorter type.

    Args:
        vae: of the 2.1 or 2.2 kind.
        decode_dtype: what the decoder computes in.
    """

    def __init__(self, vae: AutoencoderKLWan, decode_dtype: torch.dtype) -> None:
        self.vae = vae.eval().requires_grad_(False)
        vae.encoder.float()
        vae.quant_conv.float()
        vae.decoder.to(decode_dtype)
        vae.post_quant_conv.to(decode_dtype)
        _lay_out(vae)
        network.fold(vae)
        shape = (1, vae.config["z_dim"], 1, 1, 1)
        self.mean = torch.tensor(vae.config["latents_mean"]).view(shape)
        self.std = torch.tensor(vae.config["latents_std"]).view(shape)
        self._rgb: tuple[Tensor, Tensor] | None = None

    @property
    def spatial(self) -> int:
        """Pixels per latent, both ways."""
        return self.vae.config["scale_factor_spatial"]

    @property
    def temporal(self) -> int:
        """Frames per latent after the first."""
        return self.vae.config["scale_factor_temporal"]

    @property
    def _decode_dtype(self) -> torch.dtype:
        return self.vae.post_quant_conv.weight.dtype

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """Encode a still or a clip.

        Args:
            video: (B, 3, 4n+1, H, W) in [-1, 1].

        Returns:
            (B, C, n+1, h, w) float32: the most likely latents, normalised.
        """
        device, past, told = self.vae.quant_conv.weight.device, None, []
        ops.ready(device)
        for first, count in _groups(1 + (video.shape[2] - 1) // self.temporal, video.shape[-2:], self.spatial):
            some = video[:, :, max(0, self.temporal * (first - 1) + 1) : self.temporal * (first + count - 1) + 1]
            rows, past = network.encode(self.vae, some.to(device, torch.float32), past)
            told.append(rows.chunk(2, 1)[0])
        return (torch.cat(told, 2) - self.mean.to(device)) / self.std.to(device)

    @torch.no_grad()
    def stream(self, latents: Tensor) -> Iterator[Tensor]:
        """Decode a clip, group by group.

        Args:
            latents: (B, C, T, h, w), normalised.

        Yields:
            (B, 3, n, H, W) float32 in [-1, 1]: one frame first, then ``temporal`` frames a time.
        """
        device, past = self.vae.post_quant_conv.weight.device, None
        ops.ready(device)
        for first, count in _groups(latents.shape[2], latents.shape[-2:], 1):
            z = latents[:, :, first : first + count].to(device, torch.float32)
            z = (z * self.std.to(device) + self.mean.to(device)).to(self._decode_dtype)
            pixels, past = network.decode(self.vae, z, past)
            yield from pixels.float().clamp_(-1, 1).split(self.temporal, 2)

    @torch.no_grad()
    def preview(self, latents: Tensor) -> Tensor:
        """A rough picture of latents by a linear map, fitted once from this VAE.

        Args:
            latents: (1, C, T, h, w), normalised.

        Returns:
            (T, h, w, 3) uint8.
        """
        if self._rgb is None:
            self._rgb = self._fit_rgb()
        weight, bias = self._rgb
        pixels = latents[0].float().cpu().permute(1, 2, 3, 0) @ weight + bias
        return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def _fit_rgb(self) -> tuple[Tensor, Tensor]:
        """Least squares from latents to mean colours, over encoded random colour fields."""
        generator = torch.Generator().manual_seed(0)
        side = 8 * self.spatial
        coarse = torch.rand(12, 3, 3, 3, generator=generator) * 2 - 1
        stills = nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(-1, 1)
        clips = stills[:, :, None].expand(-1, -1, 1 + self.temporal, -1, -1)
        latents = self.encode(clips).cpu()  # (12, C, 2, 8, 8)
        target = nn.functional.avg_pool2d(stills, self.spatial)[:, :, None].expand(-1, -1, 2, -1, -1)
        x = latents.permute(0, 2, 3, 4, 1).reshape(-1, latents.shape[1])
        y = target.permute(0, 2, 3, 4, 1).reshape(-1, 3)
        x = torch.cat([x, torch.ones(len(x), 1)], dim=1).double()
        gram = x.T @ x
        ridge = 1e-4 * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
        solution = torch.linalg.solve(gram + ridge, x.T @ y.double()).float()
        return solution[:-1], solution[-1]


def _groups(frames: int, size: Sequence[int], scale: int) -> Iterator[tuple[int, int]]:
    """The first latent frame alone, then as many at once as are small together.

    Args:
        frames: latent frames.
        size: height and width.
        scale: of those per latent.

    Yields:
        The number of a group's first latent frame, and how many it has.
    """
    some = max(1, GROUP * scale**2 // (size[0] * size[1]))
    yield 0, 1
    yield from ((first, min(some, frames - first)) for first in range(1, frames, some))


def _lay_out(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last_3d)
        elif isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
