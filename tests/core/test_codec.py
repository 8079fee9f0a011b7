"""The streaming decoder against ``vae.decode``, and its memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan

from tests.core.tiny import vae
from wan_core import BUILT_IN
from wan_core.model.codec import Codec

ROOT = Path(__file__).resolve().parents[2]
KIND = pytest.mark.parametrize("kind", ["2.1", "2.2"])


def latents(codec: Codec, frames: int = 4) -> torch.Tensor:
    return torch.randn(1, codec.vae.config.z_dim, frames, 3, 5, generator=torch.Generator().manual_seed(0))


@KIND
@pytest.mark.parametrize("channels_last", [False, True])
def test_streamed_equals_whole(kind: str, channels_last: bool) -> None:
    codec = Codec(vae(kind), torch.float32, channels_last)
    z = latents(codec)
    streamed = list(codec.stream(z))
    assert [s.shape[2] for s in streamed] == [1, 4, 4, 4]
    with torch.no_grad():
        whole = vae(kind).decode(z * codec.std + codec.mean).sample
    assert whole.std() > 1e-3
    assert (torch.cat(streamed, 2) - whole).abs().max() <= 1e-5


@KIND
def test_encoding_is_the_normalised_mode(kind: str) -> None:
    codec = Codec(vae(kind), torch.float32, channels_last=True)
    clip = torch.rand(1, 3, 9, 32, 64) * 2 - 1
    with torch.no_grad():
        mode = vae(kind).encode(clip).latent_dist.mode()
    assert ((mode - codec.mean) / codec.std - codec.encode(clip)).abs().max() <= 1e-5


def test_preview_shows_the_colours_of_a_trained_vae() -> None:
    """The linear map reads colours back from the built-in VAE's own latents."""
    codec = Codec(AutoencoderKLWan.from_pretrained(BUILT_IN / "vae"), torch.float32, channels_last=False)
    field = torch.rand(1, 3, 1, 2, 2, generator=torch.Generator().manual_seed(4)) * 2 - 1
    still = field.repeat_interleave(4 * codec.spatial, 3).repeat_interleave(4 * codec.spatial, 4)
    shown = codec.preview(codec.encode(still)).float() / 127.5 - 1
    target = torch.nn.functional.avg_pool2d(still[:, :, 0], codec.spatial)[0].permute(1, 2, 0)
    assert shown.shape == (1, *target.shape)
    spread = (target.mean((0, 1)) - target).square().mean()
    assert (shown[0] - target).square().mean() < 0.3 * spread


PEAK = """
import resource, sys, torch
from tests.core.tiny import vae
from wan_core.model.codec import Codec
torch.set_num_threads(1)
codec = Codec(vae("2.2"), torch.float32, channels_last=True)
def run(frames):
    for chunk in codec.stream(torch.zeros(1, 48, frames, 12, 12)):
        chunk = None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(3)
short = run(6)
print(run(40) - short)
"""


def test_peak_memory_does_not_grow_with_frames() -> None:
    command = [sys.executable, "-W", "ignore", "-c", PEAK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    grown_kib = int(done.stdout.split()[-1])
    whole_clip_kib = 34 * 4 * 192 * 192 * 3 * 4 / 1024
    assert grown_kib < whole_clip_kib / 10
