"""Stage three: the training set rendered and encoded, and read back as the transformer's rows."""

from __future__ import annotations

import random
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor

from assets.tiny import train_vae, whole, world
from assets.tiny.runs import RUNS, load_state, log, save_state, shortened

CLIPS = 3000
WIDE_SHARE = 0.4  # of clips that start anywhere


@torch.no_grad()
def make_latents(seed: int = 0, clips: int = CLIPS) -> None:
    """Render and encode the training set; resumable, one file per part of 500 clips."""
    vae = train_vae.build(train_vae.Z)
    vae.load_state_dict(load_state(RUNS / "encoder.pt"), strict=False)
    train_vae.use_channels_last(vae)
    for part in range(-(-clips // 500)):
        path = RUNS / f"latents-{seed}-{part}.pt"
        if path.exists():
            continue
        rng = random.Random(1000 * seed + part)
        scenes, latents, covers = [], [], []
        for _ in range(125):
            some = [world.sample_scene(rng, wide=rng.random() < WIDE_SHARE) for _ in range(4)]
            clip, cover = zip(*(world.render(s) for s in some), strict=True)
            video = torch.stack(clip).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
            with shortened("cpu"):
                z = whole.encode(vae, video.contiguous(memory_format=torch.channels_last_3d))
            latents.append(z[:, : train_vae.Z].half())
            covers.append(_coverage(torch.stack(cover)))
            scenes += [asdict(s) for s in some]
        save_state(path, {"scenes": scenes, "latents": torch.cat(latents), "cover": torch.cat(covers)})
        log.info("latents: part %d of %d clips", part, len(scenes))


def _coverage(cover: Tensor) -> Tensor:
    """Which latents the object touches. (B, F, H, W) to (B, T, h, w) bool."""
    first = F.max_pool2d(cover[:, :1], 16)
    rest = F.max_pool3d(cover[:, None, 1:], (4, 16, 16))[:, 0]
    return torch.cat([first, rest], dim=1) > 0.05


def pose(scene: world.Scene) -> Tensor:
    """What is drawn in every latent frame: centre, radius, angle and shape, (T, 11)."""
    x, y, radius, angle = world.path(scene).T
    shape = torch.tensor([float(scene.shape == name) for name in world.SHAPES]).expand(len(x), -1)
    rows = torch.cat([torch.stack([x, y, radius, angle.sin(), angle.cos()], 1), shape], 1)
    return per_latent(rows)


def per_latent(rows: Tensor) -> Tensor:
    """Means over the frames that a latent frame stands for. (F, n) to (T, n)."""
    return torch.cat([rows[:1], rows[1:].unflatten(0, (-1, 4)).mean(1)])


class Latents:
    """The encoded training set, centred: a run keeps the statistics it began with.

    The channels are not brought to one size. They are the latents' main directions (see
    ``train_vae.narrow``), and what matters most should stand out most from the noise.
    """

    behind = 0  # latent frames behind the clip

    def __init__(self, seed: int, stats: tuple[Tensor, Tensor] | None) -> None:
        parts = [load_state(p) for p in sorted(RUNS.glob(f"latents-{seed}-*.pt"))]
        self.scenes = [world.Scene(**s) for p in parts for s in p["scenes"]]
        self.cover = torch.cat([p["cover"] for p in parts])
        self.poses = torch.stack([pose(scene) for scene in self.scenes])
        raw = torch.cat([p["latents"] for p in parts])
        sample = raw[::7].float()
        self.mean, self.std = stats or (sample.mean((0, 2, 3, 4)), torch.ones(train_vae.Z))
        shape = (1, -1, 1, 1, 1)
        self.values = ((raw - self.mean.view(shape)) / self.std.view(shape)).bfloat16()
