"""Stage four: the transformer, on the latents of stage three.

Text and image mode are trained together, as the TI2V kind allows: in image mode the first latent
frame is clean and its tokens sit at timestep 0.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from assets.tiny import perceive, train_vae, world
from assets.tiny.captions import LANGUAGES, caption
from assets.tiny.latents import Latents
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
from wan_core.model import rope as rope_tables
from wan_core.model.dit import After, WanDiT
from wan_core.model.layers import Tokens

M = TypeVar("M", bound=WanDiT)
TEXT_LENGTH = 512
TRAINED_TEXT = 40  # real tokens kept in training; captions of the world are shorter
SHIFT = 6.0  # training leans to high noise, where shape and place are decided; low noise is learnt soon
BATCH = 32
#: Clips that start anywhere are only seen with their first frame given: without it, not knowing where
#: the object starts would blur it.
NARROW_IMAGES, WIDE_EMPHASIS = 0.1, 0.6
EMPHASIS = {
    "star": 2.0, "ring": 1.4, "square": 1.6, "triangle": 1.2, "spin": 4.0, "circle": 1.5, "left": 1.3, "bounce": 1.2,
    "big": 1.5, "grow": 1.5,
}  # fmt: skip
PEAK_MUON, PEAK_ADAM = 3e-3, 1.5e-3  # learning rates
PLACED_AFTER, PLACE_WEIGHT = (1, 2), 0.15  # blocks after which tokens are asked where they are
UNLIKE_WEIGHT = 0.2  # of how unlike the guess of the clean latents looks: see ``perceive``
SKETCHED_AFTER, SKETCH_WEIGHT = 3, 0.5  # and after which, what is to be drawn
CONFIG = {
    "num_attention_heads": 4, "attention_head_dim": 64, "in_channels": train_vae.Z,
    "out_channels": train_vae.Z, "text_dim": 128, "freq_dim": 256, "ffn_dim": 1024, "num_layers": 6,
}  # fmt: skip


class Reader:
    """Captions to text embeddings, by the finished text encoder."""

    def __init__(self) -> None:
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(RUNS / "tokenizer")
        self.encoder = UMT5EncoderModel.from_pretrained(RUNS / "text_encoder", dtype=torch.float32).eval()

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Embed captions as the pipelines do: zero rows past each one's end.

        A trained batch holds fewer zero rows than the 512-token sequence they stand for. They are
        all equal, so counting each of them several times, as a bias on its scores, is exact.

        Returns:
            (B, S, text_dim) and the bias, (B, 1, 1, S).
        """
        enc = self.tokenizer(texts, padding="max_length", truncation=True, max_length=TRAINED_TEXT, return_tensors="pt")
        rows = self.encoder(enc.input_ids, enc.attention_mask).last_hidden_state
        mask = torch.cat([enc.attention_mask, torch.zeros(len(texts), 8, dtype=torch.long)], dim=1).bool()
        text = F.pad(rows, (0, 0, 0, 8)) * mask[..., None]
        pads = (~mask).sum(1, keepdim=True)
        count = torch.where(mask, 1.0, (TEXT_LENGTH - mask.sum(1, keepdim=True)) / pads)
        return text, count.log()[:, None, None, :]


def build() -> WanDiT:
    """A fresh transformer of the first model."""
    return prepare(WanDiT(**CONFIG))


def prepare(model: M) -> M:
    """Begin a transformer: gates closed, head at zero, cross-attention keen to pick single words."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.zero_()
            elif p.ndim >= 2 and "table" not in name:
                torch.nn.init.normal_(p, std=min(0.03, p[0].numel() ** -0.5))
        for block in model.blocks:
            block.scale_shift_table.zero_()
            block.scale_shift_table[:, (2, 5)] = 0.2  # gates a little open
            for norm in (block.attn2.norm_q, block.attn2.norm_k):
                norm.weight.fill_(2.0)  # most keys are padding, and words must stand out from it
        model.scale_shift_table.zero_()
        model.condition_embedder.time_proj.weight.mul_(0.3)
        model.proj_out.weight.zero_()
    look_around(model)
    return model


#: Which head of which block looks one step in which direction of (time, height, width).
LOOKS = {
    (0, 0): (1, 0, 0), (0, 1): (-1, 0, 0), (0, 2): (0, 1, 0), (0, 3): (0, -1, 0),
    (1, 0): (0, 0, 1), (1, 1): (0, 0, -1), (1, 2): (1, 0, 0), (1, 3): (-1, 0, 0),
}  # fmt: skip


@torch.no_grad()
def look_around(model: WanDiT) -> None:
    """Start some heads off looking one step forth or back in time, height and width.

    Rotary positions are relative, so among noise a token can only tell where it is by noticing what
    is missing: at an edge, the neighbour that a head looks for is not there and its attention
    spreads, which averages the noise away. Random heads are too blunt for that, and absolute time,
    without which there is no motion, is then found very late.
    """
    head_dim = model.config["attention_head_dim"]
    axes = rope_tables.split(head_dim)
    # the size of what unit inputs give, before anything is changed
    sizes = {
        id(layer): layer.weight.square().sum(1).mean().sqrt()
        for block in model.blocks[:2]
        for layer in (block.attn1.to_q, block.attn1.to_k)
    }
    for (number, head), steps in LOOKS.items():
        attention = model.blocks[number].attn1
        rows = slice(head * head_dim, (head + 1) * head_dim)
        query, key = torch.zeros(head_dim // 2, 2), torch.zeros(head_dim // 2, 2)
        start = 0
        for channels, step in zip(axes, steps, strict=True):
            for pair in range(2):  # only the two fastest frequencies tell neighbours apart
                angle = step * 10000.0 ** (-2 * pair / channels)
                query[start + pair] = torch.tensor([math.cos(angle), math.sin(angle)])
                key[start + pair, 0] = 1
            start += channels // 2
        for layer, norm, pattern in (
            (attention.to_q, attention.norm_q, query),
            (attention.to_k, attention.norm_k, key),
        ):
            layer.weight[rows] *= 0.2
            layer.bias[rows] = pattern.flatten() * sizes[id(layer)] * (head_dim / pattern.square().sum()).sqrt()
            norm.weight[rows] = 2.0


class Questions(nn.Module):
    """What tokens are asked along the way, by heads that only training has.

    Among noise a token can only work out its place from what is missing at the edges (see
    ``look_around``). Left to itself a trained model did so in its last blocks, and knew the frame in
    one case of two: with so little of the network left, shapes came out as blobs. Asked for its place
    early, and then for what stands where, it has the later blocks free for drawing.

    Args:
        model: whose tokens are read.
        grid: tokens in time, height and width.
        pose: numbers that describe what is to be drawn in a latent frame: its centre x and y first.
    """

    def __init__(self, model: WanDiT, grid: tuple[int, int, int], pose: int) -> None:
        super().__init__()
        dim = model.config["num_attention_heads"] * model.config["attention_head_dim"]
        self.heads = nn.ModuleDict({str(i): nn.Linear(dim, sum(grid)) for i in PLACED_AFTER})
        self.sketch = nn.Linear(dim, pose)
        self.grid, self._found = grid, {}

    def note(self, number: int, x: Tensor) -> Tensor:
        """Ask the tokens after a block; they go on as they are. x: (B, L, C)."""
        if number == SKETCHED_AFTER:
            head = self.sketch
        elif number in PLACED_AFTER:
            head = self.heads[str(number)]
        else:
            return x
        with torch.autocast(x.device.type, enabled=False):
            self._found[number] = head(F.layer_norm(x.float(), x.shape[-1:]))
        return x

    def loss(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """How wrong the last pass's answers are.

        Args:
            pose: (B, T, pose), T latent frames of the video; those behind it are not asked about.

        Returns:
            Cross-entropy of places, summed over axes and blocks, and the mean square error of poses,
            centres measured from each token.
        """
        axes = torch.meshgrid(*(torch.arange(n) for n in self.grid), indexing="ij")
        away = pose.new_zeros(())
        for number in PLACED_AFTER:
            for part, axis in zip(self._found[number].split(self.grid, -1), axes, strict=True):
                goal = axis.flatten().to(part.device).expand(part.shape[:2])
                away = away + F.cross_entropy(part.transpose(1, 2), goal)
        _, high, wide = self.grid
        frames = pose.shape[1]
        y, x = ((2 * torch.arange(n, device=pose.device) + 1) / n - 1 for n in (high, wide))
        own = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)  # (h * w, 2)
        centre = pose[:, :, None, :2] - own  # (B, T, h * w, 2)
        rest = pose[:, :, None, 2:].expand(*centre.shape[:3], -1)
        goal = torch.cat([centre, rest], -1).flatten(1, 2)
        answer = self._found[SKETCHED_AFTER][:, : frames * high * wide]
        return away, (answer - goal).square().mean()


def optimizers(model: WanDiT, asked: Questions) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for everything else."""
    matrices = [p for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(matrices, lr=PEAK_MUON),
        torch.optim.AdamW(others, lr=PEAK_ADAM, betas=(0.9, 0.98), weight_decay=0.0, foreach=True),
        torch.optim.AdamW(asked.parameters(), lr=PEAK_ADAM, weight_decay=0.0, foreach=True),
    ]


def levels(count: int, shift: float = SHIFT) -> Tensor:
    """Noise levels to train at, (count,); the larger the shift, the higher."""
    u = torch.rand(count)
    return shift * u / (1 + (shift - 1) * u)


def batches(data: Latents, reader: Reader, rng: random.Random) -> Iterator[dict[str, Tensor]]:
    """Endless training batches of latents, captions, noise levels and modes."""
    wide = torch.tensor([world.is_wide(scene) for scene in data.scenes])
    often = [emphasis(scene) for scene in data.scenes]
    while True:
        rows = rng.choices(range(len(data.scenes)), often, k=BATCH)
        image = wide[rows] | (torch.rand(BATCH) < NARROW_IMAGES)
        text, bias = reader([_words(data.scenes[i], rng, bool(given)) for i, given in zip(rows, image, strict=True)])
        yield {
            "clean": data.values[rows].float(),
            "cover": data.cover[rows],
            "pose": data.poses[rows],
            "text": text,
            "bias": bias,
            "sigma": levels(BATCH),
            "image": image,
        }


def emphasis(scene: world.Scene) -> float:
    """How often a scene is drawn: what comes out wrong most is shown most."""
    often = math.prod(EMPHASIS.get(name, 1.0) for name in (scene.shape, scene.motion, scene.size))
    return often * (WIDE_EMPHASIS if world.is_wide(scene) else 1.0)


def _words(scene: world.Scene, rng: random.Random, image: bool) -> str:
    """A caption, sometimes none. With a picture given, words it makes needless are often left out."""
    if rng.random() < 0.1:
        return ""
    forget = 0.35 if image and rng.random() < 0.5 else 0.06
    return caption(scene, rng, rng.choice(LANGUAGES), forget=forget)[0]


def velocity(model: WanDiT, noisy: Tensor, steps: Tensor, tokens: Tokens, after: After) -> Tensor:
    """One forward pass with two segments: the first latent frame, and the rest."""
    t, h, w = (n // p for n, p in zip(noisy.shape[2:], model.config.patch_size, strict=True))
    lengths = (h * w, (t - 1) * h * w)
    embedded = model.embed(noisy, steps, lengths)
    return model.head(model.trunk(embedded, tokens, after), embedded)


def loss_on(model: WanDiT, batch: dict[str, Tensor], after: After, reader: perceive.Perceiver | None = None) -> Tensor:
    """Velocity error, what the object touches counted four times, and how unlike the guess looks to a reader."""
    clean, sigma, image = batch["clean"], batch["sigma"], batch["image"]
    noise = torch.randn_like(clean)
    per_frame = sigma[:, None].repeat(1, clean.shape[2])  # (B, T)
    per_frame[:, 0] = torch.where(image, 0.0, sigma)
    level = per_frame[:, None, :, None, None]
    noisy = (1 - level) * clean + level * noise
    steps = torch.stack([per_frame[:, 0], per_frame[:, 1]], dim=1) * 1000
    with shortened(clean.device):
        out = velocity(model, noisy, steps, model.tokens(batch["text"], bias=batch["bias"]), after)
    error = (out.float() - (noise - clean)).square().mean(1)  # (B, T, h, w)
    weight = 1 + 3 * batch["cover"].float()
    weight[:, 0] *= (~image)[:, None, None]  # nothing to learn where the frame is given
    loss = ((weight * error).sum((1, 2, 3)) / weight.sum((1, 2, 3))).mean()
    if reader is None:
        return loss
    unlike = perceive.unlike(reader, noisy - level * out.float(), clean, batch["pose"])  # (B, T)
    unlike[:, 0] *= ~image
    return loss + UNLIKE_WEIGHT * unlike.mean()


def train(minutes: float, device: str = "cpu", seed: int = 0) -> None:
    """Train the transformer of the first model; see :func:`fit`."""
    state = load_state(RUNS / "dit.pt")
    data = Latents(seed, (state["mean"], state["std"]) if state and "mean" in state else None)
    reader = perceive.trained(data.values, data.poses, seed).to(device)
    fit(build(), data, batches, partial(loss_on, reader=reader), minutes, device, seed)


def fit(
    model: WanDiT,
    data: Any,
    batches: Callable[..., Iterator[dict[str, Tensor]]],
    loss_on: Callable[..., Tensor],
    minutes: float,
    device: str,
    seed: int,
) -> None:
    """Train, or go on training, until the time is used up; the state lands in ``runs``.

    Args:
        model: freshly built.
        data: the training set, with ``mean`` and ``std`` of its latents.
        batches: draws batches from (data, reader, random numbers).
        loss_on: the loss of (model, batch, what is done to the tokens after each block).
        minutes: of all sessions together.
        device: where.
        seed: of data and noise.
    """
    state = load_state(RUNS / "dit.pt") or {"step": 0, "spent": 0.0, "curve": []}
    torch.manual_seed(seed + state["step"])
    rng = random.Random(seed + state["step"])
    learner = _Learner(model, data, device, state)
    budget, step, recent = Budget(minutes, state["spent"]), state["step"], torch.ones(3)
    for batch in batches(data, Reader(), rng):
        batch = {k: v.to(device) for k, v in batch.items()}
        loss = loss_on(model, batch, learner.asked.note)
        away, wrong = learner.asked.loss(batch["pose"])
        (loss + PLACE_WEIGHT * away + SKETCH_WEIGHT * wrong).backward()
        norm = learner.descend(learning_rate(1.0, budget.fraction, step, warmup=150))
        step += 1
        recent = 0.98 * recent + 0.02 * torch.stack([loss, away, wrong]).detach().cpu()
        if step % 50 == 0:
            told = "dit %d: %.0f s, loss %.4f, places %.3f, poses %.4f, |g| %.2f"
            log.info(told, step, budget.spent, *recent.tolist(), norm)
            state["curve"].append([step, budget.spent, float(recent[0])])
        if step % 300 == 0 or budget.fraction >= 1:
            state |= {"step": step, "spent": budget.spent, "mean": data.mean, "std": data.std} | learner.state()
            save_state(RUNS / "dit.pt", state)
        if budget.fraction >= 1:
            return


class _Learner:
    """What changes in training: the model, the heads that ask it, their solvers and the average.

    Args:
        model: freshly built.
        data: the training set.
        device: where.
        state: of an earlier session, or of nothing.
    """

    def __init__(self, model: WanDiT, data: Any, device: str, state: dict[str, Any]) -> None:
        if "model" in state:
            model.load_state_dict(state["model"], strict="mean" in state)
        model.to(device).train()
        grid = (data.values.shape[2] + data.behind, 4, 4)
        if device == "cpu":  # before the first call: the tables are shared by all blocks
            rope_tables.tables(model.config["attention_head_dim"], grid, "cpu")
        for block in model.blocks:
            block.compile(dynamic=False)
        self.model, self.asked = model, Questions(model, grid, data.poses.shape[-1]).to(device)
        self.solvers, self.ema = optimizers(model, self.asked), Ema(model, 0.999)
        if "optimizers" in state:
            for solver, saved in zip(self.solvers, state["optimizers"], strict=True):
                solver.load_state_dict(saved)
            self.ema.shadow, self.ema.step = state["ema"], state["step"]
            self.asked.load_state_dict(state["asked"])

    def descend(self, rate: float) -> float:
        """One step at a share of the peak learning rates; the gradient's norm."""
        peaks = (PEAK_MUON, PEAK_ADAM, PEAK_ADAM)
        norm = descend({s: p * rate for s, p in zip(self.solvers, peaks, strict=True)}, 1.0)
        self.ema.update(self.model)
        return norm

    def state(self) -> dict[str, Any]:
        """What a later session goes on from."""
        return {
            "model": self.model.state_dict(), "ema": self.ema.shadow, "asked": self.asked.state_dict(),
            "optimizers": [s.state_dict() for s in self.solvers],
        }  # fmt: skip
