"""What costs much to compute and is often asked for again, kept on disk by what it was computed from.

Embedded prompts and heard voices: the same voice track drives many takes, and its encoder is the
slowest part of a short one.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

log = logging.getLogger(__name__)

LIMIT = 2 * 1024**3  # bytes
FORMAT = "1"  # counts up when the same sources would give other numbers
_marks: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()

Source = str | float | np.ndarray | nn.Module


class Memo:
    """A folder of tensors, each named by a digest of its sources.

    Args:
        folder: where they are kept; None keeps nothing.
        limit: bytes in all; the longest unused go first.
    """

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self.folder, self.limit = folder, limit

    def recall(self, compute: Callable[[], Tensor], *sources: Source) -> Tensor:
        """A tensor, from the disk if it was computed before.

        Args:
            compute: makes it.
            sources: everything that it depends on; a module stands for its weights.

        Returns:
            The tensor, on the CPU when it comes from the disk.
        """
        if self.folder is None:
            return compute()
        path = self.folder / f"{digest(*sources)}.safetensors"
        known = _read(path)
        if known is not None:
            return known
        fresh = compute()
        self._keep(path, fresh)
        return fresh

    def _keep(self, path: Path, tensor: Tensor) -> None:
        """Write by rename. What cannot be kept is only computed again."""
        partial = path.with_suffix(f".{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"value": tensor.detach().cpu().contiguous()}, partial)
            partial.replace(path)
            self._sweep()
        except (OSError, SafetensorError) as error:
            log.warning("the cache cannot be written: %s", type(error).__name__)
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def _sweep(self) -> None:
        assert self.folder is not None
        files = sorted((p.stat().st_mtime, p.stat().st_size, p) for p in self.folder.glob("*.safetensors"))
        excess = sum(size for _, size, _ in files) - self.limit
        for _, size, path in files:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size


def _read(path: Path) -> Tensor | None:
    """A kept tensor; None if there is none, or it is damaged and must be computed again."""
    if not path.exists():
        return None
    try:
        value = load_file(path)["value"]
        os.utime(path)
    except (OSError, SafetensorError, KeyError) as error:
        log.warning("a cached file is damaged and is made again: %s", type(error).__name__)
        return None
    return value


def digest(*sources: Source) -> str:
    """A name for a computation by everything that goes into it."""
    total = hashlib.blake2b(FORMAT.encode(), digest_size=20)
    for source in sources:
        match source:
            case np.ndarray():
                part = f"{source.dtype}{source.shape}".encode() + np.ascontiguousarray(source).tobytes()
            case nn.Module():
                part = _mark(source).encode()
            case _:
                part = repr(source).encode()
        total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()


def _mark(module: nn.Module) -> str:
    """A module's weights in short: names, shapes, types, and a few numbers of each."""
    if module not in _marks:
        total = hashlib.blake2b(digest_size=20)
        for name, p in module.named_parameters():
            some = p.detach().flatten()[:: max(1, p.numel() // 8)].float().cpu().numpy()
            total.update(f"{name}{tuple(p.shape)}{p.dtype}".encode() + some.tobytes())
        _marks[module] = total.hexdigest()
    return _marks[module]
