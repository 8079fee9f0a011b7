"""How a full-size 1.3B loads, beside diffusers' own loader: ``python -m tests.loading [FOLDER]``.

Writes random bfloat16 weights in shards of 1 GB, once, then loads them in turn by either, every time in a
process of its own, and prints seconds, peak memory over the weights' size, and the ratios.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30}
ROUNDS = 7


def write(folder: Path) -> None:
    """Write the model."""
    import torch
    from diffusers import WanTransformer3DModel

    torch.set_default_dtype(torch.bfloat16)
    WanTransformer3DModel(**CONFIG).save_pretrained(folder, max_shard_size="1GB")


def peak() -> int:
    """The most memory that this process had at once, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def once(who: str, folder: Path) -> None:
    """Load, and print seconds and peak over the size in bfloat16 as JSON."""
    import torch
    from diffusers import WanTransformer3DModel

    from wan_core.weights import load

    before, begin = peak(), time.perf_counter()
    if who == "ours":
        model: torch.nn.Module = load.transformer(folder, torch.bfloat16)
    else:
        model = WanTransformer3DModel.from_pretrained(folder, torch_dtype=torch.bfloat16)
    seconds = time.perf_counter() - begin
    for parameter in model.parameters():  # a file that is only mapped is not in memory yet
        parameter.detach().view(-1)[:: 2048 // parameter.itemsize].sum()
    print(json.dumps([seconds, (peak() - before) / (2 * sum(p.numel() for p in model.parameters()))]))


def main(folder: Path) -> None:
    """Write if there is nothing yet, load in turn, print the ratios."""
    if not (folder / "config.json").exists():
        subprocess.run([sys.executable, "-m", "tests.loading", "write", str(folder)], check=True)
    seen: dict[str, list[list[float]]] = {"ours": [], "diffusers": []}
    for number in range(ROUNDS):
        for who in sorted(seen, reverse=bool(number % 2)):
            command = [sys.executable, "-m", "tests.loading", who, str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seen[who].append(json.loads(done.stdout.splitlines()[-1]))
    for who, runs in seen.items():
        seconds, peaks = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"{who:9}  {seconds:.2f} s  peak {peaks:.2f} of the size in bfloat16  (medians of {ROUNDS})")
    ours, theirs = (statistics.median(run[0] for run in seen[who]) for who in ("ours", "diffusers"))
    print(f"time, ours by diffusers': {ours / theirs:.2f}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", where]:
            write(Path(where))
        case ["ours" | "diffusers" as who, where]:
            once(who, Path(where))
        case [where]:
            main(Path(where))
        case _:
            with tempfile.TemporaryDirectory() as own:
                main(Path(own))
