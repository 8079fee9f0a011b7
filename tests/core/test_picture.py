"""Pictures as people have them: readable ones fit the frame, others are refused with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wan_core.condition import fit, open_picture
from wan_core.condition.i2v import frame_mask
from wan_core.condition.picture import to_tensor
from wan_core.errors import MediaError
from wan_core.framing import crop_box, sizes


def test_a_text_file_named_png(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("not a picture")
    with pytest.raises(MediaError, match="not a picture; use PNG, JPEG or WebP") as caught:
        open_picture(path, "image")
    assert str(tmp_path) not in str(caught.value)


def test_a_picture_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    Image.effect_noise((300, 300), 60).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(MediaError, match="damaged or cut short"):
        open_picture(path, "image")


def test_a_hundred_megapixels_are_refused_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (10_000, 10_000)).save(path)
    with pytest.raises(MediaError, match="at most 50 megapixels"):
        open_picture(path, "image")


OTHERS = [42, np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), Path("/nowhere/x.png")]


@pytest.mark.parametrize("bad", OTHERS)
def test_other_things_are_refused(bad) -> None:
    with pytest.raises(MediaError, match="image"):
        open_picture(bad, "image")


def test_transparency_becomes_white_and_exif_turns_upright(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert open_picture(clear, "image").getpixel((3, 3)) == (255, 255, 255)
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    assert open_picture(path, "image").size == (20, 40)


def test_crop_keeps_the_focal_point_in_view() -> None:
    assert crop_box((400, 200), (100, 100), (0.5, 0.5)) == (100, 0, 300, 200)
    assert crop_box((400, 200), (100, 100), (0.0, 0.9)) == (0, 0, 200, 200)
    assert crop_box((400, 200), (100, 100), (1.0, 0.5)) == (200, 0, 400, 200)


def test_crop_and_pad_give_the_exact_size() -> None:
    left_red = Image.new("RGB", (400, 100), "blue")
    left_red.paste("red", (0, 0, 100, 100))
    assert fit(left_red, (64, 64), "crop", (0.0, 0.5)).getpixel((32, 32))[0] > 200
    padded = fit(left_red, (64, 64), "pad")
    assert padded.size == (64, 64)
    assert padded.getpixel((32, 2)) == (255, 255, 255)
    assert padded.getpixel((4, 32))[0] > 200


def test_tensor_range() -> None:
    tensor = to_tensor(Image.new("RGB", (4, 2), (255, 0, 128)))
    assert tensor.shape == (1, 3, 2, 4)
    assert tensor[0, :, 0, 0].tolist() == pytest.approx([1.0, -1.0, 128 / 127.5 - 1], abs=1e-5)


def test_frame_mask_of_81_frames() -> None:
    mask = frame_mask(81, (2, 3), last=False)
    assert mask.shape == (1, 4, 21, 2, 3)
    assert mask[0, :, 0].min() == 1
    assert mask[0, :, 1:].max() == 0
    both = frame_mask(81, (2, 3), last=True)
    assert both[0, :, -1, 0, 0].tolist() == [0, 0, 0, 1]
    assert both.sum() - mask.sum() == 6


@pytest.mark.parametrize(("usual", "longest"), [((832, 480), 1280), ((1280, 704), 1280), ((128, 128), 128)])
def test_shapes_have_the_usual_area_and_fit_every_grid(usual: tuple[int, int], longest: int) -> None:
    for width, height in sizes(usual, longest).values():
        assert width % 32 == height % 32 == 0
        assert 32 <= max(width, height) <= longest
        assert width * height <= usual[0] * usual[1]
