"""What memory requests take: the estimate against measured peaks, and refusals that name what fits."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.core.test_jobs import settled
from wan_core import memory
from wan_core.errors import RequestError
from wan_core.plan import Plan, fitting
from wan_core.precision import native
from wan_core.specs import SPECS
from wan_core.types import Geometry, Settled

ROOT = Path(__file__).resolve().parents[2]
MEASURE = """
import sys, torch
torch.set_grad_enabled(False)
torch.set_num_threads(1)
from tests.core.test_memory import CASES
def read(what):
    return [int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(what)][0]
for kind in sys.argv[2:]:
    work, estimate = CASES[kind](getattr(torch, sys.argv[1]))
    work()  # libraries are loaded, and keep what they keep
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
    before = read("VmRSS")
    work()
    print(kind, (read("VmHWM") - before) / estimate)
"""


def _trunk(ffn: int):
    def case(dtype):
        import torch

        from wan_core.model.dit import WanDiT

        dit = WanDiT(num_attention_heads=4, ffn_dim=ffn, num_layers=1, text_dim=64).to(dtype)
        tokens, latents = 6 * 32 * 32, torch.randn(1, 16, 6, 64, 64, dtype=dtype)
        told = dit.context(torch.randn(1, 64, 64, dtype=dtype))

        def work() -> None:
            embedded = dit.embed(latents, torch.tensor([[500.0]]), (tokens,))
            dit.head(dit.trunk(embedded, told), embedded)

        config = {"num_attention_heads": 4, "attention_head_dim": 128, "ffn_dim": ffn, "num_layers": 1}
        none = {"base_dim": 0, "scale_factor_temporal": 4}
        return work, memory.need(config, none, (0, 0), tokens, 64, dtype.itemsize).denoise

    return case


def _codec(residual: bool, dtype: torch.dtype):
    from diffusers import AutoencoderKLWan

    from wan_core.model.codec import Codec

    newer = {
        "decoder_base_dim": 48, "z_dim": 48, "is_residual": True, "in_channels": 12, "out_channels": 12,
        "patch_size": 2, "scale_factor_spatial": 16, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
    }  # fmt: skip
    vae = AutoencoderKLWan(base_dim=32, **newer if residual else {})
    codec = Codec(vae, dtype)
    return vae, codec, 24 * codec.spatial  # one latent frame is a group


def _encoder(residual: bool):
    def case(dtype):
        vae, codec, side = _codec(residual, dtype)
        video = torch.zeros(1, 3, 5, side, side)
        return lambda: codec.encode(video), memory.encoding(dict(vae.config), (side, side))

    return case


def _decoder(residual: bool):
    def case(dtype):
        vae, codec, side = _codec(residual, dtype)
        latents = torch.zeros(1, vae.config.z_dim, 2, 24, 24)

        def work() -> None:
            for _ in codec.stream(latents):
                pass

        config = {"num_attention_heads": 0, "attention_head_dim": 0, "ffn_dim": 0, "num_layers": 0}
        return work, memory.need(config, dict(vae.config), (side, side), 0, 0, dtype.itemsize).decode

    return case


CASES = {
    "narrow": _trunk(512), "wide": _trunk(3072), "old": _decoder(False), "new": _decoder(True),
    "old pictures": _encoder(False), "new pictures": _encoder(True),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_estimates_hold_against_measured_peaks(dtype: str) -> None:
    """The peak is never much above the estimate, nor the estimate far above the peak."""
    if dtype == "bfloat16" and native(torch.device("cpu")) == torch.float32:
        pytest.skip("this CPU emulates bfloat16, in minutes, and computes in float32")
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, dtype, *CASES]
    given_back = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # freed tensors leave the process at once
    done = subprocess.run(command, cwd=ROOT, env=os.environ | given_back, capture_output=True, text=True, check=True)
    found = {kind: float(share) for kind, share in (line.rsplit(" ", 1) for line in done.stdout.splitlines())}
    assert found.keys() == CASES.keys()
    assert all(0.5 < share < 1.1 for share in found.values()), found


GEOMETRY = Geometry(8, 4, (1, 2, 2), 16)
SPEC = SPECS["wan2.1-t2v-1.3b"]
ASKED = replace(settled(), width=832, height=480, num_frames=81)


def volume(some: Settled) -> float:
    return 1e3 * some.width * some.height * (some.num_frames + 20)


def fit(asked: Settled, room: float, spec=SPEC, spoken: bool = False) -> Plan:
    return fitting(Plan(asked, "m", 1, 1, 1.0), volume, room, GEOMETRY, spec, spoken)


def test_what_fits_is_planned_with_its_memory() -> None:
    assert fit(ASKED, 1e12).peak == volume(ASKED)


def test_the_nearest_that_fit_are_offered() -> None:
    words = r"size '832x480x81': takes about 40.3 GB beside the model, and 30.0 GB are free; try 53 frames or 704x400"
    with pytest.raises(RequestError, match=words):
        fit(ASKED, 30e9)
    for some in (replace(ASKED, num_frames=53), replace(ASKED, width=704, height=400)):
        assert volume(some) <= 30e9
    with pytest.raises(RequestError, match=r"free; try 288x160$"):
        fit(ASKED, 5e9)


def test_a_sound_says_how_long_it_is() -> None:
    with pytest.raises(RequestError, match=r"free; try 704x400$"):
        fit(ASKED, 30e9, spoken=True)


def test_a_model_of_one_size_is_offered_no_other() -> None:
    with pytest.raises(RequestError, match="smaller model"):
        fit(replace(ASKED, num_frames=1), 1e6, replace(SPEC, fixed_size=True))


def test_a_pipeline_refuses_before_anything_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is free now: what was refused while memory was tight is made once there is some again."""
    from wan_core import BUILT_IN, Request, load, placement

    room = [1e5]
    monkeypatch.setattr(placement, "free", lambda _: room[0])
    pipe, asked = load(BUILT_IN, "cpu"), Request("a ball", num_inference_steps=1, num_frames=1, seed=1)
    for call in (pipe.plan, lambda request: next(pipe.run(request))):
        with pytest.raises(RequestError, match="free some memory"):
            call(asked)
    room[0] = 1e10
    assert 0 < pipe.plan(asked).peak < 1e9
    assert pipe.plan(asked).revision == pipe.spec.revision != ""
    assert len(list(pipe.run(asked))) > 3


def test_little_room_means_slices() -> None:
    config = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 16 * 1536, "num_layers": 30}
    vae = {"base_dim": 96, "scale_factor_temporal": 4}
    roomy = memory.need(config, vae, (832, 480), 32_760, 512)
    tight = memory.need(config, vae, (832, 480), 32_760, 512, room=roomy.denoise / 2)
    assert roomy.slicing.feed_forward is None
    assert tight.slicing.feed_forward == memory.SLICE
    assert tight.denoise < 0.6 * roomy.denoise


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("4000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 300\nactive_file 200\nfile 600\n")
    assert memory._container(tmp_path) == 3500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._container(tmp_path) == float("inf")
    assert memory._container(tmp_path / "none") == float("inf")


def test_this_machine_has_some() -> None:
    assert 2**28 < memory.free("cpu") < 2**50
