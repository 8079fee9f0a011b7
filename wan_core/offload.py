"""Weights on their way: blocks through a few slots on the device, encoders that come for a visit.

A block's weights are one piece of host memory, so that a copy is one call, and the copy of the next
block runs while this one computes. On a device that is the host itself, copies are just copies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from mmap import PAGESIZE
from typing import Any

import torch
from torch import Tensor, nn

from wan_core.memory import free

log = logging.getLogger(__name__)

FEWEST = 2  # slots: one block computes while the next one comes
ALIGNED = 256  # bytes: where a tensor may begin
Moment = Any  # an event on the device's streams, or None for now


class Bus:
    """Copies blocks to a device while it computes.

    Args:
        device: where to.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._pinned: set[int] = set()

    def host(self, count: int) -> Tensor:
        """So many bytes of host memory that the device can read by itself, if the system allows that."""
        whole = -(-count // PAGESIZE) * PAGESIZE
        memory = torch.empty(whole + PAGESIZE, dtype=torch.uint8)
        begin = -memory.data_ptr() % PAGESIZE  # whole pages: one that two pieces share can be pinned for one only
        pages = memory[begin : begin + whole]
        if self.stream is not None:  # torch's own pinned memory comes in powers of two, a third of it wasted
            code = int(_cuda().cudaHostRegister(pages.data_ptr(), whole, 0))
            if code == 0:
                self._pinned.add(pages.data_ptr())
            else:
                log.warning(
                    "host memory could not be pinned (CUDA error %d): copies to the device will be waited for", code
                )
                self._take_error()
        return pages[:count]

    def unpin(self, host: Tensor) -> None:
        """Make that ordinary memory again."""
        if host.data_ptr() in self._pinned:
            self._pinned.discard(host.data_ptr())
            code = int(_cuda().cudaHostUnregister(host.data_ptr()))
            if code != 0:
                log.warning("host memory could not be unpinned (CUDA error %d)", code)
                self._take_error()

    def _take_error(self) -> None:
        """CUDA holds a failed call's error until it is asked for, and the next kernel would fail with it."""
        try:
            torch.zeros(1, device=self.device).add_(1)
        except RuntimeError as error:
            log.debug("taken: %s", error)

    def copy(self, slot: Tensor, host: Tensor, after: Moment) -> Moment:
        """Begin a copy.

        Args:
            slot: bytes on the device.
            host: as many on the host.
            after: when the slot is free to be written.

        Returns:
            When it is done; None if it is already.
        """
        if self.stream is None:
            slot.copy_(host)
            return None
        if after is not None:
            self.stream.wait_event(after)
        with torch.cuda.stream(self.stream):
            slot.copy_(host, non_blocking=True)
            return self.stream.record_event()

    def finish(self) -> None:
        """Wait until no copy is under way."""
        if self.stream is not None:
            self.stream.synchronize()

    def now(self) -> Moment:
        """When everything that was asked of the device so far will be done."""
        return None if self.stream is None else torch.cuda.current_stream(self.device).record_event()

    def wait(self, event: Moment) -> None:
        """Let the device go on only after an event."""
        if event is not None:
            torch.cuda.current_stream(self.device).wait_event(event)


class _Pack:
    """A block's weights as one piece of host memory, so that they travel in one copy."""

    def __init__(self, block: nn.Module, bus: Bus) -> None:
        self.bus, self.places, begin = bus, [], 0
        for parameter in block.parameters():
            # as it is now: a hook that casts may leave it in another type when something breaks off
            self.places.append((parameter, begin, parameter.nbytes, parameter.dtype, parameter.shape))
            begin += _aligned(parameter.nbytes)
        self.host = bus.host(begin)
        for place in self.places:
            view = _view(self.host, *place[1:])
            view.copy_(place[0].data)
            place[0].data = view

    def point(self, where: Tensor) -> None:
        """Let the block's parameters be what lies in a buffer."""
        for parameter, *place in self.places:
            parameter.data = _view(where, *place)

    def release(self) -> None:
        """Ordinary memory again."""
        self.point(self.host)
        self.bus.unpin(self.host)


@dataclass
class _Slot:
    """A buffer on the device, what it holds, and when it does and no longer needs to."""

    buffer: Tensor
    holds: _Pack | None = None
    ready: Any = None
    unused: Any = None


class Lane:
    """Blocks that run one after another, those of several experts in turn, and the slots they pass through.

    The first slots keep their blocks from step to step; the last two are passed through by the rest.

    Args:
        lists: every expert's blocks.
        slots: how many.
        bus: copies them.
    """

    def __init__(self, lists: Sequence[Sequence[nn.Module]], slots: int, bus: Bus) -> None:
        self.bus, self.count, self._slots = bus, slots, []
        self._packs: dict[nn.Module, tuple[_Pack, int]] = {}
        try:
            for block, place in ((block, i) for blocks in lists for i, block in enumerate(blocks)):
                self._packs[block] = _Pack(block, bus), place
        except BaseException:
            self.close()
            raise
        self._largest = max(pack.host.numel() for pack, _ in self._packs.values())

    def __contains__(self, block: object) -> bool:
        return block in self._packs

    def walk(self, blocks: Sequence[nn.Module]) -> Iterator[nn.Module]:
        """Yield blocks one after another, each on the device until the next one is asked for."""
        if not self._slots:
            self._slots = [_Slot(self._buffer(), unused=self.bus.now()) for _ in range(self.count)]
        for block, coming in zip(blocks, [*blocks[1:], None], strict=True):
            slot, (pack, _) = self._bring(block), self._packs[block]
            if coming is not None:
                self._bring(coming)
            self.bus.wait(slot.ready)
            pack.point(slot.buffer)
            try:
                yield block
            finally:
                pack.point(pack.host)
                slot.unused = self.bus.now()

    def _buffer(self) -> Tensor:
        return torch.empty(self._largest, dtype=torch.uint8, device=self.bus.device)

    def _bring(self, block: nn.Module) -> _Slot:
        pack, place = self._packs[block]
        stay = self.count - FEWEST
        slot = self._slots[place if place < stay else stay + (place - stay) % FEWEST]
        if slot.holds is not pack:
            slot.ready = self.bus.copy(slot.buffer[: pack.host.numel()], pack.host, slot.unused)
            slot.holds = pack
        return slot

    @property
    def missing(self) -> int:
        """Bytes of slots that are not there now."""
        return 0 if self._slots else self.count * self._largest

    def drop(self) -> None:
        """Free the slots."""
        self.bus.finish()
        self._slots = []

    def close(self) -> None:
        """Free the slots, and leave the blocks on the host."""
        self.drop()
        for pack, _ in self._packs.values():
            pack.release()


class Visitor:
    """An encoder that comes to the device for every call, or works on the host where it finds no room."""

    def __init__(self, module: nn.Module, device: torch.device, make_room: Callable[[], None]) -> None:
        self.module, self.device, self.make_room = module, device, make_room
        before = module.register_forward_pre_hook(self._come, with_kwargs=True)
        after = module.register_forward_hook(self._go, always_call=True)
        self._hooks, self._host = [before, after], []

    def _come(self, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if weigh(module) > free(self.device):
            self.make_room()
        if weigh(module) > free(self.device):
            log.info("%s works on the host: there is no room for it on the device", type(module).__name__)
            return None
        self._host = [(tensor, tensor.data) for tensor in (*module.parameters(), *module.buffers())]
        for tensor, data in self._host:
            tensor.data = data.to(self.device)
        return tuple(map(self._moved, given)), {name: self._moved(value) for name, value in named.items()}

    def _moved(self, value: Any) -> Any:
        return value.to(self.device) if isinstance(value, Tensor) else value

    def _go(self, *_: object) -> None:
        for tensor, data in self._host:  # what is on the host is what it was: nothing is copied back
            tensor.data = data
        self._host = []

    def remove(self) -> None:
        """Stay on the host."""
        for hook in self._hooks:
            hook.remove()


def _view(buffer: Tensor, begin: int, count: int, dtype: torch.dtype, shape: torch.Size) -> Tensor:
    return buffer[begin : begin + count].view(dtype).view(shape)


def weigh(module: nn.Module) -> int:
    """Bytes of a module's weights."""
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def packed(block: nn.Module) -> int:
    """Bytes of a block's weights in one piece."""
    return sum(_aligned(parameter.nbytes) for parameter in block.parameters())


def _aligned(count: int) -> int:
    return -(-count // ALIGNED) * ALIGNED


def _cuda() -> Any:
    return torch.cuda.cudart()
