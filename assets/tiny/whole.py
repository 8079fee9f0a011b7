"""A whole clip through the residual Wan VAE in one pass, for training.

diffusers runs the VAE chunk by chunk with a feature cache, as inference must. Training wants one
graph: the same parameters, the same numbers (``tests/assets/test_whole.py``), no cache. The only
thing that makes the first frame special is time resampling, which skips it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import patchify, unpatchify
from torch import Tensor, nn


def _rows(x: Tensor, gamma: Tensor) -> Tensor:
    """RMS norm and SiLU over rows, in float32 inside. x: (N, C), gamma: (1, C)."""
    wide = x.float()
    scale = torch.rsqrt(wide.square().mean(1, keepdim=True) + 1e-12)
    return F.silu(wide * scale * gamma).to(x.dtype)


_fused_rows = torch.compile(_rows, dynamic=True)  # lazily: nothing is compiled before a first call


def _norm_silu(norm: nn.Module, x: Tensor) -> Tensor:
    """RMS norm over channels, then SiLU. A channels-last clip is viewed as rows, not copied."""
    b, c, t, h, w = x.shape
    rows = x.permute(0, 2, 3, 4, 1).reshape(-1, c)
    fuse = x.requires_grad or (not torch.is_grad_enabled() and x.dtype == torch.bfloat16)
    out = (_fused_rows if fuse else _rows)(rows, norm.gamma.reshape(1, -1))
    return out.reshape(b, t, h, w, c).permute(0, 4, 1, 2, 3)


def _conv(layer: nn.Conv3d, x: Tensor) -> Tensor:
    """A causal 3-D convolution: two zero frames in front, none behind."""
    kt, kh, _ = layer.kernel_size
    if kt == 1:
        return F.conv3d(x, layer.weight, layer.bias)
    if x.shape[2] == 1:  # only the newest tap sees anything: a 2-D convolution
        out = F.conv2d(x[:, :, 0], layer.weight[:, :, -1], layer.bias, padding=kh // 2)
        return out[:, :, None]
    x = F.pad(x, (0, 0, 0, 0, kt - 1, 0))
    return F.conv3d(x, layer.weight, layer.bias, padding=(0, kh // 2, kh // 2))


def _residual(block: nn.Module, x: Tensor) -> Tensor:
    shortcut = block.conv_shortcut
    skip = x if isinstance(shortcut, nn.Identity) else _conv(shortcut, x)
    x = _conv(block.conv1, _norm_silu(block.norm1, x))
    return skip + _conv(block.conv2, _norm_silu(block.norm2, x))


def _per_frame(layers: nn.Module, x: Tensor) -> Tensor:
    b, c, t, h, w = x.shape
    x = x.transpose(1, 2).reshape(b * t, c, h, w)
    x = layers(x)
    return x.reshape(b, t, *x.shape[1:]).transpose(1, 2)


def _double(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)


def _upsample(layer: nn.Module, x: Tensor) -> Tensor:
    if layer.mode == "upsample3d" and x.shape[2] > 1:
        first, rest = x[:, :, :1], x[:, :, 1:]
        b, c, t, h, w = rest.shape
        rest = F.pad(rest, (0, 0, 0, 0, 2, 0))
        rest = F.conv3d(rest, layer.time_conv.weight, layer.time_conv.bias)  # (B, 2C, T, H, W)
        rest = rest.reshape(b, 2, c, t, h, w).permute(0, 2, 3, 1, 4, 5).reshape(b, c, 2 * t, h, w)
        x = torch.cat([first, rest], dim=2)
    return _per_frame(layer.resample[1], _double(x))


def _downsample(layer: nn.Module, x: Tensor) -> Tensor:
    x = _per_frame(layer.resample, x)
    if layer.mode == "downsample3d" and x.shape[2] > 1:
        rest = F.conv3d(x, layer.time_conv.weight, layer.time_conv.bias, stride=(2, 1, 1))
        x = torch.cat([x[:, :, :1], rest], dim=2)
    return x


def _split_shortcut(shortcut: nn.Module, x: Tensor, **first: bool) -> Tensor:
    """Run a parameter-free shortcut on the first frame and on the rest, as the chunks do."""
    head = shortcut(x[:, :, :1].contiguous(), **first)
    if x.shape[2] == 1:
        return head
    return torch.cat([head, shortcut(x[:, :, 1:].contiguous())], dim=2)


def _middle(block: nn.Module, x: Tensor) -> Tensor:
    x = _residual(block.resnets[0], x)
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        x = _residual(resnet, attention(x))
    return x


def encode(vae: AutoencoderKLWan, video: Tensor) -> Tensor:
    """Encode a clip.

    Args:
        vae: a residual ("2.2 kind") VAE.
        video: (B, 3, 4n+1, H, W) in [-1, 1].

    Returns:
        (B, 2 * z_dim, n+1, H/s, W/s): mean and log-variance.
    """
    encoder = vae.encoder
    x = _conv(encoder.conv_in, patchify(video, vae.config.patch_size))
    for block in encoder.down_blocks:
        skip = x
        for resnet in block.resnets:
            x = _residual(resnet, x)
        if block.downsampler is not None:
            x = _downsample(block.downsampler, x)
        x = x + _split_shortcut(block.avg_shortcut, skip)
    x = _middle(encoder.mid_block, x)
    x = _conv(encoder.conv_out, _norm_silu(encoder.norm_out, x))
    return _conv(vae.quant_conv, x)


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Decode a clip, without the final clamp.

    Args:
        vae: a residual VAE.
        latents: (B, z_dim, n+1, h, w).

    Returns:
        (B, 3, 4n+1, H, W), about [-1, 1].
    """
    decoder = vae.decoder
    x = _conv(decoder.conv_in, _conv(vae.post_quant_conv, latents))
    x = _middle(decoder.mid_block, x)
    for block in decoder.up_blocks:
        skip = x
        for resnet in block.resnets:
            x = _residual(resnet, x)
        if block.upsampler is not None:
            x = _upsample(block.upsampler, x)
        if block.avg_shortcut is not None:
            x = x + _split_shortcut(block.avg_shortcut, skip, first_chunk=True)
    x = _conv(decoder.conv_out, _norm_silu(decoder.norm_out, x))
    return unpatchify(x, vae.config.patch_size)
