"""Compiled blocks: the same numbers, one graph for every shape, and plain blocks where the compiler fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.core import test_pipeline as checkpoints
from tests.core import test_vace, tiny
from wan_core import Request, load
from wan_core.compile import Compiled
from wan_core.model.dit import WanDiT
from wan_core.model.layers import KeyValue
from wan_core.ops import Slicing
from wan_core.pipeline import Pipeline
from wan_core.studio.produce import produce
from wan_core.studio.provenance import verify
from wan_core.types import Progress, Started


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Counted:
    """A backend that compiles nothing and counts its graphs."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, _: Any) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


def pair(peer: Any, folder: Path, backend: Any) -> tuple[Pipeline, Pipeline]:
    """A checkpoint as it is and compiled."""
    peer.save_pretrained(folder)
    plain, other = (load(folder, "cpu", torch.float32) for _ in range(2))
    return plain, Pipeline(other.parts, compiled=Compiled(other.parts.experts, backend))


def asked(**extra: Any) -> Request:
    usual = {"prompt": "a ball", "width": 32, "height": 32, "num_frames": 5, "num_inference_steps": 3, "seed": 1}
    return Request(**usual | extra)


def test_a_compiled_model_makes_the_same_video(tmp_path: Path) -> None:
    checkpoints.checkpoint("t2v").save_pretrained(tmp_path)
    plain, fast = (load(tmp_path, "cpu", torch.float32, compiled=compiled) for compiled in (False, True))
    found, expected = fast.latents(asked()), plain.latents(asked())
    assert (found - expected).abs().max() <= 1e-4
    assert fast.backend.startswith("cpu float32, compiled")
    assert "compiled" not in plain.backend


@pytest.mark.parametrize("kind", ["t2v", "ti2v", "clip", "vace"])
def test_every_kind_compiles_without_a_break(kind: str, tmp_path: Path) -> None:
    peer = test_vace.checkpoint(2) if kind == "vace" else checkpoints.checkpoint(kind, 2 if kind == "t2v" else 1)
    plain, fast = pair(peer, tmp_path, Counted())
    picture = {"image": checkpoints.picture(1)} if kind in ("ti2v", "clip") else {}
    assert (fast.latents(asked(**picture)) - plain.latents(asked(**picture))).abs().max() <= 1e-4
    assert not fast._compiled.failed


def test_a_shape_is_compiled_once(tmp_path: Path) -> None:
    """Twenty mixed requests, twice: the second time nothing is compiled."""
    backend = Counted()
    _, fast = pair(checkpoints.checkpoint("ti2v"), tmp_path, backend)
    mixed = [
        asked(width=width, num_frames=frames, seed=frames, guidance_scale=guidance, **picture)
        for width in (32, 64)
        for frames in (5, 9)
        for guidance in (1.0, 4.0)
        for picture in ({}, {"image": checkpoints.picture(1)})
    ] + [asked(prompt=" ".join(["ball"] * count)) for count in (1, 5, 20, 40)]
    assert len(mixed) == 20
    counts = []
    for _ in range(2):
        for request in mixed:
            fast.latents(request)
        counts.append(backend.graphs)
    assert 0 < counts[0] == counts[1]


def test_more_graphs_than_torch_keeps_by_itself_in_a_thread_of_their_own(tmp_path: Path) -> None:
    """Where a model is loaded is not where it works, and torch's settings are a thread's own."""
    with ThreadPoolExecutor(1) as loads, ThreadPoolExecutor(1) as works:
        backend = Counted()
        _, fast = loads.submit(pair, checkpoints.checkpoint("ti2v"), tmp_path, backend).result()
        kinds = [{"guidance_scale": g, "num_frames": f, **p} for g in (1.0, 4.0) for f in (1, 5, 9) for p in
                 ({}, {"image": checkpoints.picture(1)}, {"prompt": "ball " * 80})]  # fmt: skip
        for kind in kinds:
            works.submit(fast.latents, asked(**kind)).result()
    assert backend.graphs > 8
    assert not fast._compiled.failed


def test_compiling_is_told_the_first_time(tmp_path: Path) -> None:
    _, fast = pair(checkpoints.checkpoint("t2v"), tmp_path, Counted())
    told = [sum(isinstance(e, Progress) and e.phase == "compile" for e in fast.run(asked(seed=i))) for i in range(2)]
    assert told == [1, 0]


def test_a_compiler_that_fails_leaves_plain_blocks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Any, __: Any) -> Any:
        raise RuntimeError("no compiler here")

    plain, fast = pair(checkpoints.checkpoint("t2v"), tmp_path, broken)
    assert (fast.latents(asked()) - plain.latents(asked())).abs().max() <= 1e-5  # prompts are padded further
    assert "compiled" not in fast.label
    assert "no compiler here" in caplog.text


def test_a_recipe_tells_what_made_the_video_and_not_what_was_to(tmp_path: Path) -> None:
    def broken(_: Any, __: Any) -> Any:
        raise RuntimeError("no compiler here")

    _, fast = pair(checkpoints.checkpoint("t2v"), tmp_path, broken)
    events = list(produce(fast, asked(), tmp_path / "x.mp4"))
    (started,) = (e for e in events if isinstance(e, Started))
    assert "compiled" in started.backend
    backend = verify(tmp_path / "x.mp4").recipe["backend"]
    assert "compiled" not in backend
    assert backend == fast.plan(asked()).backend


@pytest.mark.parametrize("limit", [1, 64])
def test_a_graph_that_fails_when_nobody_prepared_for_it(limit: int, tmp_path: Path) -> None:
    """As in the middle of a video, by the compiler or by torch's own limit: what was asked for comes all the same."""

    class Once(Counted):
        def __call__(self, graph: Any, inputs: Any) -> Callable[..., Any]:
            if self.graphs:
                raise RuntimeError("no room for a second one")
            return super().__call__(graph, inputs)

    plain, fast = pair(checkpoints.checkpoint("t2v"), tmp_path, Once())
    fast.latents(asked(guidance_scale=1.0))
    assert fast._compiled.told == "compiled"
    given = torch.randn(1, 16, 2, 4, 4), torch.tensor([500.0]), torch.randn(1, 7, 32)
    with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=limit):
        found, expected = (pipe.parts.experts[0](*given, return_dict=False)[0] for pipe in (fast, plain))
    assert torch.equal(found, expected)
    assert fast._compiled.told == ""


def test_weights_that_are_cast_as_they_are_used_are_not_compiled(tmp_path: Path) -> None:
    checkpoints.checkpoint("t2v").save_pretrained(tmp_path)
    assert "compiled" not in load(tmp_path, "cpu", torch.float8_e4m3fn, compiled=True).backend


@torch.no_grad()
def test_a_block_is_exported() -> None:
    torch.manual_seed(0)
    config = tiny.BASE | tiny.KINDS["t2v"]
    dit = WanDiT(**config).eval()
    dim = config["num_attention_heads"] * config["attention_head_dim"]
    latents, text = torch.randn(1, config["in_channels"], 3, 4, 4), torch.randn(1, 9, config["text_dim"])
    embedded = dit.embed(latents, torch.tensor([[500.0]]), (12,))
    pairs: tuple[KeyValue, ...] = dit.context(text).pairs[0]
    given = (embedded.tokens, pairs, embedded.table, embedded.lengths, embedded.rope, Slicing())
    exported = torch.export.export(dit.blocks[0], given)
    assert embedded.tokens.shape[-1] == dim
    assert torch.allclose(exported.module()(*given), dit.blocks[0](*given), atol=1e-6)
