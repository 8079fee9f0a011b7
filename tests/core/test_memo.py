"""The disk cache: what comes out of it is what would have been computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.core.test_reference import asked, checkpoint, voice
from wan_core.assembly import load
from wan_core.memo import Memo, digest


@pytest.mark.parametrize("kind", ["humo1", "s2v"])
def test_a_kept_voice_gives_the_same_video_as_a_fresh_one(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = checkpoint(tmp_path / "model", kind), tmp_path / "cache"
    request = vars(asked(audio=voice(0.4)))
    plain = load(root, "cpu", torch.float32)(**request).frames
    pipe = load(root, "cpu", torch.float32, cache)
    first = pipe(**request).frames
    assert len(list(cache.iterdir())) == 3  # the prompt, the negative prompt, the voice
    assert pipe.parts.hearing is not None

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the voice was listened to again")

    monkeypatch.setattr(pipe.parts.hearing[1], "forward", fail)
    monkeypatch.setattr(pipe.parts.text_encoder, "forward", fail)
    again = pipe(**request).frames
    assert (plain == first).all()
    assert (plain == again).all()


def test_other_sources_other_names() -> None:
    torch.manual_seed(0)
    one, two = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    wave = np.arange(4, dtype=np.float32)
    names = [
        digest("a", one, wave), digest("b", one, wave), digest("a", two, wave), digest("a", one, wave + 1),
        digest("a", one, wave.reshape(2, 2)), digest("a", one, wave, 25.0), digest("ab"), digest("a", "b"),
    ]  # fmt: skip
    assert len(set(names)) == len(names)
    assert digest("a", one, wave) == names[0]


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    memo = Memo(tmp_path)
    value = memo.recall(lambda: torch.ones(3), "x")
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:20])
    assert torch.equal(memo.recall(lambda: torch.ones(3), "x"), value)
    assert torch.equal(memo.recall(lambda: torch.zeros(3), "x"), value)  # mended, and read again


def test_a_place_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("in the way")
    assert torch.equal(Memo(taken).recall(lambda: torch.ones(3), "x"), torch.ones(3))


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    memo = Memo(tmp_path, limit=2000)
    for name in "abc":
        memo.recall(lambda: torch.zeros(200), name)
    kept = {p.stem for p in tmp_path.iterdir()}
    assert digest("a") not in kept
    assert digest("c") in kept
