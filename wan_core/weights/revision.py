"""Which weights: a short mark that changes when those in a model's own folder do."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_KINDS = ("*.safetensors", "*.pth")
_ENDS = 2**16  # bytes read at either end of a file: headers, and some of the first and the last tensors


def revision(root: Path) -> str:
    """Mark a checkpoint.

    A downloaded snapshot is its commit. Anything else is told apart by names, sizes and both ends of its
    files, which takes milliseconds where hashing all of it would take minutes.

    Args:
        root: the model's folder.

    Returns:
        Twelve hexadecimal digits.
    """
    if root.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", root.name):
        return root.name[:12]
    mark = hashlib.sha256()
    for path in sorted(p for kind in _KINDS for depth in ("", "*/") for p in root.glob(depth + kind) if p.is_file()):
        size = path.stat().st_size
        mark.update(f"{path.relative_to(root).as_posix()} {size} ".encode())
        with path.open("rb") as file:
            mark.update(file.read(_ENDS))
            file.seek(max(0, size - _ENDS))
            mark.update(file.read(_ENDS))
    return mark.hexdigest()[:12]
