"""What the page shows of a picture is what the model is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from tests.core.test_jobs import settled
from wan_core.condition import fit
from wan_core.ui.sight import DIM, sight


def test_a_crop_is_bright_and_the_rest_is_dim(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.new("RGB", (400, 200), (200, 200, 200)).save(path)
    shown = np.asarray(sight(path, replace(settled(), width=64, height=64, focal_point=(0.0, 0.5))))
    assert shown.shape == (200, 400, 3)
    assert (shown[:, :200] == 200).all()
    assert (shown[:, 201:] == round(200 * DIM)).all()


def test_padding_shows_what_fit_makes(tmp_path: Path) -> None:
    path = tmp_path / "tall.png"
    picture = Image.new("RGB", (210, 420), (10, 90, 200))
    picture.save(path)
    asked = replace(settled(), width=64, height=64, image_fit="pad")
    shown = sight(path, asked)
    given = fit(picture, (64, 64), "pad")
    assert np.abs(np.asarray(shown.resize((64, 64)), int) - np.asarray(given, int)).mean() < 2
