"""LoRAs in every dialect that Wan's come in: looked at by their headers, merged, and taken out again.

A file is read into *deltas*, one per parameter of the model under its diffusers name: a low-rank
product, a difference of a weight or of a bias. Merging adds them up in float32 and rounds once; what
stood there before is kept, so that taking them out restores every bit.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wan_core.errors import CheckpointError
from wan_core.specs import SPECS, ModelSpec
from wan_core.weights import keymap

log = logging.getLogger(__name__)

#: How the parts of one module's change are called, longest first.
_PARTS = {
    ".lora_A.default.weight": "down", ".lora_B.default.weight": "up", ".lora_A.weight": "down",
    ".lora_B.weight": "up", ".lora_down.weight": "down", ".lora_up.weight": "up", ".lora_A": "down", ".lora_B": "up",
    ".alpha": "alpha", ".diff_b": "diff_b", ".lora_B.bias": "diff_b", ".diff": "diff",
}  # fmt: skip
_PREFIXES = ("base_model.model.", "transformer.", "model.diffusion_model.", "diffusion_model.", "model.")
_FLAT = re.compile(r"^lora_unet__?")
#: Other ways to adapt a model, by what their tensors' names contain.
_OTHERS = {
    "dora_scale": "a DoRA", "lora_magnitude_vector": "a DoRA", "hada_": "a LoHa", "lokr_": "a LoKr",
    "oft_": "an OFT", "lora_te": "a LoRA of a text encoder",
}  # fmt: skip
_NAMED = re.compile(r"(.+?\.safetensors)(?::(-?\d+(?:\.\d+)?))?(?:@(high|low))?")
_FEW_STEPS = re.compile(r"(?<!\d)4[-_ ]?steps?(?![-_ ]?\d)|step[-_]?distill")
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Lora:
    """A LoRA to use.

    Attributes:
        path: a ``.safetensors`` file.
        strength: what it is multiplied with; 1 is as trained, negative is away from it.
        expert: 0 for the high-noise expert only, 1 for the low-noise one, None for both.
    """

    path: Path
    strength: float = 1.0
    expert: int | None = None


def listed(text: str) -> tuple[Lora, ...]:
    """LoRAs as a setting names them: "FILE", "FILE:0.8", "FILE@high" or "FILE:0.8@low", with commas between them.

    Raises:
        CheckpointError: a strength is no number, or there is no such expert.
    """
    found = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        named = _NAMED.fullmatch(part)
        if named is None:
            raise CheckpointError(f"{Path(part).name}: say FILE.safetensors, and perhaps :0.8 and @high or @low")
        path, strength, expert = named.groups()
        found.append(Lora(Path(path), float(strength or 1), None if expert is None else int(expert == "low")))
    return tuple(found)


def quickened(spec: ModelSpec, loras: Sequence[Lora]) -> ModelSpec:
    """A model's spec with LoRAs: those for few steps bring the recipe that they were trained for.

    Their tensors look like any other's, so this goes by their names, which all that are published say it in.

    Args:
        spec: of the model without them.
        loras: what is merged into it.
    """
    quick = next((s for s in SPECS.values() if s.like == spec.name and s.recipe.sampler == "euler"), None)
    if quick is None or not any(_FEW_STEPS.search(lora.path.name.lower()) for lora in loras):
        return spec
    log.info("%s makes a video in %d steps now, as one of its LoRAs says", spec.name, quick.recipe.steps)
    fields = ("steps", "shift", "shift_small", "guidance", "guidance_low", "sampler", "levels")
    return replace(spec, recipe=replace(spec.recipe, **{name: getattr(quick.recipe, name) for name in fields}))


@dataclass(frozen=True)
class Sheet:
    """What a LoRA file is, by its header.

    Attributes:
        name: of the file.
        rank: the largest.
        parameters: how many of the model it changes.
        left_out: tensors for parts that this model does not have, which do nothing here.
    """

    name: str
    rank: int
    parameters: int
    left_out: tuple[str, ...] = ()


@dataclass
class _Delta:
    """The parts of one module's change, as names in the file."""

    parts: dict[str, str] = field(default_factory=dict)


class _File:
    """An open LoRA file, sorted by the model's modules.

    Args:
        path: a ``.safetensors`` file.
        shapes: the model's parameters.

    Raises:
        CheckpointError: saying why it cannot be used with this model.
    """

    def __init__(self, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.path, self.shapes = path, shapes
        try:
            self.file = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise self._no("this file is no .safetensors file, damaged or cut short") from error
        self.sizes = {k: tuple(self.file.get_slice(k).get_shape()) for k in self.file.keys()}  # noqa: SIM118
        self.deltas: dict[str, _Delta] = {}
        self.left_out: list[str] = []
        self._sort()
        for module, delta in self.deltas.items():
            self._check(module, delta)

    def _no(self, why: str) -> CheckpointError:
        return CheckpointError(f"{self.path.name}: {why}")

    def _sort(self) -> None:
        modules = {name.rpartition(".")[0] for name in self.shapes}
        flat = {keymap.original(module).replace(".", "_"): module for module in modules}
        unknown = []
        for key in self.sizes:
            if other := next((kind for mark, kind in _OTHERS.items() if mark in key), None):
                raise self._no(f"this is {other}, not a LoRA of the transformer ({key})")
            ending = next((e for e in _PARTS if key.endswith(e)), None)
            if ending is None:
                unknown.append(key)
                continue
            module = _module(key.removesuffix(ending), flat)
            if module in modules:
                self.deltas.setdefault(module, _Delta()).parts[_PARTS[ending]] = key
            elif module.endswith((".add_k_proj", ".add_v_proj", ".norm_added_k")) or "image_embedder" in module:
                self.left_out.append(key)  # made for a model with CLIP; the rest of it fits this one
            else:
                unknown.append(key)
        if not self.deltas:
            raise self._no("there is no LoRA of a Wan transformer in this file")
        if self.left_out:
            log.warning(
                "%s: %d of its tensors are for CLIP, which this model does not have", self.path.name, len(self.left_out)
            )
        if unknown:
            raise self._no(f"{len(unknown)} tensors are for parts that this model does not have: {unknown[0]}")

    def _check(self, module: str, delta: _Delta) -> None:
        parts = {part: self.sizes[key] for part, key in delta.parts.items()}
        weight = self.shapes[f"{module}.weight"]
        if len(half := {"down", "up"} & parts.keys()) == 1:
            raise self._no(f"{module}: one half of its product is missing, there is only {half.pop()}")
        if "down" in parts and "up" in parts:
            rank, out = parts["down"][0], parts["up"][0]
            if rank == 0 or parts["up"][1] != rank:
                raise self._no(f"{module}: ranks {parts['up'][1]} and {rank} of its two halves do not meet")
            if (out, math.prod(parts["down"][1:])) != (weight[0], math.prod(weight[1:])):
                made = f"{math.prod(parts['down'][1:])} to {out}"
                raise self._no(
                    f"it is for a model of another size: {module} is {math.prod(weight[1:])} to {weight[0]} wide "
                    f"here, {made} there"
                )
        if "diff" in parts and math.prod(parts["diff"]) != math.prod(weight):
            raise self._no(f"it is for a model of another size: {module}.diff is {list(parts['diff'])}")
        if "diff_b" in parts and parts["diff_b"] != self.shapes.get(f"{module}.bias"):
            raise self._no(f"{module} has no bias of size {list(parts['diff_b'])}")
        if "alpha" in parts and math.prod(parts["alpha"]) != 1:
            raise self._no(f"{module}: alpha must be one number")
        if set(parts) == {"alpha"}:
            raise self._no(f"{module}: there is an alpha and nothing to multiply")

    @property
    def sheet(self) -> Sheet:
        ranks = [self.sizes[d.parts["down"]][0] for d in self.deltas.values() if "down" in d.parts]
        return Sheet(self.path.name, max(ranks, default=0), len(self.deltas), tuple(self.left_out))

    def changes(self, module: str) -> dict[str, Tensor]:
        """Differences of a module's parameters by name, float32."""
        parts = {part: self._read(key) for part, key in self.deltas[module].parts.items()}
        weight, changes = self.shapes[f"{module}.weight"], {}
        if "down" in parts:
            rank = len(parts["down"])
            scale = float(parts["alpha"]) / rank if "alpha" in parts else 1.0
            changes["weight"] = scale * (parts["up"].flatten(1) @ parts["down"].flatten(1)).view(weight)
        if "diff" in parts:
            changes["weight"] = changes.get("weight", 0) + parts["diff"].view(weight)
        if "diff_b" in parts:
            changes["bias"] = parts["diff_b"]
        return {f"{module}.{name}": change for name, change in changes.items()}

    def _read(self, key: str) -> Tensor:
        tensor = self.file.get_tensor(key)
        if not tensor.is_floating_point() or not torch.isfinite(tensor.float()).all():
            raise self._no(f"{key} holds what is not a finite number")
        return tensor.float()


def _module(name: str, flat: Mapping[str, str]) -> str:
    """The model's module that a name in a LoRA file speaks of, under its diffusers name."""
    if _FLAT.match(name):
        name = _FLAT.sub("", name)
        return flat.get(name, name)
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return keymap.rename(name + ".weight").removesuffix(".weight")


def look(path: Path, model: torch.nn.Module) -> Sheet:
    """Read a LoRA's header and check it against a model, which may stand on the meta device.

    Raises:
        CheckpointError: saying why it cannot be used with this model.
    """
    return _File(path, _shapes(model)).sheet


def _shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def _sum(module: str, files: Sequence[tuple[_File, float]]) -> dict[str, Tensor]:
    """Differences of a module's parameters by name, of all files together, float32."""
    sums: dict[str, Tensor] = {}
    for file, strength in files:
        if module in file.deltas:
            for name, change in file.changes(module).items():
                sums[name] = sums[name] + strength * change if name in sums else strength * change
    return sums


class Merged:
    """LoRAs merged into a model until they are taken out: ``with Merged(model, loras): ...``.

    Args:
        model: in float32, bfloat16 or float16.
        loras: files and strengths; several add up.

    Raises:
        CheckpointError: saying why one cannot be used; the model is then as it was.
    """

    def __init__(self, model: torch.nn.Module, loras: Sequence[tuple[Path, float]]) -> None:
        self._model, self._before = model, {}
        shapes, parameters = _shapes(model), dict(model.named_parameters())
        files = [(_File(path, shapes), strength) for path, strength in loras]
        try:
            # module by module: all differences of a large model at once would be twice its size
            for module in dict.fromkeys(module for file, _ in files for module in file.deltas):
                for name, change in _sum(module, files).items():
                    self._add(name, parameters[name], change)
        except CheckpointError:
            self.remove()
            raise

    def _add(self, name: str, weight: torch.nn.Parameter, change: Tensor) -> None:
        if weight.dtype not in _FLOATS:
            kind = str(weight.dtype).removeprefix("torch.")
            raise CheckpointError(f"{name} is stored as {kind}, which a LoRA cannot be added to; load bf16 weights")
        with torch.no_grad():
            self._before[name] = weight.detach().to("cpu", copy=True)  # the device's memory is for videos
            weight.copy_((weight.float() + change.to(weight.device)).to(weight.dtype))

    def remove(self) -> None:
        """Restore every bit of what stood there before."""
        parameters = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, before in self._before.items():
                parameters[name].copy_(before)
        self._before = {}

    def __enter__(self) -> Merged:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
