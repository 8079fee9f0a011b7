"""The transformer's blocks compiled ahead of time: one artifact for all blocks of a model and all sizes.

Compiling at the first video is of no use where every call is a new process, as on ZeroGPU; an artifact is loaded in a
moment. A block is exported with its weights as arguments, so that LoRAs, offloading and a second expert take the same
artifact, and for any number of tokens. ``python -m wan_core.artifact MODEL --out DIR`` makes them on a machine of the
kind that they are for; ``WAN_COMPILE=DIR`` or ``--artifacts DIR`` takes them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from wan_core.compile import blocks_of, plain
from wan_core.errors import CheckpointError, WanError
from wan_core.model.dit import WanBlock, WanDiT
from wan_core.model.layers import KeyValue, Tokens
from wan_core.ops import Slicing, attended_by
from wan_core.specs import ARTIFACTS, ATTENTION, ModelSpec
from wan_core.types import Request

log = logging.getLogger(__name__)

MOST = 2**20  # tokens; without a bound indices would be as wide as the example needs, and silently overflow
#: Of the host's part of a GPU's artifact: machines with that GPU have all kinds of CPUs.
ANY_CPU = {"cpp.march": ""}
Runner = Callable[[list[Tensor], list[Tensor]], Tensor]


class Given(NamedTuple):
    """A block's arguments, those of :meth:`WanBlock.forward`."""

    x: Tensor
    context: tuple[KeyValue, ...] | Tokens
    table: Tensor
    lengths: tuple[int, ...]
    rope: tuple[Tensor, Tensor]
    slicing: Slicing
    heard: KeyValue | None = None


class Input(NamedTuple):
    """A tensor that goes into an artifact, and its axis whose length is left open, if there is one."""

    tensor: Tensor
    open: int | None = None

    @property
    def told(self) -> str:
        """What an artifact is made for: type and lengths. An open one of 1 is another case to the compiler."""
        sizes = ["n" if axis == self.open and n > 1 else str(n) for axis, n in enumerate(self.tensor.shape)]
        return f"{self.tensor.dtype} {'x'.join(sizes)}".removeprefix("torch.")


def inputs(given: Given) -> list[Input]:
    """A block's arguments as tensors in a row; segments' lengths as lengths of empty tensors."""
    assert not isinstance(given.context, Tokens)
    found = [Input(given.x, 1)]
    for key, value, bias in given.context:
        found += [Input(key, 1), Input(value, 1)]
        found += [] if bias is None else [Input(bias, 3)]
    found += [Input(given.table), *(Input(part, 0) for part in given.rope)]
    found += [Input(given.x.new_empty(count, 0), 0) for count in given.lengths]
    if given.heard is not None:
        found += [Input(given.heard.key, 0), Input(given.heard.value, 0)]
    return [Input(tensor.contiguous(), axis) for tensor, axis in found]


def build_of(block: WanBlock) -> str:
    """What a block is made of, in a word: artifacts go by it, so one serves every model of a size."""
    layers = "".join(f"{name} {p.dtype} {tuple(p.shape)};" for name, p in block.named_parameters())
    return f"{type(block).__name__} {hashlib.sha256(f'{layers} {block.eps}'.encode()).hexdigest()[:12]}"


def kind(build: str, given: Given) -> str | None:
    """What an artifact must have been made for to stand in for a call; None where none ever does.

    Args:
        build: of the block, see :func:`build_of`.
        given: its arguments.
    """
    if isinstance(given.context, Tokens) or given.slicing != Slicing():
        return None
    if given.heard is not None and given.heard.bias is not None:
        return None
    biased = "".join("-" if pair.bias is None else "b" for pair in given.context)
    ending = "" if given.heard is None else " heard"
    told = ", ".join(found.told for found in inputs(given))
    return f"{build}: {len(given.lengths)} segments, context {biased}{ending}: {told}"


def machine(device: torch.device) -> dict[str, str]:
    """What an artifact is bound to: torch's release, the kind of device, and whose attention is taken."""
    release = ".".join(torch.__version__.split(".")[:2])
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return {"torch": release, "device": f"cuda sm_{major}{minor}", "attention": attended_by(device)}
    return {"torch": release, "device": f"{device.type} {_cpu()}", "attention": attended_by(device)}


def _cpu(source: Path = Path("/proc/cpuinfo")) -> str:
    """A CPU's kind, and a mark of all that it can do: compiled code may use any of it."""
    lines = source.read_text().splitlines() if source.exists() else [platform.processor()]
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), lines[0])
    mark = hashlib.sha256(" ".join(sorted(flags.split())).encode()).hexdigest()[:8]
    return f"{torch.backends.cpu.get_cpu_capability()} {mark}"


class _Lent(nn.Module):
    """A block as a function of its weights and of tensors in a row."""

    def __init__(self, block: WanBlock, given: Given) -> None:
        super().__init__()
        self._block = (block,)  # out of sight: its weights are arguments here
        self._given = given
        self._names = [name for name, _ in block.named_parameters()]

    def forward(self, weights: list[Tensor], row: list[Tensor]) -> Tensor:
        """See :func:`inputs` for the row."""
        left = iter(row)
        assert not isinstance(self._given.context, Tokens)
        x = next(left)
        pairs = tuple(
            KeyValue(next(left), next(left), None if pair.bias is None else next(left)) for pair in self._given.context
        )
        table, rope = next(left), (next(left), next(left))
        lengths = tuple(next(left).shape[0] for _ in self._given.lengths)
        heard = None if self._given.heard is None else KeyValue(next(left), next(left))
        given = Given(x, pairs, table, lengths, rope, Slicing(), heard)
        return torch.func.functional_call(self._block[0], dict(zip(self._names, weights, strict=True)), tuple(given))


def export(block: WanBlock, given: Given) -> torch.export.ExportedProgram:
    """A block's graph for any number of tokens, with its weights as arguments."""
    row = inputs(given)
    device = given.x.device
    weights = [torch.empty_like(p, device=device) for p in block.parameters()]  # they may be waiting elsewhere
    some = torch.export.Dim.DYNAMIC(max=MOST)  # pyright: ignore[reportCallIssue] - it can be called
    axes = [{} if axis is None or t.shape[axis] < 2 else {axis: some} for t, axis in row]
    with torch.no_grad():
        return torch.export.export(
            _Lent(block, given), (weights, [t for t, _ in row]), dynamic_shapes=([None] * len(weights), axes)
        )


def calls(experts: Sequence[WanDiT], run: Callable[[], object]) -> dict[str, tuple[WanBlock, Given]]:
    """The calls that blocks see while something runs: the first one of every kind, and whose it was."""
    seen: dict[str, tuple[WanBlock, Given]] = {}

    def look(block: WanBlock, *given: Any) -> Tensor:
        call = Given(*given)
        if (found := kind(build_of(block), call)) is not None:
            seen.setdefault(found, (block, call))
        return plain(block, given)

    _stand_in(experts, look)
    try:
        run()
    finally:
        _stand_in(experts, None)
    return seen


def build(experts: Sequence[WanDiT], run: Callable[[], object], folder: Path, device: torch.device) -> list[str]:
    """Make artifacts for every kind of call that blocks see, and write them to a folder.

    Args:
        experts: the transformers.
        run: makes what is to be seen; one step of a request of each mode is enough.
        folder: where to; what is in it for the same kind of machine, perhaps for other models, stays.
        device: that the experts compute on.

    Returns:
        The kinds.

    Raises:
        CheckpointError: there is something else in the folder.
    """
    seen = calls(experts, run)
    folder.mkdir(parents=True, exist_ok=True)
    about = _contents(folder) if (folder / ARTIFACTS).exists() else {}
    files = about["files"] if about.get("machine") == machine(device) else {}
    for found, (block, call) in seen.items():
        name = f"{hashlib.sha256(found.encode()).hexdigest()[:16]}.pt2"
        log.info("compiling %s", found)
        torch._inductor.aoti_compile_and_package(
            export(block, call), package_path=str(folder / name),
            inductor_configs=ANY_CPU if device.type == "cuda" else {},
        )  # fmt: skip
        files[found] = name  # told one by one: what is done is kept if the next one fails
        text = json.dumps({"machine": machine(device), "files": files}, indent=2)
        (folder / ARTIFACTS).write_text(text + "\n", encoding="utf-8")
    return list(seen)


class Artifacts:
    """Blocks that run as artifacts where there is one for a call, and as they are where there is none.

    Args:
        experts: the transformers.
        folder: what :func:`build` wrote.

    Raises:
        CheckpointError: there are no artifacts in it.
    """

    def __init__(self, experts: Sequence[WanDiT], folder: Path) -> None:
        self.failed = ""
        self._folder, self._made = folder, _contents(folder)
        self._runners: dict[str, Runner] | None = None
        self._missed: set[str | None] = set()
        self._sliced = False
        self._builds = {block: build_of(block) for block in blocks_of(experts)}
        _stand_in(experts, self._call)

    @property
    def told(self) -> str:
        """What a recipe says of it."""
        if self._runners is None or self._sliced:  # before the device is there nothing is known
            return ""
        return "compiled ahead in part" if self._missed else "compiled ahead"

    def ready(self, device: torch.device, slicing: Slicing) -> None:
        """Load the artifacts, if they are for this device: where it is lent, it was not there before.

        Args:
            device: that blocks compute on.
            slicing: of the request that comes; sliced blocks run as they are.
        """
        if slicing != Slicing() and not self._sliced:
            log.info("memory is short: blocks run in slices, and as they are")
        self._sliced = slicing != Slicing()
        if self._runners is not None or self.failed:
            return
        asked, here = self._made["machine"], machine(device)
        builds = set(self._builds.values())
        files = {found: name for found, name in self._made["files"].items() if found.partition(":")[0] in builds}
        if asked != here:
            self._fail(f"they are for {_words(asked)}, and this is {_words(here)}")
        elif not files:
            self._fail("they are for other models' blocks")
        else:
            self._load(files, -1 if device.index is None else device.index)

    def _load(self, files: Mapping[str, str], index: int) -> None:
        try:
            load = torch._inductor.aoti_load_package
            self._runners = {k: load(str(self._folder / name), device_index=index) for k, name in files.items()}
        except (RuntimeError, OSError, ValueError) as error:
            self._fail(re.sub(r"\S*/", "", str(error).partition("\n")[0]))

    def fresh(self, shape: object) -> bool:  # noqa: ARG002 - as of blocks that are compiled when they run
        """Whether a shape must be prepared for: never."""
        return False

    def prepare(self, shape: object, step: Callable[[], object]) -> None:
        """Nothing to do."""

    def _fail(self, why: str) -> None:
        self.failed = why
        log.warning("artifacts in %s are not taken, blocks run as they are: %s", self._folder.name, why)

    def _call(self, block: WanBlock, *given: Any) -> Tensor:
        hooked = block._forward_pre_hooks or block._forward_hooks
        if self._runners is None or self._sliced or torch.is_grad_enabled() or hooked:
            return plain(block, given)
        call = Given(*given)
        found = kind(self._builds[block], call)
        runner = None if found is None else self._runners.get(found)
        if runner is None:
            if found not in self._missed:
                self._missed.add(found)
                log.warning("no artifact was made for this call, and the block runs as it is: %s", found)
            return plain(block, given)
        return runner(list(block.parameters()), [t for t, _ in inputs(call)])


def _stand_in(experts: Sequence[WanDiT], call: Callable[..., Tensor] | None) -> None:
    """Let something stand in for all blocks' own code, or nothing."""
    for block in blocks_of(experts):
        block._compiled_call_impl = None if call is None else partial(call, block)


def _contents(folder: Path) -> Mapping[str, Any]:
    try:
        about = json.loads((folder / ARTIFACTS).read_text(encoding="utf-8"))
        if about["machine"].keys() == {"torch", "device", "attention"} and about["files"]:
            return {"machine": dict(about["machine"]), "files": {str(k): str(v) for k, v in about["files"].items()}}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{folder.name}: no artifacts here; python -m wan_core.artifact makes them") from error
    raise CheckpointError(f"{folder.name}: {ARTIFACTS} is not what python -m wan_core.artifact writes")


def _words(of: Mapping[str, str]) -> str:
    by = f", attention by {of['attention']}" if of["attention"] else ""
    return f"torch {of['torch']} on {of['device']}{by}"


def examples(spec: ModelSpec) -> list[Request]:
    """Requests in which blocks see every kind of call that a model makes, one step each."""
    gray, quiet = np.full((64, 64, 3), 128, np.uint8), (16_000, np.zeros(16_000, np.float32))
    modes: list[dict[str, Any]] = [{}] if "text" in spec.modes else []
    if "image" in spec.modes:
        modes.append({"image": gray})
    if "reference" in spec.modes:
        sound = {"audio": quiet} if "sound" in spec.modes else {}
        modes.append(sound | {"reference_images": (gray,) * max(1, spec.references[0])})
    usual = {"prompt": "a ball", "num_inference_steps": 1, "seed": 0}
    # without guidance small models take one branch at a time, with it all of them at once
    return [Request(**usual, **mode, guidance_scale=scale) for mode in modes for scale in (None, 1.0)]


def main(argv: list[str] | None = None) -> int:
    """Make a model's artifacts; 0 when they stand, 1 for an error that is the user's to mend."""
    parser = argparse.ArgumentParser(prog="python -m wan_core.artifact", description="Compile a model's blocks.")
    parser.add_argument("model", help="a folder, a repository or files, as for python -m wan_core")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument("--device", help="default: a CUDA device if there is one")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), help="as WAN_DTYPE will be")
    parser.add_argument("--attention", default="", choices=ATTENTION, help="as WAN_ATTENTION will be")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from wan_core.assembly import attend, load

    try:
        attend(options.attention)
        pipe = load(options.model, options.device, getattr(torch, options.dtype) if options.dtype else None)
        if pipe.parts.storage:
            raise CheckpointError(f"weights kept as {pipe.parts.storage} are cast as they are used, and not compiled")

        def run() -> None:
            for request in examples(pipe.spec):
                pipe.latents(request)

        made = build(pipe.parts.experts, run, options.out, pipe.device)
    except WanError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    log.info("%d artifacts in %s", len(made), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
