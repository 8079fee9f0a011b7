"""Placement: the same numbers wherever weights wait, and no more of them on the device than said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.core import test_pipeline as checkpoints
from tests.core import test_vace
from wan_core import Request, load, offload, placement
from wan_core.model.dit import WanDiT
from wan_core.offload import Bus, Lane
from wan_core.pipeline import Pipeline
from wan_core.placement import LANES, Placed, Policy, Residence, Sizes, choose, measured, policies
from wan_core.precision import native

CPU = torch.device("cpu")
GB = 1e9
#: Wan2.2 A14B and Wan2.1 1.3B as they are published, in bfloat16.
A14B = Sizes(rest=int(2.1 * GB), encoders=int(11.4 * GB), lanes=((40, 702_000_000),), experts=2)
SMALL = Sizes(rest=int(0.5 * GB), encoders=int(11.4 * GB), lanes=((30, 92_000_000),))
PEERS = {
    "two experts": lambda: checkpoints.checkpoint("t2v", 2), "clip": lambda: checkpoints.checkpoint("clip"),
    "ti2v": lambda: checkpoints.checkpoint("ti2v"), "vace": lambda: test_vace.checkpoint(2),
}  # fmt: skip


class Watched(Bus):
    """A device of its own, as far as can be told from here: it knows what was copied to it, and when."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.copied: list[int] = []
        self.buffers: set[int] = set()

    def copy(self, slot: Tensor, host: Tensor, after: Any) -> None:
        self.copied.append(host.data_ptr())
        self.buffers.add(slot.data_ptr())
        super().copy(slot, host, after)


def pipeline(name: str, folder: Path) -> tuple[Pipeline, Any]:
    peer = PEERS[name]()
    return checkpoints.ours(peer, folder), peer


def wanted(name: str, peer: Any) -> Any:
    extra = {"image": checkpoints.picture(0)} if name == "clip" else {}
    if name == "vace":
        extra = {"reference_images": (checkpoints.picture(0),)}
    return checkpoints.request(peer, **extra)


def weights(pipe: Pipeline) -> list[Tensor]:
    modules = [*pipe.parts.experts, pipe.parts.text_encoder]
    return [p.detach().clone() for module in modules for p in module.parameters()]


@pytest.mark.parametrize("slots", [2, 3])
@pytest.mark.parametrize("name", PEERS)
def test_waiting_weights_change_nothing(name: str, slots: int, tmp_path: Path) -> None:
    pipe, peer = pipeline(name, tmp_path)
    request, before = wanted(name, peer), weights(pipe)
    plain, bus = pipe.latents(request), Watched()
    with Placed(pipe.parts, Policy(encoders=False, slots=slots), bus):
        assert torch.equal(pipe.latents(request), plain)
    lanes = len(measured(pipe.parts).lanes)
    assert slots <= len(bus.buffers) <= slots + 2 * (lanes - 1)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(pipe), strict=True))
    assert all(expert.walk is iter for expert in pipe.parts.experts)
    assert torch.equal(pipe.latents(request), plain)


def test_blocks_that_have_a_slot_each_are_copied_once(tmp_path: Path) -> None:
    pipe, peer = pipeline("ti2v", tmp_path)
    blocks, bus = len(pipe.parts.experts[0].blocks), Watched()
    with Placed(pipe.parts, Policy(slots=blocks), bus):
        pipe.latents(wanted("ti2v", peer))
    assert len(bus.copied) == blocks


def test_an_expert_takes_over_the_slots_of_the_other(tmp_path: Path) -> None:
    pipe, peer = pipeline("two experts", tmp_path)
    blocks, bus = len(pipe.parts.experts[0].blocks), Watched()
    with Placed(pipe.parts, Policy(slots=blocks), bus):
        pipe.latents(wanted("two experts", peer))
    assert len(bus.copied) == 2 * blocks
    assert len(bus.buffers) == blocks


class Late(Bus):
    """A device whose copies happen when they are waited for, and not before."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.clock, self.used = 0, {}

    def copy(self, slot: Tensor, host: Tensor, after: Any) -> Any:
        assert after is not None
        assert after > self.used.get(slot.data_ptr(), -1), "the slot is written while a block computes in it"
        return [slot, host]

    def wait(self, event: Any) -> None:
        if event:
            slot, host = event
            slot.copy_(host)
            event.clear()
            self.used[slot.data_ptr()] = self.clock

    def now(self) -> int:
        self.clock += 1
        return self.clock


@pytest.mark.parametrize("name", PEERS)
def test_every_copy_is_waited_for_and_waits_for_its_slot(name: str, tmp_path: Path) -> None:
    pipe, peer = pipeline(name, tmp_path)
    request = wanted(name, peer)
    plain = pipe.latents(request)
    with Placed(pipe.parts, Policy(encoders=False, slots=2), Late()):
        assert torch.equal(pipe.latents(request), plain)


def layers(count: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Linear(4, 4) for _ in range(count)]


def test_the_next_block_is_on_its_way_while_one_computes() -> None:
    blocks, bus = layers(5), Watched()
    lane = Lane([blocks], 2, bus)
    seen = [len(bus.copied) for _ in lane.walk(blocks)]
    assert seen == [2, 3, 4, 5, 5]


def test_a_block_lies_in_a_slot_only_while_it_is_its_turn() -> None:
    blocks, bus = layers(4), Watched()
    values = [block.weight.detach().clone() for block in blocks]
    lane = Lane([blocks], 2, bus)
    for number, block in enumerate(lane.walk(blocks)):
        inside = [b.weight.data_ptr() in bus.buffers or b.bias.data_ptr() in bus.buffers for b in blocks]
        assert inside == [i == number for i in range(4)]
        assert torch.equal(block.weight, values[number])


def test_what_breaks_off_leaves_every_block_on_the_host() -> None:
    blocks, bus = layers(4), Watched()
    lane = Lane([blocks], 2, bus)

    def fails() -> None:
        for _ in lane.walk(blocks):
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        fails()
    assert not any(block.weight.data_ptr() in bus.buffers for block in blocks)


def test_slots_that_gave_way_come_back() -> None:
    blocks, bus = layers(3), Watched()
    lane, values = Lane([blocks], 3, bus), [block.weight.detach().clone() for block in layers(3)]
    for _ in range(2):
        for block, value in zip(lane.walk(blocks), values, strict=True):
            assert torch.equal(block.weight, value)
        lane.drop()
    assert len(bus.copied) == 6


def test_a_fault_in_a_block_costs_no_weights(tmp_path: Path) -> None:
    """fp8 weights are cast while a layer computes; if that breaks off, they are still what they were."""
    checkpoints.checkpoint("t2v").save_pretrained(tmp_path)
    pipe = load(tmp_path, "cpu", torch.float8_e4m3fn)
    request, expert = Request("a ball", width=32, height=32, num_frames=5, seed=1), pipe.parts.experts[0]
    plain, layer = pipe.latents(request), expert.blocks[1].ffn.net[2]
    whole, before = layer.forward, weights(pipe)

    def fails(*_: Any) -> Tensor:
        raise MemoryError

    with Placed(pipe.parts, Policy(slots=2)):
        layer.forward = fails
        with pytest.raises(MemoryError):
            pipe.latents(request)
        layer.forward = whole
        for parameter in layer.parameters():  # what the library's hook left behind is not the weight
            assert parameter.dtype in (torch.float8_e4m3fn, native(pipe.device))
        assert torch.equal(pipe.latents(request), plain)
    assert all(
        torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(before, weights(pipe), strict=True)
    )


# --- whose turn it is -----------------------------------------------------------------------------


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A device of so many bytes that is not the host, as far as residences can tell."""
    size = [0.0]

    def left(_: object) -> float:
        return size[0] - sum(placed.held for placed in placement._tenants)

    monkeypatch.setattr(placement, "SPARE", 1.0)
    monkeypatch.setattr(placement, "free", left)
    monkeypatch.setattr(offload, "free", left)
    monkeypatch.setattr(Residence, "_on_host", False)
    monkeypatch.setattr(placement, "_tenants", set())
    return lambda count: size.__setitem__(0, count)


def test_two_models_take_turns_where_there_is_room_for_one(device: Callable[[float], None], tmp_path: Path) -> None:
    device(1e9)
    first, second = (checkpoints.ours(checkpoints.checkpoint(kind), tmp_path / kind) for kind in ("t2v", "ti2v"))
    assert not placement._tenants  # nobody moves before it is to make something
    one, two = first._residence, second._residence
    device(1.5 * Policy().bytes(one._sizes))
    one.measure()
    assert one.settle(lambda _: 1000.0) > 0
    assert [placed.policy for placed in placement._tenants] == [Policy()]
    two.measure()
    left = two.settle(lambda _: 1000.0)
    (there,) = placement._tenants
    assert there is two._placed
    assert left + there.held == pytest.approx(1.5 * Policy().bytes(one._sizes))
    one.measure()
    one.settle(lambda _: 1000.0)
    assert [placed is one._placed for placed in placement._tenants] == [True]


def test_room_is_the_same_wherever_weights_are(device: Callable[[float], None], tmp_path: Path) -> None:
    device(1e9)
    pipe = checkpoints.ours(checkpoints.checkpoint("t2v"), tmp_path)
    own, total = pipe._residence, 0.8 * Policy().bytes(measured(pipe.parts))
    device(total)
    rooms = []
    request = Request("a ball", width=32, height=32, num_frames=5, num_inference_steps=1, seed=1)
    for needs in (1e3, 2e4, 1e3):
        own.measure()
        rooms.append(own._room)
        own.settle(lambda _, needs=needs: needs)
        own.measure()
        rooms.append(own._room)  # before the slots are there
        for expert in pipe.parts.experts:
            list(expert.walk(list(expert.blocks)))
        own.measure()
        rooms.append(own._room)
    assert rooms == pytest.approx([total] * 9)
    assert own._placed is not None
    assert own._placed.policy.slots is not None
    assert own.words(lambda _: 1e3).endswith("blocks wait in RAM")
    device(1e12)
    plain = pipe.latents(request)
    assert own._placed.policy == Policy()
    assert torch.equal(pipe.latents(request), plain)


def test_a_lent_device_is_filled_at_once_and_never_by_slots(
    device: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkpoints.checkpoint("t2v").save_pretrained(tmp_path)
    device(1e9)
    first = load(tmp_path, "cpu", torch.float32, lent=True)
    assert first._residence._placed is not None
    sizes = measured(first.parts)
    size, less = Policy().bytes(sizes), Policy(encoders=False).bytes(sizes)
    wanted = ((2.5 * size, Policy()), (1.5 * size + less / 2, Policy(encoders=False)), (1.2 * size, None))
    for total, words in wanted:
        monkeypatch.setattr(placement, "free", lambda _, total=total: total)  # all that ZeroGPU's launcher can tell
        placed = load(tmp_path, "cpu", torch.float32, lent=True)._residence._placed
        assert (placed and placed.policy) == words
        if placed is not None:
            placed.close()


# --- which policy -------------------------------------------------------------------------------


@pytest.mark.parametrize(("sizes", "gigabytes", "words"), [
    (A14B, 80, ""),
    (A14B, 70, "encoders wait in RAM"),
    (A14B, 48, "encoders and one expert wait in RAM"),
    (A14B, 24, "encoders and 20 of 40 blocks wait in RAM"),
    (A14B, 12, "encoders and 37 of 40 blocks wait in RAM"),
    (SMALL, 24, ""),
    (SMALL, 12, "encoders wait in RAM"),
])  # fmt: skip
def test_the_policy_follows_the_room(sizes: Sizes, gigabytes: float, words: str) -> None:
    policy = choose(sizes, gigabytes * GB, lambda _: 7.4 * GB)
    assert policy is not None
    assert policy.words(sizes) == words


@pytest.mark.parametrize("sizes", [A14B, SMALL], ids=["a14b", "1.3b"])
def test_more_room_never_makes_it_slower_and_everything_fits(sizes: Sizes) -> None:
    order, last = list(policies(sizes)), None
    for gigabytes in range(1, 100):
        policy = choose(sizes, gigabytes * GB, lambda _: 3 * GB)
        if policy is None:
            assert last is None
            continue
        assert policy.bytes(sizes) + 3 * GB <= gigabytes * GB
        assert last is None or order.index(policy) <= order.index(last)
        last = policy
    assert last == Policy()


def test_what_fits_nowhere_has_no_policy() -> None:
    assert choose(A14B, 3 * GB, lambda _: 1 * GB) is None


def test_sizes_are_those_of_the_weights(tmp_path: Path) -> None:
    pipe, _ = pipeline("vace", tmp_path)
    sizes = measured(pipe.parts)
    assert [count for count, _ in sizes.lanes] == [4, 2]
    blocks = [b for e in pipe.parts.experts for name in LANES for b in getattr(e, name)]
    held = sum(p.nbytes for m in (*pipe.parts.experts, pipe.parts.codec.vae) for p in (*m.parameters(), *m.buffers()))
    assert sizes.rest == held - sum(p.nbytes for b in blocks for p in b.parameters())
    assert sizes.encoders == sum(p.nbytes for p in pipe.parts.text_encoder.parameters())


# --- large and small numbers --------------------------------------------------------------------


class FromNowhere(Bus):
    """Brings random weights to a stand-in device; on the host, which they would not fit into, all blocks share one."""

    def __init__(self, bytes_: int) -> None:
        super().__init__(CPU)
        generator = torch.Generator().manual_seed(0)
        self.weights = (0.02 * torch.randn(bytes_ // 2, generator=generator)).bfloat16().view(torch.uint8)
        self.scratch = torch.empty(bytes_, dtype=torch.uint8)
        self.buffers: dict[int, int] = {}

    def host(self, count: int) -> Tensor:
        return self.scratch[:count]

    def copy(self, slot: Tensor, host: Tensor, after: Any) -> None:
        self.buffers[slot.data_ptr()] = slot.numel()
        slot.copy_(self.weights[: host.numel()])


def resident() -> int:
    """Bytes of memory that this process has now."""
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


@torch.no_grad()
def test_a_14b_runs_with_two_blocks_on_the_device() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            dit = WanDiT().eval()
    finally:
        torch.set_default_dtype(torch.float32)
    total = sum(p.numel() for p in dit.parameters())
    dit.to_empty(device=CPU)  # memory that is not written to is none
    for name, p in dit.named_parameters():
        if not name.startswith("blocks"):
            nn.init.normal_(p, std=0.02)
    before = resident()
    bus = FromNowhere(2 * max(sum(p.numel() + 128 for p in b.parameters()) for b in dit.blocks))
    dit.walk = Lane([list(dit.blocks)], 2, bus).walk
    latents, text = torch.randn(1, 16, 1, 4, 4), torch.randn(1, 4, 4096).bfloat16()
    out = dit(latents.bfloat16(), torch.tensor([900.0]), text, return_dict=False)[0]
    assert total == 14_288_491_584
    assert len(bus.buffers) == 2
    assert sum(bus.buffers.values()) < 1.5 * GB
    assert resident() - before < 4e9  # all blocks are 28 GB
    assert out.shape == latents.shape
    assert out.isfinite().all()
    assert out.std() > 0


def test_fp8_storage_halves_the_blocks_and_stays_close(tmp_path: Path) -> None:
    peer = checkpoints.checkpoint("t2v")
    plain = checkpoints.ours(peer, tmp_path)
    small = load(tmp_path, "cpu", torch.float8_e4m3fn)
    request = checkpoints.request(peer)
    (_, whole), (_, stored) = measured(plain.parts).lanes[0], measured(small.parts).lanes[0]
    assert stored < 0.4 * whole  # of float32; norms and tables stay as they are
    found, expected = small.latents(request), plain.latents(request)
    assert (found - expected).norm() < 0.15 * expected.norm()
    assert "float8_e4m3fn" in small.backend
    with Placed(small.parts, Policy(slots=2)):
        assert torch.equal(small.latents(request), found)
