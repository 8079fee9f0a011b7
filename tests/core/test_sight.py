"""What the page shows of a picture is what the model is given."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from tests.core.test_jobs import settled
from wan_core.condition import fit
from wan_core.ui.sight import sight


def picture_in(page: str) -> Image.Image:
    data = re.search(r"base64,([^\"]+)", page)
    assert data is not None
    return Image.open(io.BytesIO(base64.b64decode(data[1]))).convert("RGB")


def test_the_frame_lies_where_the_crop_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    wide = Image.new("RGB", (400, 200), (200, 30, 30))
    wide.paste((30, 30, 200), (200, 0, 400, 200))
    wide.save(path)
    for across, left in ((0.0, 0.0), (0.6, 35.0), (1.0, 50.0)):
        asked = replace(settled(), width=64, height=64, focal_point=(across, 0.5))
        page = sight(path, asked, "en")
        box = {k: float(v) for k, v in re.findall(r"(left|top|width|height):([\d.]+)%", page)}
        assert box == {"left": left, "top": 0.0, "width": 50.0, "height": 100.0}
        shown = picture_in(page)
        assert shown.size == (400, 200)
        edge = round(4 * left)
        given = np.asarray(fit(wide, (64, 64), "crop", asked.focal_point), int)
        kept = np.asarray(shown.crop((edge, 0, edge + 200, 200)).resize((64, 64)), int)
        assert np.abs(kept - given).mean() < 6  # WebP, and another way to shrink


def test_padding_shows_what_fit_makes(tmp_path: Path) -> None:
    path = tmp_path / "tall.png"
    picture = Image.new("RGB", (210, 420), (10, 90, 200))
    picture.save(path)
    asked = replace(settled(), width=64, height=64, image_fit="pad")
    page = sight(path, asked, "en")
    assert "box" not in page
    given = fit(picture, (64, 64), "pad")
    assert np.abs(np.asarray(picture_in(page).resize((64, 64)), int) - np.asarray(given, int)).mean() < 4
