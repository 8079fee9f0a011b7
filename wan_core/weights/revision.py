"""Which weights: a short mark that changes when those in a model's own folder do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wan_core.errors import CheckpointError
from wan_core.weights.places import Root

if TYPE_CHECKING:
    from wan_core.weights.lora import Lora

_KINDS = ("*.safetensors", "*.pth")
_ENDS = 2**16  # bytes read at either end of a file: headers, and some of the first and the last tensors


def with_loras(base: str, loras: Sequence[Lora]) -> str:
    """The mark of weights that LoRAs are merged into; without any, that of the weights.

    Raises:
        CheckpointError: one cannot be read.
    """
    mark = hashlib.sha256(base.encode())
    for lora in loras:
        try:
            mark.update(f"{lora.strength} {lora.expert} ".encode() + lora.path.read_bytes())
        except OSError as error:
            raise CheckpointError(f"{lora.path.name}: this LoRA cannot be read") from error
    return mark.hexdigest()[:12] if loras else base


def revision(root: Root) -> str:
    """Mark a checkpoint.

    A downloaded snapshot is its commit. Anything else is told apart by names, sizes and both ends of its
    files, which takes milliseconds where hashing all of it would take minutes.

    Args:
        root: the model's folder or files.

    Returns:
        Twelve hexadecimal digits.
    """
    folder = root.folder
    if folder.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", folder.name):
        return folder.name[:12]
    inside = (p for kind in _KINDS for depth in ("", "*/") for p in folder.glob(depth + kind) if p.is_file())
    mark = hashlib.sha256()
    for path in root.files or sorted(inside):
        size = path.stat().st_size
        place = path.name if root.files else path.relative_to(folder).as_posix()
        mark.update(f"{place} {size} ".encode())
        with path.open("rb") as file:
            mark.update(file.read(_ENDS))
            file.seek(max(0, size - _ENDS))
            mark.update(file.read(_ENDS))
    return mark.hexdigest()[:12]
