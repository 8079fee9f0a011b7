"""Downloads, from a hub on this machine: what is fetched, what is told, what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from tests.core import test_pipeline as checkpoints
from tests.core.hub import COMMIT, Hub, serving
from wan_core import load
from wan_core.errors import CheckpointError
from wan_core.weights import hub as ours
from wan_core.weights.describe import describe
from wan_core.weights.hub import find

MODEL = "somebody/wan-small"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one model, and an empty cache."""
    checkpoints.checkpoint("t2v").save_pretrained(tmp_path / "hub" / MODEL)
    with serving(tmp_path / "hub") as server:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(ours, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield server


def sent(hub: Hub) -> set[str]:
    return {name for name, _ in hub.asked}


def test_a_model_is_known_before_its_weights_are_here(hub: Hub) -> None:
    spec = describe(MODEL)
    assert spec.name == "wan2.1-t2v-1.3b"
    assert spec.revision == COMMIT[:12]
    assert not any(name.endswith(".safetensors") for name in sent(hub))


def test_a_download_is_whole_is_told_and_happens_once(hub: Hub) -> None:
    heard: list[tuple[int, int]] = []
    root = find(MODEL, watch=lambda done, of: heard.append((done, of)))
    published = [p for p in (hub.folder / MODEL).rglob("*") if p.is_file()]
    assert heard[-1][0] == heard[-1][1] == sum(p.stat().st_size for p in published)
    assert sent(hub) == {p.name for p in published}
    pipe = load(MODEL, "cpu", torch.float32)
    assert pipe.spec.revision == COMMIT[:12] == root.folder.name[:12]
    assert len([n for n, _ in hub.asked if n == "diffusion_pytorch_model.safetensors"]) == 2  # transformer and VAE


def test_what_broke_off_is_gone_on_with(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cut = 5000
    find(MODEL)
    assert any(begin > 0 for _, begin in hub.asked)
    assert describe(MODEL).name == "wan2.1-t2v-1.3b"
    load(MODEL, "cpu", torch.float32)


def test_a_revision_can_be_named(hub: Hub) -> None:
    assert find(f"{MODEL}@{COMMIT}").folder.name == COMMIT
    with pytest.raises(CheckpointError, match="cannot be downloaded now"):
        find(f"{MODEL}@nowhere")
    with pytest.raises(CheckpointError, match="there is no such repository"):
        find("somebody/nothing")


def test_without_a_network_what_was_downloaded_still_loads(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = find(MODEL).folder
    monkeypatch.setattr(ours, "ENDPOINT", "http://127.0.0.1:9")
    assert find(MODEL).folder == folder
    with pytest.raises(CheckpointError, match="not on this machine and cannot be downloaded now") as caught:
        find("somebody/else")
    assert str(folder.parent.parent.parent) not in str(caught.value)


def test_a_full_disk_is_told_before_anything_is_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    describe(MODEL)
    before = len(hub.asked)
    monkeypatch.setattr(ours, "SPARE", 10**18)
    with pytest.raises(CheckpointError, match=r"GB are to be downloaded and .* GB are free on the disk"):
        find(MODEL)
    assert len(hub.asked) == before


def test_a_repository_of_something_else(hub: Hub) -> None:
    (hub.folder / "somebody" / "poems").mkdir()
    (hub.folder / "somebody" / "poems" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds no Wan model"):
        find("somebody/poems")
