"""Videos say that a model made them, and the statement is read back; hostile files say nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.core.test_reference import decoded
from wan_core.errors import MediaError
from wan_core.studio.credentials import Signing
from wan_core.studio.media import VideoWriter
from wan_core.studio.provenance import COMPOSITE, GENERATED, XMP_BOX, verify

RECIPE = {"prompt": 'a "red" star; 100 % = all #1 \\ 星', "seed": 7, "mode": "text"}


def video(path: Path, signing: Signing | None = None, **changes: Any) -> Path:
    with VideoWriter(path, 32, 32, 16, RECIPE | changes, signing=signing) as writer:
        writer.write(np.full((5, 32, 32, 3), 90, np.uint8))
    return path


@pytest.mark.parametrize(("mode", "kind"), [("text", GENERATED), ("image", COMPOSITE), ("reference", COMPOSITE)])
def test_a_video_says_how_it_was_made(tmp_path: Path, mode: str, kind: str) -> None:
    said = verify(video(tmp_path / "x.mp4", mode=mode))
    assert said.ai_generated
    assert (said.source_type, said.tool) == (kind, "Wan Atelier")
    assert said.recipe == RECIPE | {"mode": mode}


def test_a_marked_video_still_plays(tmp_path: Path) -> None:
    path = video(tmp_path / "x.mp4")
    assert len(decoded(path, "-f", "rawvideo", "-pix_fmt", "gray")) == 5 * 32 * 32


def test_a_video_without_a_statement_says_nothing(tmp_path: Path) -> None:
    path = video(tmp_path / "x.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(XMP_BOX) - 8])
    said = verify(path)
    assert not said.ai_generated
    assert said.recipe == RECIPE


@pytest.mark.parametrize("packet", [
    b"", b"<broken", b'<!DOCTYPE x [<!ENTITY a "b">]><x/>', b"\xff\xfe\x00", b"<x>" * 50_000,
])  # fmt: skip
def test_hostile_packets_say_nothing(tmp_path: Path, packet: bytes) -> None:
    path = video(tmp_path / "x.mp4")
    data = path.read_bytes()
    box = (24 + len(packet)).to_bytes(4, "big") + b"uuid" + XMP_BOX + packet
    path.write_bytes(data[: data.index(XMP_BOX) - 8] + box)
    assert not verify(path).ai_generated


@pytest.mark.parametrize("content", [b"", b"short", b"not an mp4 at all, but long enough", bytes(64)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match="not an mp4"):
        verify(path)
    with pytest.raises(MediaError, match="cannot be read"):
        verify(tmp_path / "missing.mp4")
