"""Blocks compiled ahead of time: one artifact for all blocks and sizes, and plain blocks wherever it does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.core import test_pipeline as checkpoints
from tests.core import test_reference as reference
from tests.core import test_vace
from wan_core import Request, artifact, load
from wan_core.errors import CheckpointError
from wan_core.offload import Bus, Lane
from wan_core.ops import Slicing
from wan_core.pipeline import Pipeline
from wan_core.specs import ARTIFACTS
from wan_core.types import Started
from wan_core.weights.lora import listed

PROMPTS = ("a ball", "a much longer prompt " * 9)


def asked(**extra: Any) -> Request:
    usual = {"prompt": "a ball", "width": 64, "height": 32, "num_frames": 9, "num_inference_steps": 3, "seed": 1}
    return Request(**usual | {"guidance_scale": 1.0} | extra)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint of the TI2V kind, and artifacts made of two small requests to it, one a mode."""
    model, made = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("artifacts")
    checkpoints.checkpoint("ti2v").save_pretrained(model)
    pipe = load(model, "cpu", torch.float32, compiled=False)

    def run() -> None:
        for picture in ({}, {"image": checkpoints.picture(1)}):
            pipe.latents(asked(num_inference_steps=1, **picture))

    assert len(artifact.build(pipe.parts.experts, run, made, pipe.device)) == 2
    return model, made


def opened(folders: tuple[Path, Path], how: bool | Path) -> Pipeline:
    return load(folders[0], "cpu", torch.float32, compiled=how)


def plain_calls(pipe: Pipeline) -> list[str]:
    """Notes whenever a block's own code runs."""
    noted: list[str] = []
    for number, block in enumerate(pipe.parts.experts[0].blocks):
        original = block.forward

        def forward(*given: Any, own: Any = original, number: int = number) -> Any:
            noted.append(str(number))
            return own(*given)

        block.forward = forward
    return noted


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("size", [{"width": 64, "num_frames": 9}, {"width": 96, "num_frames": 17}])
def test_one_artifact_a_mode_serves_every_size_prompt_and_block(
    folders: tuple[Path, Path], size: dict[str, int], prompt: str
) -> None:
    plain, fast = opened(folders, False), opened(folders, folders[1])
    assert "compiled" not in fast.backend  # before its device was seen
    noted = plain_calls(fast)
    for picture in ({}, {"image": checkpoints.picture(1)}):
        request = asked(prompt=prompt, **size, **picture)
        assert (fast.latents(request) - plain.latents(request)).abs().max() <= 1e-4
    assert not noted
    assert "compiled ahead" in fast.backend


def opened_as(name: str, folder: Path) -> tuple[Pipeline, Request, dict[str, Any]]:
    """A model of a kind, a request to it, and what makes a larger one of that."""
    if name in ("humo1", "s2v"):
        pipe = load(reference.checkpoint(folder, name), "cpu", torch.float32)
        return pipe, reference.asked(audio=reference.voice(0.6), guidance_scale=1.0), {"width": 128}
    peer = test_vace.checkpoint(2) if name == "vace" else checkpoints.checkpoint(name, 2 if name == "t2v" else 1)
    pipe = checkpoints.ours(peer, folder)
    picture = {"image": checkpoints.picture(1)} if name == "clip" else {}
    return pipe, asked(num_inference_steps=1, **picture), {"width": 96, "num_frames": 17, "prompt": PROMPTS[1]}


@pytest.mark.parametrize("name", ["t2v", "clip", "vace", "humo1", "s2v"])
def test_blocks_of_every_family_are_exported_for_any_size(name: str, tmp_path: Path) -> None:
    """Up to the compiler, which takes long and knows nothing of families."""
    pipe, small, more = opened_as(name, tmp_path)
    first, other = (
        artifact.calls(pipe.parts.experts, lambda some=some: pipe.latents(some))
        for some in (small, replace(small, **more))
    )
    assert first.keys() == other.keys()
    assert len(first) == (3 if name == "vace" else 1)  # the first block of its branch has a weight more
    for found, (block, given) in first.items():
        program = artifact.export(block, given).module()
        for one, call in ((block, given), other[found]):
            with torch.no_grad():
                mine = program([*one.parameters()], [tensor for tensor, _ in artifact.inputs(call)])
                assert (mine - one(*call)).abs().max() <= 1e-5


def test_loras_are_seen_by_an_artifact(folders: tuple[Path, Path], tmp_path: Path) -> None:
    fast = opened(folders, folders[1])
    before, noted = fast.latents(asked()), plain_calls(fast)
    weight = fast.parts.experts[0].blocks[1].attn1.to_q.weight
    halves = {"lora_A": torch.randn(4, weight.shape[1]), "lora_B": torch.randn(weight.shape[0], 4)}
    save_file({f"blocks.1.attn1.to_q.{name}.weight": half for name, half in halves.items()}, tmp_path / "a.safetensors")
    fast.use(listed(str(tmp_path / "a.safetensors")))
    assert (fast.latents(asked()) - before).abs().max() > 1e-3
    fast.use([])
    assert torch.equal(fast.latents(asked()), before)
    assert not noted


def test_blocks_that_pass_through_slots_take_the_same_artifact(folders: tuple[Path, Path]) -> None:
    fast = opened(folders, folders[1])
    expected, noted = fast.latents(asked()), plain_calls(fast)
    experts = fast.parts.experts
    lane = Lane([list(experts[0].blocks)], 2, Bus(torch.device("cpu")))
    experts[0].walk = lane.walk
    assert torch.equal(fast.latents(asked()), expected)
    lane.close()
    assert not noted


def test_sliced_blocks_run_as_they_are_and_say_so(folders: tuple[Path, Path]) -> None:
    plain, fast = opened(folders, False), opened(folders, folders[1])
    for pipe in (plain, fast):
        pipe.parts.experts[0].slicing = Slicing(feed_forward=1000)
    assert torch.equal(fast.latents(asked()), plain.latents(asked()))
    assert "compiled" not in fast.backend
    fast.parts.experts[0].slicing = Slicing()
    fast.latents(asked())
    assert "compiled ahead" in fast.backend


def test_a_call_that_no_artifact_was_made_for_runs_plain_and_is_told(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    plain, fast = opened(folders, False), opened(folders, folders[1])
    both = asked(guidance_scale=4.0, width=32, num_frames=5)  # two branches in one batch
    assert (fast.latents(both) - plain.latents(both)).abs().max() <= 1e-4  # prompts are padded further
    assert "no artifact was made for this call" in caplog.text
    assert len(caplog.records) == 1
    assert "in part" in fast.backend


def test_artifacts_of_other_models_are_not_taken(
    folders: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    about = json.loads((folders[1] / ARTIFACTS).read_text())
    about["files"] = {"WanBlock 0" + found[10:]: name for found, name in about["files"].items()}
    (tmp_path / ARTIFACTS).write_text(json.dumps(about))
    fast = opened(folders, tmp_path)
    fast.latents(asked())
    assert "other models" in caplog.text
    assert "compiled" not in fast.backend


def test_artifacts_of_another_machine_are_not_taken(
    folders: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    about = json.loads((folders[1] / ARTIFACTS).read_text())
    about["machine"]["device"] = "cuda sm_90"
    (tmp_path / ARTIFACTS).write_text(json.dumps(about))
    plain, fast = opened(folders, False), opened(folders, tmp_path)
    assert torch.equal(fast.latents(asked()), plain.latents(asked()))
    assert "they are for torch" in caplog.text
    started = next(event for event in fast.run(asked()) if isinstance(event, Started))
    assert "compiled" not in started.backend


def test_a_damaged_artifact_is_not_taken(
    folders: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    about = json.loads((folders[1] / ARTIFACTS).read_text())
    for name in about["files"].values():
        (tmp_path / name).write_bytes((folders[1] / name).read_bytes()[:1000])
    (tmp_path / ARTIFACTS).write_text(json.dumps(about))
    plain, fast = opened(folders, False), opened(folders, tmp_path)
    assert torch.equal(fast.latents(asked()), plain.latents(asked()))
    assert "are not taken" in caplog.text
    assert str(tmp_path) not in caplog.text
    assert "compiled" not in fast.backend


@pytest.mark.parametrize("text", [None, "{", "[]", '{"machine": {}, "files": {}}', '{"files": {"a": "b"}}'])
def test_a_folder_without_artifacts_is_refused(folders: tuple[Path, Path], tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / ARTIFACTS).write_text(text)
    with pytest.raises(CheckpointError, match=tmp_path.name):
        opened(folders, tmp_path)
