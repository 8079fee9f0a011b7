"""The streaming decoder against ``vae.decode``, and its memory."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan

from tests.core.tiny import vae
from wan_core import BUILT_IN, ops
from wan_core.decoding import ahead
from wan_core.model import vae as network
from wan_core.model.codec import Codec

ROOT = Path(__file__).resolve().parents[2]
KIND = pytest.mark.parametrize("kind", ["2.1", "2.2"])
GROUP = pytest.mark.parametrize("group", [1, 30, 1000])  # latent positions: one, two and all latent frames at once


def latents(codec: Codec, frames: int = 4) -> torch.Tensor:
    return torch.randn(1, codec.vae.config.z_dim, frames, 3, 5, generator=torch.Generator().manual_seed(0))


@GROUP
@KIND
def test_streamed_equals_whole(kind: str, group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wan_core.model.codec.GROUP", group)
    monkeypatch.setattr("wan_core.model.vae.PIECE", 500 * group)  # full-size frames one by one, some, all at once
    codec = Codec(vae(kind), torch.float32)
    z = latents(codec)
    streamed = list(codec.stream(z))
    assert [s.shape[2] for s in streamed] == [1, 4, 4, 4]
    with torch.no_grad():
        whole = vae(kind).decode(z * codec.std + codec.mean).sample
    assert whole.std() > 1e-3
    assert (torch.cat(streamed, 2) - whole).abs().max() <= 1e-5


@GROUP
@KIND
def test_encoding_is_the_normalised_mode(kind: str, group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wan_core.model.codec.GROUP", group)
    codec = Codec(vae(kind), torch.float32)
    clip = torch.rand(1, 3, 17, 48, 80) * 2 - 1
    with torch.no_grad():
        mode = vae(kind).encode(clip).latent_dist.mode()
    assert ((mode - codec.mean) / codec.std - codec.encode(clip)).abs().max() <= 1e-5


@torch.no_grad()
@KIND
def test_a_group_is_one_graph(kind: str) -> None:
    """The past goes in and comes out, so that a compiler finds no break."""
    one, z = vae(kind), latents(Codec(vae(kind), torch.float32), 3)
    step = torch.compile(network.decode, fullgraph=True, backend="eager")
    first, past = step(one, z[:, :, :1])
    second, _ = step(one, z[:, :, 1:], past)
    whole = one.decode(z).sample
    assert (torch.cat([first, second], 2).clamp(-1, 1) - whole).abs().max() <= 1e-5


@pytest.mark.parametrize("axes", [2, 3])
def test_convolutions_with_channels_last(axes: int) -> None:
    """Few positions, which torch computes otherwise, and strides."""
    x, weight = torch.randn(2, 6, *[5, 7, 9][:axes]), torch.randn(4, 6, *[3, 3, 2][:axes])
    stride, padding = [1, 2, 2][:axes], [0, 1, 1][:axes]
    plain = (torch.nn.functional.conv2d, torch.nn.functional.conv3d)[axes - 2]
    expected = plain(x, weight, torch.ones(4), stride, padding)
    found = ops.convolve(x.movedim(1, -1), weight, torch.ones(4), stride, padding)
    assert (found.movedim(-1, 1) - expected).abs().max() <= 1e-5


def test_preview_shows_the_colours_of_a_trained_vae() -> None:
    """The linear map reads colours back from the built-in VAE's own latents."""
    codec = Codec(AutoencoderKLWan.from_pretrained(BUILT_IN / "vae"), torch.float32)
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
codec = Codec(vae("2.2"), torch.float32)
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


def test_the_next_group_is_made_while_one_is_used() -> None:
    begun = [threading.Event() for _ in range(4)]

    def numbers() -> Iterator[int]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    groups = ahead(numbers())
    seen = []
    for number in groups:
        seen.append(number)
        assert all(event.wait(10) for event in begun[: number + 2])
        assert not any(event.is_set() for event in begun[number + 2 :])  # one, no more
    assert seen == [0, 1, 2, 3]


def test_what_goes_wrong_ahead_is_raised_and_closing_waits_for_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("no more memory")

    groups = ahead(failing())
    assert next(groups) == 1
    with pytest.raises(ValueError, match="memory"):
        next(groups)
    weights = []

    class Large:
        """What a failing source holds."""

    def hungry() -> Iterator[int]:
        held = Large()
        weights.append(weakref.ref(held))
        yield 1
        raise MemoryError(str(held))

    gc.disable()
    try:
        groups = ahead(hungry())
        next(groups)
        with pytest.raises(MemoryError):
            next(groups)
        assert weights[0]() is None  # at once: what is planned next must find the memory free
    finally:
        gc.enable()
    done, may_go = [], threading.Event()

    def slow() -> Iterator[int]:
        yield 1
        may_go.wait(10)
        done.append(True)
        yield 2

    groups = ahead(slow())
    next(groups)
    may_go.set()
    groups.close()
    assert done == [True]
    assert not [t for t in threading.enumerate() if t.name.startswith("ahead")]
