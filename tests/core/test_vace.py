"""VACE against diffusers: the transformer and whole pipelines on the same random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import WanVACEPipeline, WanVACETransformer3DModel
from PIL import Image

from tests.core import official, tiny
from tests.core import test_pipeline as checkpoints
from wan_core import load
from wan_core.model.adapters import VaceDiT
from wan_core.weights.describe import describe

CONFIG = tiny.BASE | tiny.KINDS["t2v"] | {"num_layers": 4, "vace_layers": [0, 2], "vace_in_channels": 96}


def pair() -> tuple[VaceDiT, WanVACETransformer3DModel]:
    theirs = WanVACETransformer3DModel(**CONFIG).eval()
    tiny.shake(theirs)
    ours = VaceDiT(**CONFIG).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@torch.no_grad()
def test_same_velocity_as_diffusers() -> None:
    ours, theirs = pair()
    data = tiny.inputs("t2v")
    data["control_hidden_states"] = torch.randn(2, 96, 3, 6, 10, generator=torch.Generator().manual_seed(2))
    data["control_hidden_states_scale"] = torch.tensor([0.8, 1.3])
    expected = theirs(**data, return_dict=False)[0]
    torch.testing.assert_close(ours(**data, return_dict=False)[0], expected, atol=2e-5, rtol=0)
    context = ours.context(
        data["encoder_hidden_states"], control=data["control_hidden_states"],
        strength=data["control_hidden_states_scale"],
    )  # fmt: skip
    embedded = ours.embed(data["hidden_states"], data["timestep"][:, None], (45,))
    torch.testing.assert_close(ours.head(ours.trunk(embedded, context), embedded), expected, atol=2e-5, rtol=0)


# --- whole pipelines ----------------------------------------------------------------------------


def checkpoint(experts: int = 1) -> WanVACEPipeline:
    plain = checkpoints.checkpoint("t2v", 2)

    def transformer(seed: int) -> WanVACETransformer3DModel:
        model = WanVACETransformer3DModel(**CONFIG).eval()
        tiny.shake(model, seed)
        return model

    parts = {name: getattr(plain, name) for name in ("vae", "tokenizer", "text_encoder", "scheduler")}
    return WanVACEPipeline(
        **parts, transformer=transformer(0), transformer_2=transformer(1) if experts == 2 else None,
        boundary_ratio=0.8 if experts == 2 else None,
    )  # fmt: skip


def moving(frames: int, seed: int) -> np.ndarray:
    return np.stack([np.asarray(checkpoints.picture(seed + i)) for i in range(frames)])


def masks(frames: int) -> np.ndarray:
    mask = np.zeros((frames, 32, 64, 3), np.uint8)
    mask[:, 5:20, 11:40] = 255
    mask[3, 20:, 40:] = 255  # not the same in every frame
    return mask


@pytest.mark.parametrize("experts", [1, 2])
@pytest.mark.parametrize("given", ["nothing", "one", "three", "control", "inpaint", "all"])
def test_whole_pipeline(given: str, experts: int, tmp_path: Path) -> None:
    peer = checkpoint(experts)
    count = {"one": 1, "three": 3, "all": 2}.get(given, 0)
    pictures = tuple(checkpoints.picture(40 + i) for i in range(count))
    video = moving(9, 3) if given in ("control", "inpaint", "all") else None
    mask = masks(9) if given in ("inpaint", "all") else None
    mine = checkpoints.ours(peer, tmp_path)
    assert mine.spec.name == ("wan2.1-vace-1.3b" if experts == 1 else "wan2.2-vace-fun-a14b")
    request = checkpoints.request(peer, reference_images=pictures, video=video, mask=mask, conditioning_scale=0.7)
    extra = {
        "reference_images": list(reversed(pictures)) or None,  # diffusers puts each in front of those before
        "video": None if video is None else [Image.fromarray(f) for f in video],
        "mask": None if mask is None else [Image.fromarray(f) for f in mask],
        "conditioning_scale": 0.7,
    }
    arguments = checkpoints.common(peer) | {k: v for k, v in extra.items() if v is not None}
    peer.set_progress_bar_config(disable=True)
    expected = peer(**arguments, generator=torch.Generator().manual_seed(3), output_type="latent").frames
    assert expected.std() > 0.1
    assert (mine.latents(request) - expected[:, :, count:]).abs().max() <= 1e-4  # the references stand in front


def test_a_first_and_a_last_frame_are_kept_frames_of_a_grey_video(tmp_path: Path) -> None:
    peer = checkpoint()
    first, last = checkpoints.picture(1), checkpoints.picture(2)
    grey = Image.new("RGB", (64, 32), (127, 127, 127))
    white, black = (Image.new("RGB", (64, 32), c) for c in ("white", "black"))
    mine = checkpoints.ours(peer, tmp_path)
    found = mine.latents(checkpoints.request(peer, image=first, last_image=last))
    video = [first, *[grey] * 7, last]
    arguments = checkpoints.common(peer) | {"video": video, "mask": [black, *[white] * 7, black]}
    peer.set_progress_bar_config(disable=True)
    expected = peer(**arguments, generator=torch.Generator().manual_seed(3), output_type="latent").frames
    assert (found - expected).abs().max() < 0.02  # 127 is not quite the middle of 0 to 255


@pytest.mark.parametrize("experts", [1, 2])
def test_the_official_folder_makes_the_same_video(experts: int, tmp_path: Path) -> None:
    peer = checkpoint(experts)
    trunks = [peer.transformer, peer.transformer_2][:experts]
    root = official.write_wan(tmp_path / "official", trunks, peer.vae, peer.text_encoder, peer.tokenizer)
    mine, theirs = load(root, "cpu", torch.float32), checkpoints.ours(peer, tmp_path / "diffusers")
    assert mine.spec.name == describe(root).name == ("wan2.1-vace-1.3b" if experts == 1 else "wan2.2-vace-fun-a14b")
    assert mine.parts.experts[0].config["vace_layers"] == (0, 2)
    mine.parts.spec = theirs.parts.spec  # the small one's boundary is its own
    asked = checkpoints.request(peer, reference_images=(checkpoints.picture(3),), video=moving(9, 3))
    assert torch.equal(mine.latents(asked), theirs.latents(asked))
