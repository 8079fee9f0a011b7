"""The transformer's blocks compiled, one graph for all of them a shape; plain ones where that fails.

Only blocks are compiled: what lies around them is small, and a step cache, placement and progress stay outside
the graphs. Weights are not folded into the code, so LoRAs and offloading work on compiled blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from wan_core.model.dit import WanBlock, WanDiT
from wan_core.ops import Slicing

log = logging.getLogger(__name__)

TEXT_STEP = 64  # prompts are padded to multiples of so many tokens: few lengths, few graphs
SHAPES = 64  # graphs kept of one kind of block; torch gives up after eight


class Compiled:
    """Compiled blocks of a model's experts.

    Args:
        experts: the transformers; their weights may change afterwards, their shapes may not.
        backend: of ``torch.compile``.
    """

    def __init__(self, experts: Sequence[WanDiT], backend: str = "inductor") -> None:
        self.failed = ""
        self._preparing = False
        self._seen: set[object] = set()
        for block in blocks_of(experts):
            block.compile(fullgraph=True, backend=backend)
            compiled = cast("Callable[..., Tensor]", block._compiled_call_impl)
            block._compiled_call_impl = partial(self._call, block, compiled)

    @property
    def told(self) -> str:
        """What a recipe says of it."""
        return "" if self.failed else "compiled"

    def ready(self, device: torch.device, slicing: Slicing) -> None:
        """Nothing that could be known before the first step."""

    def fresh(self, shape: object) -> bool:
        """Whether a shape comes for the first time and must be prepared for."""
        torch._dynamo.config.recompile_limit = SHAPES  # a thread's own setting, so in the thread that works
        return not self.failed and shape not in self._seen

    def prepare(self, shape: object, step: Callable[[], object]) -> None:
        """Compile for a shape by taking a step that does not count; if that fails, blocks stay plain.

        Args:
            shape: what :meth:`fresh` was asked about.
            step: one pass through every expert.
        """
        self._preparing = True
        try:
            with torch.no_grad():  # as the steps that count are taken: the mode is part of what is compiled for
                step()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._fail(error)
        finally:
            self._preparing = False
        self._seen.add(shape)

    def _call(self, block: WanBlock, compiled: Callable[..., Tensor], *given: Any) -> Tensor:
        """A block's answer; a graph that nobody prepared for may be made in the middle of a video, and fail."""
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        if not self.failed:
            try:
                return compiled(*given)
            except (TorchDynamoException, FailOnRecompileLimitHit) as error:
                if self._preparing:  # the rest of a step that does not count would be for nothing
                    raise
                self._fail(error)
        return plain(block, given)

    def _fail(self, error: Exception) -> None:
        self.failed = type(error).__name__
        log.warning("blocks cannot be compiled here and run as they are: %s", error)


def blocks_of(experts: Sequence[WanDiT]) -> list[WanBlock]:
    """What is compiled of the transformers."""
    return [module for expert in experts for module in expert.modules() if isinstance(module, WanBlock)]


def plain(block: WanBlock, given: tuple[Any, ...]) -> Tensor:
    """What the block's own code makes of a call."""
    return cast("Tensor", block._call_impl(*given))
