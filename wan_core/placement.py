"""Where a model's weights are while a video is made: all on the device, or as few of them as fit there.

Every policy computes the same numbers; a cheaper one only moves more. Encoders can wait on the host
and visit the device while they work. Blocks can pass through a few slots: those of an expert that
is not at work are not on the device, and of a large one only some are, each copied while the one
before it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from weakref import WeakSet

import torch
from torch import nn

from wan_core.memory import SPARE, free, need
from wan_core.offload import FEWEST, Bus, Lane, Visitor, packed, weigh
from wan_core.ops import lean
from wan_core.parts import Parts
from wan_core.precision import native
from wan_core.specs import PUBLISHED, TEXT_ENCODER, ModelSpec

#: What a decoder's memory goes by, of the 2.1 and of the 2.2 kind.
OLDER_VAE = {"base_dim": 96, "scale_factor_temporal": 4}
NEWER_VAE = {"decoder_base_dim": 256, "scale_factor_temporal": 4, "is_residual": True, "patch_size": 2}
TOLD = 512  # text tokens of a prompt
#: Bytes of a VAE, and the share of a transformer that is outside its blocks.
SMALL_VAE, LARGE_VAE, OUTSIDE = 400_000_000, 2_200_000_000, 0.02
TOO_LARGE = "too large for this machine"
LANES = ("blocks", "vace_blocks")  # lists of blocks that run one after another, at the same time as the other list


@dataclass(frozen=True)
class Sizes:
    """Bytes of a model's weights.

    Attributes:
        rest: what is always on the device: the VAE, embeddings and heads.
        encoders: of text, pictures and speech.
        lanes: per list of blocks, how many an expert has and what the largest takes.
        experts: transformers.
    """

    rest: int
    encoders: int
    lanes: tuple[tuple[int, int], ...]
    experts: int = 1


@dataclass(frozen=True)
class Policy:
    """What stays on the device.

    Attributes:
        encoders: whether they do.
        slots: blocks of the experts that do, all experts together; None for all blocks.
    """

    encoders: bool = True
    slots: int | None = None

    def passes(self, sizes: Sizes) -> list[int]:
        """Slots of every lane: as many as said for the first; the others, much shorter, have two or all."""
        first = sizes.lanes[0][0]
        assert self.slots is not None
        full = self.slots >= first
        return [self.slots, *(count if full else FEWEST for count, _ in sizes.lanes[1:])]

    def bytes(self, sizes: Sizes) -> int:
        """What of the weights is on the device at once, while it denoises."""
        counts = [sizes.experts * count for count, _ in sizes.lanes] if self.slots is None else self.passes(sizes)
        blocks = sum(count * size for count, (_, size) in zip(counts, sizes.lanes, strict=True))
        return sizes.rest + sizes.encoders * self.encoders + blocks

    def words(self, sizes: Sizes) -> str:
        """What waits on the host, in a few words; empty if nothing does."""
        count = sizes.lanes[0][0]
        if self.slots is None:
            return "" if self.encoders else "encoders wait in RAM"
        waiting = "one expert" if self.slots >= count else f"{count - self.slots} of {count} blocks"
        return f"encoders and {waiting} wait in RAM"


def measured(parts: Parts) -> Sizes:
    """The sizes of a loaded model."""
    experts, lanes = parts.experts, []
    for name in LANES:
        blocks = [block for expert in experts for block in getattr(expert, name, ())]
        if blocks:
            lanes.append((len(blocks) // len(experts), max(packed(block) for block in blocks)))
    rest = sum(weigh(expert) for expert in experts) + weigh(parts.codec.vae)
    rest -= sum(weigh(block) for expert in experts for name in LANES for block in getattr(expert, name, ()))
    return Sizes(rest, sum(weigh(encoder) for encoder in _encoders(parts)), tuple(lanes), len(experts))


def expected(spec: ModelSpec, dtype: torch.dtype = torch.bfloat16) -> Sizes | None:
    """The sizes of a model that is not loaded; None for one that is not published.

    Args:
        spec: the model.
        dtype: what its large weights are kept in; with float32, so is all the rest.
    """
    known = PUBLISHED.get(spec.name)
    if known is None:
        return None
    weights, wide = 2 * known.parameters, 2 if dtype == torch.float32 else 1
    vae = LARGE_VAE if "5b" in spec.name else SMALL_VAE
    block = round((1 - OUTSIDE) * known.parameters * dtype.itemsize / known.layers)
    experts = 1 if spec.boundary is None else 2
    outside = round(wide * experts * OUTSIDE * weights) + vae
    return Sizes(outside, wide * TEXT_ENCODER, ((known.layers, block),), experts)


def usual(spec: ModelSpec, itemsize: int, device: torch.device) -> float:
    """Bytes beside the weights that a usual clip takes, roughly; the feed-forward's hidden layer can be sliced."""
    known, (width, height) = PUBLISHED[spec.name], spec.recipe.size
    newer = "5b" in spec.name
    pixels = 32 if newer else 16  # of a token's side
    tokens = (width // pixels) * (height // pixels) * ((spec.recipe.frames - 1) // 4 + 1)
    config = {"num_attention_heads": 1, "attention_head_dim": known.dim, "ffn_dim": 0, "num_layers": known.layers}
    vae = NEWER_VAE if newer else OLDER_VAE
    return need(config, vae, (width, height), tokens, 2 * TOLD, itemsize, lean=lean(device)).peak


def verdict(spec: ModelSpec, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> str:
    """Whether a model fits a device that it has for itself, in a few words; empty for one that is not published.

    Args:
        spec: the model.
        device: where it would run.
        dtype: as for :func:`expected`.
    """
    sizes = expected(spec, dtype)
    if sizes is None:
        return ""
    computes = torch.float32 if dtype == torch.float32 else native(device)
    room, beside = free(device) + _held(device), usual(spec, computes.itemsize, device)
    if device.type == "cpu":
        return "fits" if Policy().bytes(sizes) + beside <= room else TOO_LARGE
    policy = choose(sizes, room, lambda _: beside)
    return TOO_LARGE if policy is None else policy.words(sizes) or "fits"


def policies(sizes: Sizes) -> Iterator[Policy]:
    """All of them, the fastest first."""
    yield Policy()
    if sizes.encoders:
        yield Policy(encoders=False)
    count = sizes.lanes[0][0]
    for slots in range(count, FEWEST - 1, -1):
        if slots < count or sizes.experts > 1:
            yield Policy(encoders=False, slots=slots)


def choose(sizes: Sizes, room: float, needs: Callable[[float], float]) -> Policy | None:
    """The fastest policy that fits.

    Args:
        sizes: of the model.
        room: bytes of the device, for weights and everything else.
        needs: bytes that a request takes beside the weights, given how many are left for that.

    Returns:
        The policy, or None if even the smallest leaves too little.
    """
    for policy in policies(sizes):
        left = room - policy.bytes(sizes)
        if left > 0 and needs(left) <= left:
            return policy
    return None


#: Whoever has weights on a device now; the next who needs it asks them to leave.
_tenants: WeakSet[Placed] = WeakSet()


def _held(device: torch.device) -> float:
    """What models have of a device and could give back, as :func:`wan_core.memory.free` counts."""
    return SPARE * sum(some.held for some in list(_tenants) if some.device == device)


class Placed:
    """A model placed by a policy until it is closed: ``with Placed(parts, policy): ...``.

    Args:
        parts: the model, on the host.
        policy: what stays on the device.
        bus: copies blocks; the device's own by default.
    """

    def __init__(self, parts: Parts, policy: Policy, bus: Bus | None = None) -> None:
        self.policy, self._lanes, self._stack = policy, [], ExitStack()
        self.device, self.closed, self._bytes = parts.device, False, policy.bytes(measured(parts))
        self._destination = torch.device("cpu")
        device = parts.device
        with ExitStack() as stack:
            stack.callback(lambda: _moved(parts, self._destination))
            _move(parts.codec.vae, device)
            for encoder in _encoders(parts):
                if policy.encoders:
                    _move(encoder, device)
                else:
                    visitor = Visitor(encoder, device, self.make_room)
                    stack.callback(visitor.remove)
            self._experts(parts, stack, bus)
            self._stack = stack.pop_all()
        _tenants.add(self)

    def _experts(self, parts: Parts, stack: ExitStack, bus: Bus | None) -> None:
        if self.policy.slots is None:
            for expert in parts.experts:
                _move(expert, self.device)
            return
        bus = bus or Bus(self.device)  # not before: where ZeroGPU launches there are no streams
        kinds = [name for name in LANES if hasattr(parts.experts[0], name)]
        for name, slots in zip(kinds, self.policy.passes(measured(parts)), strict=True):
            lists = [list(getattr(expert, name)) for expert in parts.experts]
            lane = Lane(lists, slots, bus)
            stack.callback(lane.close)
            self._lanes.append(lane)
        for expert in parts.experts:
            _outside(expert, self.device)
            expert.walk = self._walk
            stack.callback(setattr, expert, "walk", iter)

    def _walk(self, blocks: Sequence[nn.Module]) -> Iterator[nn.Module]:
        return next(lane for lane in self._lanes if blocks[0] in lane).walk(blocks)

    def make_room(self) -> None:
        """Give the slots' memory to somebody else; they come back when blocks are needed again."""
        for lane in self._lanes:
            lane.drop()

    @property
    def held(self) -> int:
        """Bytes of the device that it takes now."""
        return self._bytes - self.missing

    @property
    def missing(self) -> int:
        """Bytes that it will take besides, once blocks are needed."""
        return sum(lane.missing for lane in self._lanes)

    def close(self, to: str = "cpu") -> None:
        """Bring everything back to the host; or to "meta", which is nowhere."""
        self._destination = torch.device(to)
        _tenants.discard(self)
        self._stack.close()
        self.closed = True

    def __enter__(self) -> Placed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _encoders(parts: Parts) -> list[nn.Module]:
    return [parts.text_encoder, *(pair[1] for pair in (parts.vision, parts.hearing) if pair is not None)]


def _moved(parts: Parts, device: torch.device) -> None:
    for module in (parts.codec.vae, *_encoders(parts), *parts.experts):
        _move(module, device)


def _move(module: nn.Module, device: torch.device) -> None:
    module.to(device)


def _outside(expert: nn.Module, device: torch.device) -> None:
    """Move everything of an expert but its blocks."""
    inside = {id(p) for name in LANES for p in getattr(expert, name, nn.Module()).parameters()}
    for tensor in (*expert.parameters(), *expert.buffers()):
        if id(tensor) not in inside:
            tensor.data = tensor.data.to(device)


class Residence:
    """A model's place on its device, from request to request.

    It goes there for its first video and stays where it is as long as that will do. Another model that
    is in the way is asked to leave when a video is about to be made, one at a time, and not before: until
    then it may be at work.

    Args:
        parts: the model, on the host.
        lent: the device comes with a visitor's request (ZeroGPU), to a copy of this process: whatever can be
            there is put there at once, and travels with it; nothing moves in slots here.
    """

    def __init__(self, parts: Parts, lent: bool = False) -> None:
        self._parts, self._sizes, self._lent = parts, measured(parts), lent
        self._placed: Placed | None = None
        self._room = 0.0
        self.measure()
        if lent:
            whole = next((p for p in (Policy(), Policy(encoders=False)) if p.bytes(self._sizes) < self._room), None)
            self._place(whole)

    @property
    def _on_host(self) -> bool:
        return self._parts.device.type == "cpu"

    @property
    def most(self) -> float:
        """Bytes that a request may take beside the weights, with as few of those on the device as can be."""
        return self._room - self._smallest.bytes(self._sizes)

    @property
    def _smallest(self) -> Policy:
        return Policy() if self._on_host else list(policies(self._sizes))[-1]

    def measure(self, at_work: bool = False) -> None:
        """Look how much of the device there is for weights and everything else.

        Args:
            at_work: a video may be in the making, so less may be free than there was and will be.
        """
        device = self._parts.device
        held = Policy().bytes(self._sizes) if self._on_host else _held(device)
        if self._lent and (at_work or self._placed is None):
            held = -_held(device) if self._placed is None else 0.0  # here, all of a lent device always counts as free
        self._room = max(self._room if at_work else 0.0, free(device) + held)

    def words(self, needs: Callable[[float], float]) -> str:
        """What of the weights would wait on the host, see :meth:`Policy.words`."""
        policy = self._policy(needs)
        return policy.words(self._sizes) if policy else ""

    def settle(self, needs: Callable[[float], float]) -> float:
        """Place the weights for a request that fits.

        Args:
            needs: as for :func:`choose`.

        Returns:
            Bytes that are left beside the weights.
        """
        policy = self._policy(needs) or self._smallest
        left = self._room - policy.bytes(self._sizes)
        self._place(policy, needs(left))
        return left

    def before_change(self) -> None:
        """Weights are about to be changed where they are; those that travel are changed on the host."""
        if self._placed is not None and self._placed.policy.slots is not None:
            self.leave()

    def leave(self, to: str = "cpu") -> None:
        """Bring all weights to the host; or to "meta", for a model that is not needed any more."""
        if self._placed is not None:
            self._placed.close(to)
        self._placed = None

    def _policy(self, needs: Callable[[float], float]) -> Policy | None:
        """The best, but no move for a few slots more: all blocks would have to be packed anew."""
        if self._on_host:
            return Policy()
        best, now = choose(self._sizes, self._room, needs), self._placed and self._placed.policy
        if best is None or now is None or best.slots is None or now.slots is None:
            return best
        left = self._room - now.bytes(self._sizes)
        return now if needs(left) <= left else best

    def _place(self, policy: Policy | None, beside: float = 0.0) -> None:
        if self._placed is not None and (self._placed.closed or self._placed.policy != policy):
            self.leave()
        if policy is None:
            return
        needed = beside + (self._placed.missing if self._placed else policy.bytes(self._sizes))
        device = self._parts.device
        others = [some for some in list(_tenants) if some.device == device and some is not self._placed]
        while others and needed > free(device) and not self._on_host and not self._lent:
            others.pop(0).close()
        self._placed = self._placed or Placed(self._parts, policy)
