"""The VAE's two networks, group of frames by group of frames: what a group must know of the past goes in and comes out.

Weights and names are those of diffusers' ``AutoencoderKLWan``; only how they are run is ours. Nothing is kept in
between, so a group is one graph. In here everything is (B, T, H, W, C): channels last is what CPUs and tensor
cores convolve fastest, and the norms then work on rows. The very first group is one frame.

Source: Wan-Video/Wan2.2 wan/modules/vae2_1.py and vae2_2.py; huggingface/diffusers
src/diffusers/models/autoencoders/autoencoder_kl_wan.py.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanAttentionBlock, WanResample, WanResidualBlock
from torch import Tensor

from wan_core import ops

Past = list[Tensor]  # of every layer that looks back, in the order in which they run: its last frames
PIECE = 2**16  # positions that the decoder's last layers take at once, unless one frame has more
SEEN = 2  # earlier frames that a causal convolution sees


class _Memory:
    """The past, handed out in order while a group runs, and what it leaves for the next group.

    The past is used up: were all of it kept until the group is done, it would stand twice.
    """

    def __init__(self, past: Past | None) -> None:
        self.first, self.left = past is None, []
        self._past = [] if past is None else past

    def recall(self) -> Tensor:
        """The next layer's last frames."""
        return self._past.pop(0)

    def keep(self, x: Tensor, frames: int) -> None:
        """Note the last frames of what a layer saw; a copy, or all of it would stay. Before the first was nothing."""
        if x.shape[1] < frames:
            x = F.pad(x, (0, 0, 0, 0, 0, 0, frames - x.shape[1], 0))
        self.left.append(x[:, -frames:].clone())

    def behind(self, x: Tensor, frames: int = SEEN) -> Tensor:
        """A group with the frames before it, which are kept for the next one."""
        seen = x if self.first else torch.cat([self.recall(), x], 1)
        self.keep(seen, frames)
        return seen


def decode(vae: AutoencoderKLWan, latents: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
    """Latent frames to pixel frames.

    Args:
        vae: of the 2.1 or 2.2 kind; its decoder is used in the type that it has.
        latents: (B, C, T, h, w), as the network knows them; one frame if it is the first group.
        past: what the group before left, or None; it is used up.

    Returns:
        (B, 3, n, H, W), about [-1, 1]: one frame of the first latent, ``temporal`` of every other; and what the
        next group must be given.
    """
    net: Any = vae.decoder
    memory = _Memory(past)
    x = _pointwise(vae.post_quant_conv, latents.movedim(1, -1))
    x = _causal(net.conv_in, memory.behind(x), memory)
    x = _middle(net.mid_block, x, memory)
    late = net.up_blocks[-2] if _resample(net.up_blocks[-2]).mode == "upsample2d" else None
    skip = None
    for block in net.up_blocks[:-1]:
        skip = x if hasattr(block, "avg_shortcut") else None
        for resnet in block.resnets:
            x = _residual(resnet, x, memory)
        if block is not late:
            x = _grown(block, x, skip, memory)
    return _unpatched(_painted(net, late, x, skip, memory), vae.config["patch_size"] or 1), memory.left


def _painted(net: Any, late: Any, x: Tensor, skip: Tensor | None, memory: _Memory) -> Tensor:
    """The last layers, at full size, where a few frames are all of the memory: large ones pass one by one.

    Args:
        net: the decoder.
        late: the block whose doubling is still to be done, which it can be frame by frame, or None.
        x: (B, T, H, W, C).
        skip: what went into that block, likewise, if it has a shortcut.
        memory: of the group.
    """
    resnets, positions = net.up_blocks[-1].resnets, x.shape[2] * x.shape[3] * (1 if late is None else 4)
    past = None if memory.first else [memory.recall() for _ in range(2 * len(resnets) + 1)]
    frames, done = max(1, PIECE // positions), []
    for number, some in enumerate(x.split(frames, 1)):
        inner, y = _Memory(past), some
        if late is not None:
            beside = None if skip is None else skip[:, number * frames : (number + 1) * frames]
            y = _grown(late, some, beside, memory)
        for resnet in resnets:
            y = _residual(resnet, y, inner)
        done.append(_causal(net.conv_out, _active(net.norm_out, y, inner), inner))
        past = inner.left
    memory.left += past or []
    return torch.cat(done, 1)


def encode(vae: AutoencoderKLWan, pixels: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
    """Pixel frames to what the latents' mean and spread are read from.

    Args:
        vae: of the 2.1 or 2.2 kind.
        pixels: (B, 3, n, H, W) in [-1, 1]: one frame if it is the first group, else a multiple of ``temporal``.
        past: what the group before left, or None; it is used up.

    Returns:
        (B, 2 * z_dim, T, h, w), mean and log-variance; and what the next group must be given.
    """
    net: Any = vae.encoder
    memory = _Memory(past)
    x = _patched(pixels, vae.config["patch_size"] or 1)
    x = _causal(net.conv_in, memory.behind(x), memory)
    for block in net.down_blocks:
        if isinstance(block, WanResidualBlock):
            x = _residual(block, x, memory)
        elif isinstance(block, WanAttentionBlock):
            x = _attention(block, x)
        elif isinstance(block, WanResample):
            x = _shrunk(block, x, memory)
        else:
            skip = x
            for resnet in block.resnets:
                x = _residual(resnet, x, memory)
            if block.downsampler is not None:
                x = _shrunk(block.downsampler, x, memory)
            x = x + _averaged(block.avg_shortcut, skip)
    x = _middle(net.mid_block, x, memory)
    x = _causal(net.conv_out, _active(net.norm_out, x, memory), memory)
    return _pointwise(vae.quant_conv, x).movedim(-1, 1), memory.left


# --- layers -------------------------------------------------------------------------------------


def _pointwise(layer: Any, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight.flatten(1), layer.bias)


def _causal(layer: Any, seen: Tensor, memory: _Memory) -> Tensor:
    """A convolution of frames and the ``SEEN`` before them; before the first one there is nothing to see."""
    pad = layer.weight.shape[-1] // 2
    if memory.first:
        frame = ops.convolve(seen[:, 0], layer.weight[:, :, -1], layer.bias, (1, 1), (pad, pad))
        return frame[:, None]
    return ops.convolve(seen, layer.weight, layer.bias, (1, 1, 1), (0, pad, pad))


def _active(norm: Any, x: Tensor, memory: _Memory) -> Tensor:
    """Norm and SiLU, behind the frames before."""
    seen = ops.norm_silu(x, norm.gamma.flatten(), None if memory.first else memory.recall())
    memory.keep(seen, SEEN)
    return seen


def _residual(block: Any, x: Tensor, memory: _Memory) -> Tensor:
    skip = _pointwise(block.conv_shortcut, x) if x.shape[-1] != block.out_dim else x
    for norm, layer in ((block.norm1, block.conv1), (block.norm2, block.conv2)):
        x = _active(norm, x, memory)  # so that what goes in is gone before the convolution takes its room
        x = _causal(layer, x, memory)
    return x.add_(skip)


def _middle(block: Any, x: Tensor, memory: _Memory) -> Tensor:
    x = _residual(block.resnets[0], x, memory)
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        x = _residual(resnet, _attention(attention, x), memory)
    return x


def _attention(block: Any, x: Tensor) -> Tensor:
    """One head over each frame's positions."""
    b, t, h, w, c = x.shape
    normed = F.normalize(x.float(), dim=-1) * (c**0.5 * block.norm.gamma.flatten().float())
    told = _pointwise(block.to_qkv, normed.to(x.dtype)).view(b * t, 1, h * w, 3 * c)
    query, key, value = told.chunk(3, -1)
    seen = F.scaled_dot_product_attention(query, key, value).view(b, t, h, w, c)
    return x + _pointwise(block.proj, seen)


# --- larger and smaller ---------------------------------------------------------------------------

#: What the three taps of a row see once every pixel was doubled: for either of the two new pixels, two old ones.
TAPS = (((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0)))


def _resample(block: Any) -> Any:
    return block.upsampler if hasattr(block, "upsampler") else block.upsamplers[0]


def _grown(block: Any, x: Tensor, skip: Tensor | None, memory: _Memory) -> Tensor:
    """Twice the frames, if the block doubles them, and twice the size.

    Args:
        block: it.
        x: (B, T, H, W, C).
        skip: what went into the block, likewise, where it has a shortcut: the 2.2 kind.
        memory: of the group.
    """
    layer = _resample(block)
    if layer.mode == "upsample3d":
        seen = memory.behind(x if not memory.first else torch.zeros_like(x))  # it never saw the very first frame
        if not memory.first:
            twice = ops.convolve(seen, layer.time_conv.weight, layer.time_conv.bias, (1, 1, 1), (0, 0, 0))
            x = twice.unflatten(-1, (2, -1)).permute(0, 1, 4, 2, 3, 5).flatten(1, 2)
    x = _doubled(layer.resample[1], x)
    if skip is not None:
        _deal_out(block.avg_shortcut, skip, x, memory.first)
    return x


def _doubled(layer: Any, x: Tensor) -> Tensor:
    """Every pixel doubled both ways and a 3x3 convolution, as four 2x2 convolutions of the small picture.

    After doubling, two of three neighbours are the same pixel, so their weights are added first: 16
    products for four pixels in place of 36, and the large picture of the inputs never exists.

    Args:
        layer: the convolution, perhaps :func:`folded` already.
        x: (B, T, H, W, C).

    Returns:
        (B, T, 2H, 2W, O).
    """
    b, t, h, w, _ = x.shape
    out, weight = layer.weight.shape[0], getattr(layer, "folded", None)
    weight = folded(layer) if weight is None else weight
    four = ops.convolve(x.flatten(0, 1), weight, layer.bias.repeat(4), (1, 1), (1, 1))  # (B * T, H + 1, W + 1, 4 * O)
    large = x.new_empty(b, t, h, 2, w, 2, out)
    for row in (0, 1):
        for column in (0, 1):
            number = 2 * row + column
            part = four[:, row : row + h, column : column + w, number * out : (number + 1) * out]
            large[:, :, :, row, :, column] = part.view(b, t, h, w, out)
    return large.view(b, t, 2 * h, 2 * w, out)


def folded(layer: Any) -> Tensor:
    """The weights of a convolution behind doubling, added up: (4 * O, C, 2, 2)."""
    taps = torch.tensor(TAPS, device=layer.weight.device)
    weight = torch.einsum("oiyx,pay,qbx->pqoiab", layer.weight.float(), taps, taps).flatten(0, 2)
    return weight.to(layer.weight.dtype).contiguous(memory_format=torch.channels_last)


def fold(vae: AutoencoderKLWan) -> None:
    """Add those weights up once, beside the layers, for a VAE that changes no more. They go where the VAE goes."""
    for part in vae.decoder.modules():
        if isinstance(part, WanResample) and part.mode.startswith("upsample"):
            resample: Any = part.resample
            resample[1].register_buffer("folded", folded(resample[1]), persistent=False)


def _shrunk(layer: Any, x: Tensor, memory: _Memory) -> Tensor:
    """Half the size, and half the frames if the layer halves them. x: (B, T, H, W, C)."""
    b, t, *_ = x.shape
    picture = layer.resample[1]
    x = F.pad(x, (0, 0, 0, 1, 0, 1)).flatten(0, 1)
    x = ops.convolve(x, picture.weight, picture.bias, (2, 2), (0, 0)).unflatten(0, (b, t))
    if layer.mode != "downsample3d":
        return x
    seen = memory.behind(x, 1)
    if memory.first:
        return x
    return ops.convolve(seen, layer.time_conv.weight, layer.time_conv.bias, (2, 1, 1), (0, 0, 0))


def _deal_out(shortcut: Any, x: Tensor, large: Tensor, first: bool) -> None:
    """Add channels, dealt out to the pixels and frames that one becomes.

    Args:
        shortcut: says to how many.
        x: (B, T, H, W, C).
        large: what they are added to, (B, T * more, 2H, 2W, O); of the first group, only the last frames.
        first: whether this is the first group.
    """
    more, side, out = shortcut.factor_t, shortcut.factor_s, shortcut.out_channels
    b, _, h, w, _ = x.shape
    parts = large.view(b, -1, h, side, w, side, out)
    places = itertools.product(range(more - 1 if first else 0, more), range(side), range(side))
    for frame, row, column in places:
        number = (frame * side + row) * side + column
        channels = (torch.arange(out, device=x.device) * shortcut.factor + number) // shortcut.repeats
        frames = slice(0 if first else frame, None, more)
        parts[:, frames, :, row, :, column] += x.index_select(-1, channels)


def _averaged(shortcut: Any, x: Tensor) -> Tensor:
    """Pixels and frames that become one, as channels, and their means. x: (B, T, H, W, C)."""
    fewer, side = shortcut.factor_t, shortcut.factor_s
    x = F.pad(x, (0, 0, 0, 0, 0, 0, -x.shape[1] % fewer, 0))
    b, t, h, w, c = x.shape
    x = x.view(b, t // fewer, fewer, h // side, side, w // side, side, c).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(b, t // fewer, h // side, w // side, shortcut.out_channels, -1).mean(-1)


def _patched(pixels: Tensor, patch: int) -> Tensor:
    """(B, 3, n, H, W) to (B, n, H / patch, W / patch, 3 * patch**2)."""
    b, c, n, h, w = pixels.shape
    x = pixels.view(b, c, n, h // patch, patch, w // patch, patch)
    return x.permute(0, 2, 3, 5, 1, 6, 4).reshape(b, n, h // patch, w // patch, -1)


def _unpatched(x: Tensor, patch: int) -> Tensor:
    """(B, n, h, w, 3 * patch**2) to (B, 3, n, h * patch, w * patch)."""
    b, n, h, w, _ = x.shape
    x = x.view(b, n, h, w, -1, patch, patch).permute(0, 4, 1, 2, 6, 3, 5)
    return x.reshape(b, -1, n, h * patch, w * patch)
