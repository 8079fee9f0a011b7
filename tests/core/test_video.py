"""Videos and masks as a model reads them: frame rate, fit, what is kept and what is to be made."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from wan_core.condition.video import Look, footage, look, nothing, played
from wan_core.errors import MediaError

SIZE, FPS = (64, 32), 16
MIDDLE = (0.5, 0.5)


def written(path: Path, frames: np.ndarray, fps: int = FPS) -> Path:
    size = (frames.shape[2], frames.shape[1])
    writer = imageio_ffmpeg.write_frames(str(path), size, fps=fps, macro_block_size=2, quality=9)
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
    return path


def greys(count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Frame k is grey of level 10 k."""
    levels = (10 * np.arange(count, dtype=np.uint8))[:, None, None, None]
    return np.broadcast_to(levels, (count, size[1], size[0], 3)).copy()


def levels(pixels) -> np.ndarray:
    return ((pixels[0].mean((0, 2, 3)) + 1) * 12.75).round().numpy()


@pytest.mark.parametrize("kind", ["array", "file"])
def test_every_frame_is_read_once(kind: str, tmp_path: Path) -> None:
    frames = greys(9)
    source = frames if kind == "array" else written(tmp_path / "x.mp4", frames)
    assert look(source, "video", FPS) == Look(SIZE, 9)
    seen = footage(source, None, SIZE, 9, FPS, "crop", MIDDLE)
    assert levels(seen.pixels).tolist() == list(range(9))
    assert (seen.mask == 1).all()


def test_another_frame_rate(tmp_path: Path) -> None:
    path = written(tmp_path / "x.mp4", greys(17), fps=32)
    assert look(path, "video", FPS).frames in (8, 9)
    seen = footage(path, None, SIZE, 9, FPS, "crop", MIDDLE)
    assert np.abs(levels(seen.pixels)[:8] - 2 * np.arange(8)).max() <= 1


def test_a_video_is_played_to_its_end_and_no_longer_than_a_minute(tmp_path: Path) -> None:
    frames = greys(9)
    for source in (frames, written(tmp_path / "x.mp4", frames)):
        seen = np.stack(list(played(source, "extends", FPS)))
        assert seen.shape == frames.shape
        assert np.abs(seen.mean((1, 2, 3)) - frames.mean((1, 2, 3))).max() < 4
    hour = np.zeros((60 * FPS + 1, 2, 2, 3), np.uint8)
    with pytest.raises(MediaError, match="lasts longer than 60 seconds"):
        list(played(hour, "extends", FPS))
    assert len(list(played(hour[1:], "extends", FPS))) == 60 * FPS


def test_beyond_its_end_everything_is_to_be_made() -> None:
    black = Image.new("RGB", SIZE)
    seen = footage(greys(5) + 50, black, SIZE, 9, FPS, "crop", MIDDLE)
    assert seen.mask[0, 0, :, 0, 0].tolist() == [0] * 5 + [1] * 4
    assert (seen.pixels[:, :, 5:] == 0).all()
    assert (seen.pixels[:, :, :5] != 0).all()


def test_padded_it_is_kept_and_what_is_around_it_made() -> None:
    seen = footage(greys(5, (32, 32)) + 50, None, SIZE, 5, FPS, "pad", MIDDLE)
    inside, outside = np.s_[:, :, :, :, 16:48], np.s_[:, :, :, :, :16]
    assert (seen.mask[inside] == 0).all()
    assert (seen.mask[outside] == 1).all()
    assert (seen.pixels[outside] == 0).all()
    assert (seen.pixels[inside] != 0).all()


def test_a_mask_says_where(tmp_path: Path) -> None:
    mask = np.zeros((5, 32, 64, 3), np.uint8)
    mask[2:, :, 32:] = 255
    for given in (mask, written(tmp_path / "mask.mp4", mask)):
        seen = footage(greys(5), given, SIZE, 5, FPS, "crop", MIDDLE)
        assert (seen.mask[0, 0] == (mask[..., 0] > 127).astype(np.float32)).all()
    picture = tmp_path / "mask.png"
    Image.fromarray(mask[3]).save(picture)
    seen = footage(greys(5), picture, SIZE, 5, FPS, "crop", MIDDLE)
    assert (seen.mask[0, 0] == (mask[3, ..., 0] > 127).astype(np.float32)).all()


def test_a_masks_last_frame_holds_to_the_end() -> None:
    mask = np.zeros((2, 32, 64, 3), np.uint8)
    mask[1, :, 32:] = 255
    seen = footage(greys(5), mask, SIZE, 5, FPS, "crop", MIDDLE)
    assert seen.mask[0, 0, :, 0, 40].tolist() == [0, 1, 1, 1, 1]
    assert seen.mask[0, 0, :, 0, 10].tolist() == [0] * 5


def test_a_crop_keeps_the_focal_point() -> None:
    frames = np.zeros((1, 32, 128, 3), np.uint8)
    frames[:, :, 96:] = 255
    right, left = (footage(frames, None, SIZE, 1, FPS, "crop", (x, 0.5)).pixels for x in (1.0, 0.0))
    assert right.mean() == 0  # half black, half white
    assert left.mean() == -1


def test_nothing_is_known_of_nothing() -> None:
    none = nothing(5, 32, 64)
    assert none.pixels.shape == (1, 3, 5, 32, 64)
    assert (none.mask == 1).all()


@pytest.mark.parametrize("kind", ["text", "cut", "playlist", "missing", "number", "flat", "sound"])
def test_what_is_no_video(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    match kind:
        case "text":
            path.write_text("hello")
        case "cut":
            path.write_bytes(written(tmp_path / "y.mp4", greys(9)).read_bytes()[:300])
        case "playlist":
            path = tmp_path / "x.m3u8"
            path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n")
        case "sound":
            from tests.core.test_audio import wav

            path = wav(tmp_path / "x.wav", 16000, 1, 1.0)
    source = {"number": 7, "flat": np.zeros((4, 4, 3), np.uint8)}.get(kind, path)
    with pytest.raises(MediaError) as caught:
        look(source, "video", FPS)
    assert str(tmp_path) not in str(caught.value)
