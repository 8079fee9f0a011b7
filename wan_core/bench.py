"""How fast this core is beside diffusers: ``python -m wan_core.bench [CASE ...] [--compile] [--csv FILE]``.

Both compute the same on the same random weights in one type (bfloat16, or float32 on a CPU that emulates it), in
turn in one process, and medians are compared: times alone say more about a machine and its hour than about a
program. Peak memory is measured in runs of their own, since asking for it costs time. ``floor`` is what the bare
matrix products and attention take.

Cases: dit-1280 and dit-5120 (two blocks of the 1.3B model, so many tokens), vae (the full-size 2.1 decoder,
17 frames of 256x256), vae-tiny (the built-in model's, 33 frames of 128x128), clip (the built-in model, from a
prompt to an mp4), image (its image mode beside its text mode), fast (tiers that leave steps out, at 50 steps).
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from torch import Tensor, nn

from wan_core import BUILT_IN, chart, load
from wan_core.model.codec import Codec
from wan_core.model.dit import Context, WanDiT
from wan_core.plan import forward_flops
from wan_core.precision import native

WIDTH: dict[str, Any] = {
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "ffn_dim": 8960,
    "num_layers": 2,
}  # of 1.3B
TEXT = 512
PROMPT = "a small red star bouncing on green grass"
MANY = 50  # steps that tiers which leave some out are measured at
Work = Callable[[], object]


@dataclass
class Case:
    """Some ways to compute the same thing.

    Attributes:
        ways: by name; the first is ours.
        against: the way whose time the others are divided by.
        flops: of one run, or 0.
        note: what else was found.
        seconds: of every run, by way.
        peaks: bytes, by way.
        kept: what must last as long as the case.
    """

    ways: Mapping[str, Work]
    against: str
    flops: float = 0.0
    note: str = ""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    kept: Any = None

    def run(self, rounds: int) -> None:
        """Time all ways in turn, after one run of each that does not count."""
        for work in self.ways.values():
            work()
        synchronise()
        self.seconds = {name: [] for name in self.ways}
        for number in range(rounds):
            for name in list(self.ways)[:: 1 if number % 2 else -1]:
                begin = time.perf_counter()
                self.ways[name]()
                synchronise()
                self.seconds[name].append(time.perf_counter() - begin)
        self.peaks = {name: peak(work) for name, work in self.ways.items()}

    def rows(self) -> list[dict[str, Any]]:
        """One per way: median seconds, ratio, memory, and how much it computes a second."""
        middle = {name: statistics.median(times) for name, times in self.seconds.items()}
        return [
            {
                "way": name, "seconds": round(middle[name], 4), "ratio": round(middle[name] / middle[self.against], 3),
                "peak_mb": round(self.peaks[name] / 1e6), "gflops": round(self.flops / middle[name] / 1e9),
            }
            for name in self.ways
        ]  # fmt: skip


def device() -> torch.device:
    """Where to measure."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronise() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak(work: Work) -> float:
    """Bytes that some work takes at most, beside what stood before."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # pages that an allocator keeps for later would hide what a run takes
        libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest mark
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


# --- the transformer ----------------------------------------------------------------------------


@torch.no_grad()
def transformer(side: int, dtype: torch.dtype, compiled: bool) -> Case:
    """Two blocks at the 1.3B width, 5 latent frames of side x side."""
    torch.manual_seed(0)
    theirs = WanTransformer3DModel(**WIDTH).eval()
    for p in theirs.parameters():
        if p.ndim == 1:
            nn.init.normal_(p, 1.0, 0.1)
    ours = WanDiT(**WIDTH).eval()
    ours.load_state_dict(theirs.state_dict())
    theirs, ours = (_typed(model, dtype) for model in (theirs, ours))
    latents = torch.randn(1, 16, 5, side, side, device=device(), dtype=dtype)
    text = torch.randn(1, TEXT, 4096, device=device(), dtype=dtype)
    step = torch.tensor([500.0], device=device())
    tokens = 5 * (side // 2) ** 2
    told, given = ours.context(text), (latents, step)
    ways: dict[str, Work] = {
        "ours": partial(_step, ours, told, *given),
        "diffusers": partial(_pass, theirs, text, *given),
    }
    if compiled:
        fast, peer = (_typed(type(model)(**WIDTH).eval(), dtype) for model in (ours, theirs))
        for new, old in ((fast, ours), (peer, theirs)):
            new.load_state_dict(old.state_dict())
            new.compile_repeated_blocks(fullgraph=True)
        ways |= {
            "ours compiled": partial(_step, fast, told, *given),
            "diffusers compiled": partial(_pass, peer, text, *given),
        }
    ways["floor"] = _floor(tokens, dtype)
    a, b = _step(ours, told, *given), _pass(theirs, text, *given)
    apart = float((a - b).float().norm() / b.float().norm())
    return Case(ways, "diffusers", forward_flops(WIDTH, tokens), f"differs from diffusers by {apart:.1e}")


def _typed(model: Any, dtype: torch.dtype) -> Any:
    """In one type, but for what stays float32 in either."""
    model.to(device())
    for name, p in model.named_parameters():
        if not any(part in name.split(".") for part in WanDiT._keep_in_fp32_modules):
            p.data = p.data.to(dtype)
    return model


@torch.no_grad()
def _step(model: WanDiT, context: Context, latents: Tensor, step: Tensor) -> Tensor:
    """A step as the pipeline takes it: keys and values of the text were computed before the first one."""
    embedded = model.embed(latents, step[:, None], (latents[0, 0].numel() // 4,))
    return model.head(model.trunk(embedded, context), embedded)


@torch.no_grad()
def _pass(model: Any, text: Tensor, latents: Tensor, step: Tensor) -> Tensor:
    return model(latents, step, text, return_dict=False)[0]


def _floor(tokens: int, dtype: torch.dtype) -> Work:
    """The matrix products and attention of a step, with nothing around them."""
    dim, hidden = 1536, WIDTH["ffn_dim"]
    where = {"device": device(), "dtype": dtype}
    square, up, down = (nn.Linear(a, b, **where) for a, b in ((dim, dim), (dim, hidden), (hidden, dim)))
    x, heads, told = (
        torch.randn(shape, **where) for shape in ((1, tokens, dim), (1, 12, tokens, 128), (1, 12, TEXT, 128))
    )

    @torch.no_grad()
    def work() -> None:
        for _ in range(WIDTH["num_layers"]):
            for _ in range(6):  # self q, k, v, o; cross q, o
                square(x)
            F.scaled_dot_product_attention(heads, heads, heads)
            F.scaled_dot_product_attention(heads, told, told)
            down(up(x))

    return work


# --- the VAE ------------------------------------------------------------------------------------


@torch.no_grad()
def vae(full: bool, dtype: torch.dtype) -> Case:
    """Decoding a clip."""
    torch.manual_seed(0)
    frames, side = (5, 32) if full else (9, 8)

    theirs: Any
    mine: Any
    theirs, mine = (AutoencoderKLWan() if full else _own_vae() for _ in range(2))
    mine.load_state_dict(theirs.state_dict())
    codec = Codec(mine.to(device()), dtype)
    theirs.to(device(), dtype).eval()
    z = torch.randn(1, theirs.config["z_dim"], frames, side, side, device=device())
    raw = (z * codec.std.to(z) + codec.mean.to(z)).to(dtype)

    @torch.no_grad()
    def ours() -> list[Tensor]:
        kept = []
        for some in codec.stream(z):
            kept.append(((some + 1) * 127.5).round().byte())  # as they are handed to the encoder
        return kept

    @torch.no_grad()
    def peer() -> Tensor:
        return ((theirs.decode(raw, return_dict=False)[0].float() + 1) * 127.5).round().byte()

    apart = (torch.cat(ours(), 2).float() - peer().float()).abs().mean()
    return Case({"ours": ours, "diffusers": peer}, "diffusers", note=f"pixels differ by {apart:.2f} of 255 on average")


def _own_vae() -> Any:
    return AutoencoderKLWan.from_pretrained(BUILT_IN / "vae")


# --- the built-in model from end to end -----------------------------------------------------------


def clip(dtype: torch.dtype) -> Case:
    """From a prompt to an mp4."""
    mine, kept = load(BUILT_IN, dtype=dtype), tempfile.TemporaryDirectory()  # which goes when the case does
    folder = Path(kept.name)
    recipe = mine.spec.recipe
    theirs: Any = WanPipeline.from_pretrained(BUILT_IN, torch_dtype=dtype).to(device())
    scheduler = UniPCMultistepScheduler.from_config(theirs.scheduler.config, flow_shift=recipe.shift)
    theirs.scheduler = scheduler
    theirs.set_progress_bar_config(disable=True)

    def ours() -> None:
        mine(prompt=PROMPT, seed=1).save(folder / "ours.mp4")

    def peer() -> None:
        frames = theirs(
            PROMPT, negative_prompt="", width=recipe.size[0], height=recipe.size[1], num_frames=recipe.frames,
            num_inference_steps=recipe.steps, guidance_scale=recipe.guidance,
            generator=torch.Generator().manual_seed(1),
        ).frames[0]  # fmt: skip
        _export(frames, folder / "theirs.mp4", recipe.fps)

    return Case({"ours": ours, "diffusers": peer}, "diffusers", kept=kept)


def _export(frames: np.ndarray, path: Path, fps: int) -> None:
    """As diffusers' ``export_to_video`` does it through imageio, which need not be here. frames: in 0..1."""
    import imageio_ffmpeg

    height, width = frames.shape[1:3]
    writer: Any = imageio_ffmpeg.write_frames(str(path), (width, height), fps=fps, quality=5)
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame * 255, dtype=np.uint8).tobytes())
    writer.close()


def image(dtype: torch.dtype) -> Case:
    """Image mode beside text mode."""
    pipe = load(BUILT_IN, dtype=dtype)
    width, height = pipe.spec.recipe.size
    first = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    ways = {"image": partial(pipe, prompt=PROMPT, seed=1, image=first), "text": partial(pipe, prompt=PROMPT, seed=1)}
    return Case(ways, "text")


def fast(dtype: torch.dtype) -> Case:
    """The tiers that leave steps out beside "exact"."""
    pipe = load(BUILT_IN, dtype=dtype)
    tiers = ("fast", "scheduled", "exact")
    ways = {tier: partial(pipe, prompt=PROMPT, seed=1, num_inference_steps=MANY, tier=tier) for tier in tiers}
    *some, exact = (way().frames.astype(np.float64) for way in ways.values())
    noise = [10 * np.log10(255**2 / np.square(frames - exact).mean()) for frames in some]
    return Case(ways, "exact", note=", ".join(f"{tier} {n:.1f} dB" for tier, n in zip(tiers, noise, strict=False)))


CASES: dict[str, Callable[[torch.dtype, bool], Case]] = {
    "dit-1280": partial(transformer, 32),
    "dit-5120": partial(transformer, 64),
    "vae": lambda dtype, _: vae(True, dtype),
    "vae-tiny": lambda dtype, _: vae(False, dtype),
    "clip": lambda dtype, _: clip(dtype),
    "image": lambda dtype, _: image(dtype),
    "fast": lambda dtype, _: fast(dtype),
}
TYPES = ("bfloat16", "float32")


def where(dtype: torch.dtype) -> dict[str, str]:
    """The machine, the type, the libraries and the commit, for a row of figures."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "machine": f"{name}, {torch.get_num_threads()} threads", "type": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__, "commit": found.stdout.strip() or "unknown",
        "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def main() -> None:
    """Measure what is asked for, print it, and append it to a file."""
    parser = argparse.ArgumentParser(prog="python -m wan_core.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES), default=[])
    parser.add_argument("--rounds", type=int, default=7, help="of each way, in turn; medians are printed")
    parser.add_argument("--compile", action="store_true", help="also compiled, ours and diffusers'")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="append the figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what --csv holds, as SVG")
    parser.add_argument("--dtype", choices=TYPES, help="default: what the device has units for")
    args = parser.parse_args()
    if odd := set(args.cases) - CASES.keys():
        parser.error(f"no case is called {', '.join(sorted(odd))}; there are {', '.join(CASES)}")
    if args.plot and not args.csv:
        parser.error("--plot draws what --csv holds: give both")
    dtype = getattr(torch, args.dtype) if args.dtype else native(device())
    facts = where(dtype)
    sys.stdout.write(", ".join(facts.values()) + "\n")
    for name in args.cases or CASES:
        case = CASES[name](dtype, args.compile)
        case.run(args.rounds)
        sys.stdout.write(f"{name}  {case.note}\n")
        rows = case.rows()
        for row in rows:
            speed = f"  {row['gflops']:6} GFLOP/s" if row["gflops"] else ""
            sys.stdout.write(
                f"  {row['way']:20} {row['seconds']:8.3f} s  {row['ratio']:6.3f}  {row['peak_mb']:6} MB{speed}\n"
            )
        sys.stdout.flush()
        if args.csv:
            append(args.csv, [{"case": name} | row | facts for row in rows])
    if args.plot:
        args.plot.write_text(chart.draw(chart.read(args.csv)), encoding="utf-8")


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add figures to a table."""
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if fresh:
            writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
