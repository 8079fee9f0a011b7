"""A finished VAE's decoder, trained on alone: truer pictures of the latents that a transformer already draws.

The encoder stays as it is, so latents do, and nothing that was trained on them has to follow.
"""

from __future__ import annotations

import random

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from assets.tiny import train_vae, whole, world
from assets.tiny.runs import RUNS, Budget, Ema, descend, learning_rate, load_state, log, save_state, shortened

STRETCHES = ((2, 9), (2, 13), (1, 17), (1, 33))  # clips and frames of a batch
NOISE = 0.06  # most noise on latents: a transformer's are not quite an encoder's
RATE = 0.12  # of the learning rates that the VAE began with


def train(minutes: float, device: str = "cpu", seed: int = 0) -> None:
    """Train, or go on training, until the time is used up; then the average becomes the VAE's decoder in ``runs``.

    Args:
        minutes: of all sessions together.
        device: where.
        seed: of scenes and noise.
    """
    state = load_state(RUNS / "decoder.pt") or {"step": 0, "spent": 0.0, "known": load_state(RUNS / "vae.pt")}
    known = state["known"]
    assert known is not None
    torch.manual_seed(seed + state["step"])
    rng = random.Random(seed + state["step"])
    vae = train_vae.build(train_vae.width_of(known["model"]))
    vae.load_state_dict(known["model"] | state.get("model", {}))
    train_vae.use_channels_last(vae.to(device))
    for name, p in vae.named_parameters():
        p.requires_grad_(p.requires_grad and name.startswith(("decoder.", "post_quant_conv.")))
    solvers, ema = train_vae.optimizers(vae), Ema(vae, 0.995)
    if "optimizers" in state:
        for solver, saved in zip(solvers, state["optimizers"], strict=True):
            solver.load_state_dict(saved)
        ema.shadow, ema.step = state["ema"], state["step"]
    budget, step, recent = Budget(minutes, state["spent"]), state["step"], None
    while budget.fraction < 1:
        video = draw(rng, *rng.choice(STRETCHES)).to(device)
        loss = loss_on(vae, video)
        loss.backward()
        rate = RATE * learning_rate(1.0, budget.fraction, step)
        peaks = (train_vae.PEAK_MUON, train_vae.PEAK_ADAM)
        norm = descend({s: p * rate for s, p in zip(solvers, peaks, strict=True)}, 0.5)
        ema.update(vae)
        step += 1
        now = float(loss.detach())
        recent = now if recent is None else 0.98 * recent + 0.02 * now
        if step % 50 == 0:
            log.info("decoder %d: %.0f s, psnr %.2f, |g| %.2f", step, budget.spent, -4.3429 * recent + 6.0206, norm)
        if step % 100 == 0 or budget.fraction >= 1:
            state = {
                "step": step, "spent": budget.spent, "model": vae.state_dict(), "known": known,
                "optimizers": [s.state_dict() for s in solvers], "ema": ema.shadow,
            }  # fmt: skip
            save_state(RUNS / "decoder.pt", state)
    ema.copy_to(vae)
    steps, spent = known["step"] + step, known["spent"] + budget.spent
    save_state(RUNS / "vae.pt", {"step": steps, "spent": spent, "curve": known["curve"], "model": vae.state_dict()})
    (RUNS / "decoder.pt").unlink()  # another stretch begins from this one's end, or from a VAE that was refined since


def draw(rng: random.Random, clips: int, frames: int) -> Tensor:
    """Stretches of newly painted clips: (clips, 3, frames, S, S) in [-1, 1]."""
    stretches = []
    for _ in range(clips):
        painted, _ = world.render(world.sample_scene(rng, wide=rng.random() < 0.5))
        first = rng.randrange(world.FRAMES - frames + 1)
        stretches.append(painted[first : first + frames])
    pixels = torch.stack(stretches).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last_3d)


def loss_on(vae: AutoencoderKLWan, video: Tensor) -> Tensor:
    """The logarithm of every clip's squared error, which is what decibels count, from slightly noisy latents."""
    with shortened(video.device):
        with torch.no_grad():
            z = whole.encode(vae, video)[:, : vae.config["z_dim"]]
            level = NOISE * torch.rand(len(z), 1, 1, 1, 1, device=z.device, dtype=z.dtype)
            z = z + level * torch.randn_like(z)
        out = whole.decode(vae, z)
    return (out.float() - video).square().mean((1, 2, 3, 4)).log().mean()
