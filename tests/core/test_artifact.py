"""Blocks compiled ahead of time: one artifact for all blocks and sizes, and plain blocks wherever it does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.core import test_pipeline as checkpoints
from wan_core import Request, artifact, load
from wan_core.errors import CheckpointError
from wan_core.pipeline import Pipeline
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
    noted = plain_calls(fast)
    for picture in ({}, {"image": checkpoints.picture(1)}):
        request = asked(prompt=prompt, **size, **picture)
        assert (fast.latents(request) - plain.latents(request)).abs().max() <= 1e-4
    assert not noted
    assert "compiled ahead" in fast.backend


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


def test_a_call_that_no_artifact_was_made_for_runs_plain_and_is_told(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    plain, fast = opened(folders, False), opened(folders, folders[1])
    both = asked(guidance_scale=4.0, width=32, num_frames=5)  # two branches in one batch
    assert (fast.latents(both) - plain.latents(both)).abs().max() <= 1e-4  # prompts are padded further
    assert "no artifact was made for this call" in caplog.text
    assert len(caplog.records) == 1


def test_artifacts_of_another_machine_are_not_taken(
    folders: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    about = json.loads((folders[1] / artifact.CONTENTS).read_text())
    about["machine"]["device"] = "cuda sm_90"
    (tmp_path / artifact.CONTENTS).write_text(json.dumps(about))
    plain, fast = opened(folders, False), opened(folders, tmp_path)
    assert torch.equal(fast.latents(asked()), plain.latents(asked()))
    assert "they are for torch" in caplog.text
    started = next(event for event in fast.run(asked()) if isinstance(event, Started))
    assert "compiled" not in started.backend


def test_a_damaged_artifact_is_not_taken(
    folders: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    about = json.loads((folders[1] / artifact.CONTENTS).read_text())
    for name in about["files"].values():
        (tmp_path / name).write_bytes((folders[1] / name).read_bytes()[:1000])
    (tmp_path / artifact.CONTENTS).write_text(json.dumps(about))
    plain, fast = opened(folders, False), opened(folders, tmp_path)
    assert torch.equal(fast.latents(asked()), plain.latents(asked()))
    assert "are not taken" in caplog.text
    assert str(tmp_path) not in caplog.text
    assert "compiled" not in fast.backend


@pytest.mark.parametrize("text", [None, "{", "[]", '{"machine": {}, "files": {}}', '{"files": {"a": "b"}}'])
def test_a_folder_without_artifacts_is_refused(folders: tuple[Path, Path], tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / artifact.CONTENTS).write_text(text)
    with pytest.raises(CheckpointError, match=tmp_path.name):
        opened(folders, tmp_path)
