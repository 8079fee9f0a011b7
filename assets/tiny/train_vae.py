"""Stage one: the VAE, first on single frames, then on short clips."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from assets.tiny import whole, world
from assets.tiny.runs import (
    RUNS,
    Budget,
    Ema,
    Muon,
    descend,
    learning_rate,
    load_state,
    log,
    save_state,
    shortened,
)

WIDE_Z = 48  # latent channels while the encoder trains
Z = 20  # channels kept after that: see ``narrow``
NARROW_SIZE = 2.4  # mean square of the kept channels, as they came out
CONFIG = {
    "base_dim": 48,
    "decoder_base_dim": 64,
    "z_dim": WIDE_Z,
    "dim_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [True, True],
    "is_residual": True,
    "in_channels": 48,
    "out_channels": 48,
    "patch_size": 4,  # wide layers on few positions: what matrix units are good at
    "scale_factor_temporal": 4,
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * WIDE_Z,
    "latents_std": [1.0] * WIDE_Z,
}
BANK_CLIPS = 700
FREEZE = 0.75  # the encoder stops here, so that latents can be made while the decoder goes on
NOISE, LATE_NOISE = 0.3, 0.12  # most noise on latents: what a transformer gets slightly wrong must not show
PEAK_MUON, PEAK_ADAM = 2.5e-3, 1.5e-3  # learning rates
#: Of a finished VAE that is trained on: clips, batches and frames, a share of the learning rates, and what it costs
#: latents to differ from what they were.
REFINING, STRETCHES, REFINE_RATE, NEAR = 500, ((2, 9), (2, 9), (4, 5), (1, 17), (1, 33)), 0.35, 0.02


def build(z: int = WIDE_Z) -> AutoencoderKLWan:
    """A fresh VAE with z latent channels, whose clip mode starts out as its single-frame mode.

    Taps on past frames start at zero and time resampling at the identity, so what single frames
    teach carries over. Mid-block attention starts as, and stays, the identity: pictures of every size
    go through the same function.
    """
    vae = AutoencoderKLWan(**CONFIG | {"z_dim": z, "latents_mean": [0.0] * z, "latents_std": [1.0] * z})
    with torch.no_grad():
        for name, layer in vae.named_modules():
            if isinstance(layer, nn.Conv3d) and layer.kernel_size[0] == 3:
                layer.weight[:, :, :-1] = 0
                if name.endswith("time_conv"):
                    out, into = layer.weight.shape[:2]
                    eye = torch.eye(into).repeat(out // into, 1)
                    layer.weight[:, :, -1, 0, 0] = eye
                    layer.weight += 0.05 * torch.randn_like(layer.weight)
                    layer.bias.zero_()
                else:
                    layer.weight[:, :, -1] *= 3**0.5
            if name.endswith(("attentions.0.proj",)):
                layer.weight.zero_()
                layer.bias.zero_()
        vae.quant_conv.weight[z:] = 0
        vae.quant_conv.bias[z:] = 0
    for name, p in vae.named_parameters():
        p.requires_grad_("attentions" not in name)
    return vae


def use_channels_last(vae: nn.Module) -> None:
    """Lay convolution weights out channels-last, the fast layout on CPUs and tensor cores."""
    for layer in vae.modules():
        if isinstance(layer, nn.Conv3d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last_3d)
        elif isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)


Paint = Callable[[random.Random, int], tuple[Tensor, Tensor]]


def paint(rng: random.Random, number: int) -> tuple[Tensor, Tensor]:
    """A clip of the first world and where its object is: see :func:`assets.tiny.world.render`."""
    return world.render(world.sample_scene(rng, wide=number % 2 == 0))


def bank(seed: int, clips: int = BANK_CLIPS, paint: Paint = paint) -> tuple[Tensor, Tensor]:
    """Rendered clips: (N, FRAMES, S, S, 3) and what matters in them (N, FRAMES, S, S), uint8."""
    path = RUNS / f"bank-{seed}-{clips}.pt"
    if path.exists():
        return torch.load(path, weights_only=True)
    rng = random.Random(seed)
    video = torch.empty(clips, world.FRAMES, world.SIZE, world.SIZE, 3, dtype=torch.uint8)
    cover = torch.empty(clips, world.FRAMES, world.SIZE, world.SIZE, dtype=torch.uint8)
    for i in range(clips):
        clip, mask = paint(rng, i)
        video[i], cover[i] = clip, (mask * 255).to(torch.uint8)
    RUNS.mkdir(parents=True, exist_ok=True)
    torch.save((video, cover), path)
    return video, cover


def sample(
    data: tuple[Tensor, Tensor], rng: random.Random, batch: int, frames: int, emphasis: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Random stretches of clips; what matters in them counts ``emphasis`` times more.

    Whole pictures only: a bf16 convolution gradient of oneDNN is wrong above 34x34 positions, and
    with patches of 4 a picture of 128 has 32x32.

    Returns:
        (B, 3, T, S, S) float32 in [-1, 1] and the loss weight, (B, 1, T, S, S).
    """
    video, cover = data
    windows = [
        (rng.randrange(len(video)), slice(t, t + frames))
        for t in (rng.randrange(world.FRAMES - frames + 1) for _ in range(batch))
    ]
    pixels = torch.stack([video[w] for w in windows]).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    mask = torch.stack([cover[w] for w in windows])[:, None].float() / 255
    near = F.max_pool3d(mask, (1, 7, 7), 1, (0, 3, 3))  # the rim matters as much as the inside
    return pixels.contiguous(memory_format=torch.channels_last_3d), 1 + emphasis * near


def loss_on(vae: AutoencoderKLWan, video: Tensor, weight: Tensor, most: float) -> tuple[Tensor, Tensor]:
    """Weighted reconstruction loss from noisy latents, and the unweighted squared error for the log."""
    with shortened(video.device):
        z = whole.encode(vae, video)[:, : vae.config["z_dim"]]
        noise = most * torch.rand(len(z), 1, 1, 1, 1, device=z.device, dtype=z.dtype)
        out = whole.decode(vae, z + noise * torch.randn_like(z))
    z, error = z.float(), out.float() - video
    if z.shape[1] == WIDE_Z:
        scale = (z.square().mean((0, 2, 3, 4)) - 1).square().mean()
    else:  # main directions differ in size by design; only their sum must not drift
        scale = (z.square().mean() / NARROW_SIZE - 1).square()
    fit = (weight * (error.abs() + 2 * error.square())).mean() / weight.mean()
    return fit + 0.01 * scale, error.square().mean()


def train(minutes: float, device: str = "cpu", seed: int = 0, paint: Paint = paint) -> None:
    """Train, or go on training, until the time is used up; the state lands in ``runs``.

    Args:
        minutes: of all sessions together.
        device: where.
        seed: of data and noise.
        paint: draws the clips of a world.
    """
    state = load_state(RUNS / "vae.pt") or {"step": 0, "spent": 0.0, "curve": []}
    torch.manual_seed(seed + state["step"])
    rng = random.Random(seed + state["step"])
    vae = build(width_of(state["model"])) if "model" in state else build()
    if "model" in state:
        vae.load_state_dict(state["model"])
    vae.to(device)
    use_channels_last(vae)
    solvers, ema = optimizers(vae), Ema(vae, 0.998)
    if "optimizers" in state:
        for solver, saved in zip(solvers, state["optimizers"], strict=True):
            solver.load_state_dict(saved)
        ema.shadow, ema.step = state["ema"], state["step"]
    data, budget, step = bank(seed, paint=paint), Budget(minutes, state["spent"]), state["step"]
    mean_mse, frozen = 0.05, False
    while budget.fraction < 1:
        batch, frames = _phase(budget.fraction)
        if budget.fraction > FREEZE and not frozen:
            frozen = freeze_encoder(vae, ema)
        video, weight = (t.to(device) for t in sample(data, rng, batch, frames))
        loss, mse = loss_on(vae, video, weight, LATE_NOISE if frozen else NOISE)
        loss.backward()
        rate = learning_rate(1.0, budget.fraction, step)
        norm = descend({s: p * rate for s, p in zip(solvers, (PEAK_MUON, PEAK_ADAM), strict=True)}, 0.5)
        ema.update(vae)
        step += 1
        mean_mse = 0.98 * mean_mse + 0.02 * float(mse.detach())
        if step % 50 == 0:
            psnr = float(-10 * torch.log10(torch.tensor(mean_mse / 4)))
            shape = f"{batch}x{frames}"
            log.info("vae %d: %.0f s, %s, psnr %.2f, |g| %.2f", step, budget.spent, shape, psnr, norm)
            state["curve"].append([step, budget.spent, psnr])
        if step % 200 == 0 or budget.fraction >= 1:
            state |= {
                "step": step, "spent": budget.spent, "model": vae.state_dict(),
                "optimizers": [s.state_dict() for s in solvers], "ema": ema.shadow,
            }  # fmt: skip
            save_state(RUNS / "vae.pt", state)


def refine(minutes: float, device: str = "cpu", seed: int = 0, paint: Paint = paint, emphasis: float = 2.0) -> None:
    """Train a finished VAE on, its encoder too, with latents held near what they were.

    A transformer that was trained on the old latents then follows in a short while. The state lands in
    ``runs``; at the end the average becomes the VAE and the encoder that latents are made with.

    Args:
        minutes: of all sessions together.
        device: where.
        seed: of data and noise.
        paint: draws the clips of a world.
        emphasis: how much more it counts what matters in them.
    """
    state = load_state(RUNS / "refined.pt") or {"step": 0, "spent": 0.0, "known": load_state(RUNS / "vae.pt")}
    known = state["known"]  # as it was before the first session
    assert known is not None
    torch.manual_seed(seed + state["step"])
    rng = random.Random(seed + state["step"])
    old, vae = (build(width_of(known["model"])) for _ in range(2))
    old.load_state_dict(known["model"])
    vae.load_state_dict(state.get("model", known["model"]))
    for one in (old, vae):
        use_channels_last(one.to(device))
    solvers, ema = optimizers(vae), Ema(vae, 0.998)
    if "optimizers" in state:
        for solver, saved in zip(solvers, state["optimizers"], strict=True):
            solver.load_state_dict(saved)
        ema.shadow, ema.step = state["ema"], state["step"]
    data, budget, step = bank(seed, REFINING, paint), Budget(minutes, state["spent"]), state["step"]
    recent = torch.tensor([0.004, 0.0])
    while budget.fraction < 1:
        video, weight = (t.to(device) for t in sample(data, rng, *rng.choice(STRETCHES), emphasis))
        fit, away, mse = refinement(vae, old, video, weight)
        (fit + NEAR * away).backward()
        rate = REFINE_RATE * learning_rate(1.0, budget.fraction, step)
        norm = descend({s: p * rate for s, p in zip(solvers, (PEAK_MUON, PEAK_ADAM), strict=True)}, 0.5)
        ema.update(vae)
        step += 1
        recent = 0.98 * recent + 0.02 * torch.stack([mse, away]).detach().cpu()
        if step % 50 == 0:
            psnr = float(-10 * torch.log10(recent[0] / 4))
            told = "vae refined %d: %.0f s, psnr %.2f, away from the old latents %.4f, |g| %.2f"
            log.info(told, step, budget.spent, psnr, float(recent[1]), norm)
        if step % 200 == 0 or budget.fraction >= 1:
            state = {
                "step": step, "spent": budget.spent, "model": vae.state_dict(), "known": known,
                "optimizers": [s.state_dict() for s in solvers], "ema": ema.shadow,
            }  # fmt: skip
            save_state(RUNS / "refined.pt", state)
    ema.copy_to(vae)
    weights = vae.state_dict()
    for old_part in RUNS.glob("latents-*.pt"):  # of the encoder before
        old_part.unlink()
    save_state(RUNS / "encoder.pt", {k: v for k, v in weights.items() if k.startswith(("encoder.", "quant_conv."))})
    steps, spent = known["step"] + step, known["spent"] + budget.spent
    save_state(RUNS / "vae.pt", {"step": steps, "spent": spent, "curve": known["curve"], "model": weights})


def refinement(vae: nn.Module, old: nn.Module, video: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted reconstruction loss, the latents' distance from the old ones, the plain squared error."""
    with shortened(video.device):
        z = whole.encode(vae, video)[:, :Z]
        with torch.no_grad():
            before = whole.encode(old, video)[:, :Z]
        noise = LATE_NOISE * torch.rand(len(z), 1, 1, 1, 1, device=z.device, dtype=z.dtype)
        out = whole.decode(vae, z + noise * torch.randn_like(z))
    error = out.float() - video
    fit = (weight * (0.5 * error.abs() + 4 * error.square())).mean() / weight.mean()
    return fit, (z.float() - before.float()).square().mean(), error.square().mean()


def optimizers(vae: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the convolutions inside, AdamW for those at the pixels and for vectors."""
    matrices, others = [], []
    for name, p in vae.named_parameters():
        inside = p.ndim >= 4 and "conv_in" not in name and name != "decoder.conv_out.weight"
        (matrices if inside else others).append(p)
    others = [p for p in others if p.requires_grad]
    return [
        Muon([p for p in matrices if p.requires_grad], lr=PEAK_MUON),
        torch.optim.AdamW(others, lr=PEAK_ADAM, betas=(0.9, 0.98), weight_decay=1e-4, foreach=True),
    ]


def freeze_encoder(vae: AutoencoderKLWan, ema: Ema) -> bool:
    """Stop training whatever makes latents, at its average, and leave it for stage three."""
    with torch.no_grad():
        for name, p in vae.named_parameters():
            if name.startswith(("encoder.", "quant_conv.")):
                p.copy_(ema.shadow[name])
                p.requires_grad_(False)
    weights = {k: v.clone() for k, v in vae.state_dict().items() if k.startswith(("encoder.", "quant_conv."))}
    save_state(RUNS / "encoder.pt", weights)
    log.info("vae: the encoder is final")
    return True


def width_of(weights: dict[str, Tensor]) -> int:
    """Latent channels of a VAE's weights."""
    return weights["post_quant_conv.weight"].shape[1]


@torch.no_grad()
def narrow(seed: int = 0, clips: int = 100) -> None:
    """Keep the few directions in which latents differ, and drop the rest of the channels.

    An encoder trained under noise uses some 28 of its 48 directions. The others are noise that the
    transformer would have to carry from its input to its output, through a width hardly larger than
    a token's numbers. The turn is folded into the convolutions on either side of the latents, so the
    pictures stay the same but for the variance that is dropped (10 %, 0.4 dB before the decoder's
    last stretch).
    """
    state = load_state(RUNS / "vae.pt")
    assert state is not None
    wide = build()
    wide.load_state_dict(state["model"] | state["ema"])
    use_channels_last(wide)
    video, _ = bank(seed)
    rows = []
    for clip in video[:clips]:
        pixels = clip.permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        with shortened("cpu"):
            z = whole.encode(wide, pixels.contiguous(memory_format=torch.channels_last_3d))[:, :WIDE_Z]
        rows.append(z.float().permute(0, 2, 3, 4, 1).reshape(-1, WIDE_Z))
    _, basis = torch.linalg.eigh(torch.cat(rows).T.cov())
    basis = basis.flip(1)[:, :Z].T  # (Z, WIDE_Z), the widest direction first
    weights = turned(wide.state_dict(), basis)
    save_state(RUNS / "encoder.pt", {k: v for k, v in weights.items() if k.startswith(("encoder.", "quant_conv."))})
    parameters = {n for n, _ in wide.named_parameters()}
    kept = {k: state[k] for k in ("step", "spent", "curve")}
    ema = {k: v.clone() for k, v in weights.items() if k in parameters}
    save_state(RUNS / "vae.pt", kept | {"model": weights, "ema": ema, "basis": basis})


def turned(weights: dict[str, Tensor], basis: Tensor) -> dict[str, Tensor]:
    """A VAE's weights with its latents seen along other directions.

    Args:
        weights: of a VAE with C latent channels.
        basis: (c, C), orthonormal rows.

    Returns:
        Weights of a VAE with c latent channels.
    """
    count, wide = basis.shape
    out = {k: v.clone() for k, v in weights.items()}
    inward = basis @ weights["quant_conv.weight"][:wide, :, 0, 0, 0]  # (c, 2C)
    for name, shift in (("weight", 0.0), ("bias", basis @ weights["quant_conv.bias"][:wide])):
        mean = torch.tensordot(inward, weights[f"encoder.conv_out.{name}"], 1) + shift
        out[f"encoder.conv_out.{name}"] = torch.cat([mean, torch.zeros_like(mean)])
    out["quant_conv.weight"] = torch.eye(2 * count)[:, :, None, None, None]
    out["quant_conv.bias"] = torch.zeros(2 * count)
    outward = weights["post_quant_conv.weight"][:, :, 0, 0, 0] @ basis.T  # (C, c)
    out["decoder.conv_in.weight"] = torch.einsum("oi...,ic->oc...", weights["decoder.conv_in.weight"], outward)
    out["post_quant_conv.weight"] = torch.eye(count)[:, :, None, None, None]
    # what of the constant part the kept directions can hold; the decoder learns the rest again
    constant = weights["post_quant_conv.bias"][:, None]
    out["post_quant_conv.bias"] = torch.linalg.lstsq(outward, constant).solution[:, 0]
    return out


def _phase(fraction: float) -> tuple[int, int]:
    """Batch and frames: single frames first, then ever longer clips."""
    for until, batch, frames in ((0.12, 16, 1), (0.28, 6, 5), (0.5, 4, 9), (0.85, 2, 17), (1.1, 1, 33)):
        if fraction < until:
            return batch, frames
    raise AssertionError(fraction)
