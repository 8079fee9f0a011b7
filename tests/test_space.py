"""What a Hugging Face Space needs of the repository, checked without a network."""

from __future__ import annotations

import re
from pathlib import Path

import gradio
import yaml

ROOT = Path(__file__).resolve().parents[1]
COLOURS = {"red", "orange", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def front_matter() -> dict:
    return yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---")[1])


def test_front_matter() -> None:
    card = front_matter()
    assert card["sdk"] == "gradio"
    assert card["sdk_version"] == gradio.__version__
    assert card["python_version"] == "3.12"  # quoted: 3.10 without quotes is the number 3.1
    assert (ROOT / card["app_file"]).exists()
    assert len(card["short_description"]) <= 60
    assert {card["colorFrom"], card["colorTo"]} <= COLOURS
    assert card["license"] == "apache-2.0"


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    found = (re.match(r"([A-Za-z0-9_.-]+)(.*)", line.split("#")[0].strip()) for line in lines)
    return {m[1].lower().replace("_", "-"): m[2] for m in found if m}


def test_requirements_are_ranges_and_the_lock_pins_all_of_them() -> None:
    wanted, lock = pins("requirements.txt"), pins("requirements.lock")
    assert "kernels" not in wanted
    assert "kernels" not in lock
    assert all(">=" in spec and "==" not in spec for spec in wanted.values())
    assert wanted.keys() <= lock.keys()
    assert all(spec.startswith("==") for spec in lock.values())


def test_torch_range_spans_zerogpu_and_the_lock() -> None:
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    allowed = SpecifierSet(pins("requirements.txt")["torch"])
    for version in ("2.8.0", "2.9.1", "2.10.0", "2.11.0", pins("requirements.lock")["torch"].removeprefix("==")):
        assert Version(version) in allowed
