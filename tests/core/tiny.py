"""Small random models in the exact public classes, shared by the parity tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor, nn

from wan_core.model.dit import WanDiT
from wan_core.pipeline import Pipeline

BASE = {
    "num_attention_heads": 2, "attention_head_dim": 24, "text_dim": 32, "freq_dim": 64,
    "ffn_dim": 80, "num_layers": 3, "cross_attn_norm": True,
}  # fmt: skip
KINDS = {
    "t2v": {"in_channels": 16, "out_channels": 16},
    "i2v36": {"in_channels": 36, "out_channels": 16},
    "clip": {"in_channels": 36, "out_channels": 16, "image_dim": 40, "added_kv_proj_dim": 48},
    "first_last": {
        "in_channels": 36, "out_channels": 16, "image_dim": 40, "added_kv_proj_dim": 48,
        "pos_embed_seq_len": 514,
    },
    "ti2v": {"in_channels": 48, "out_channels": 48},
}  # fmt: skip


def shake(module: nn.Module, seed: int = 0) -> None:
    """Give every parameter a value that matters: fresh inits hide norms, gates and biases."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim <= 1 or "gamma" in name:
                p.copy_(0.2 * noise + (1.0 if "norm" in name and "bias" not in name else 0.0))
            elif "scale_shift" in name or "pos_embed" in name:
                p.copy_(0.3 * noise)
            else:
                p.copy_(noise * p[0].numel() ** -0.5)


def pair(kind: str, **changes: object) -> tuple[WanDiT, WanTransformer3DModel]:
    """Our transformer and diffusers', with the same random weights."""
    theirs = WanTransformer3DModel(**(BASE | KINDS[kind] | changes)).eval()
    shake(theirs)
    ours = WanDiT(**(BASE | KINDS[kind] | changes)).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def inputs(kind: str, *, frames: int = 3, height: int = 6, width: int = 10, batch: int = 2) -> dict[str, Tensor]:
    """Random inputs of a forward call; the text is 512 long, as diffusers' image branch assumes."""
    g = torch.Generator().manual_seed(1)
    config = KINDS[kind]
    data = {
        "hidden_states": torch.randn(batch, config["in_channels"], frames, height, width, generator=g),
        "timestep": torch.tensor([937.0, 12.0][:batch]),
        "encoder_hidden_states": torch.randn(batch, 512, BASE["text_dim"], generator=g),
    }
    if kind == "ti2v":
        tokens = (height // 2) * (width // 2)
        stamp = data["timestep"][:, None].expand(-1, frames * tokens).clone()
        stamp[:, :tokens] = 0
        data["timestep"] = stamp
    if kind == "clip":
        data["encoder_hidden_states_image"] = torch.randn(batch, 257, 40, generator=g)
    if kind == "first_last":
        data["encoder_hidden_states_image"] = torch.randn(2 * batch, 257, 40, generator=g)
    return data


def vae(kind: str, seed: int = 0) -> AutoencoderKLWan:
    """A small random VAE of the 2.1 or 2.2 kind."""
    torch.manual_seed(seed)
    common = {"dim_mult": [1, 1, 1, 1], "num_res_blocks": 1, "temperal_downsample": [False, True, True]}
    if kind == "2.1":
        return AutoencoderKLWan(base_dim=8, z_dim=16, **common).eval()
    return AutoencoderKLWan(
        base_dim=8, decoder_base_dim=8, z_dim=48, is_residual=True, patch_size=2, in_channels=12,
        out_channels=12, scale_factor_spatial=16, latents_mean=[0.1] * 48, latents_std=[0.7] * 48, **common,
    ).eval()  # fmt: skip


@contextmanager
def counted(pipe: Pipeline) -> Iterator[list[list[int]]]:
    """Per expert, the rows of every pass through its first block: branches may go together."""
    rows: list[list[int]] = [[] for _ in pipe.parts.experts]
    with ExitStack() as hooks:
        for count, expert in zip(rows, pipe.parts.experts, strict=True):
            block: Any = expert.blocks[0]
            hook = block.ffn.register_forward_hook(lambda _, given, __, count=count: count.append(len(given[0])))
            hooks.callback(hook.remove)
        yield rows
