"""The benchmark's own arithmetic; what it measures is no test's business."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import torch

from wan_core import bench, chart


def test_ways_are_timed_in_turn_and_divided_by_the_peer() -> None:
    turns: list[str] = []
    case = bench.Case({"ours": lambda: turns.append("ours"), "peer": lambda: turns.append("peer")}, "peer", flops=1e9)
    case.run(3)
    timed = turns[2:8]  # after one run each that does not count, before the runs that measure memory
    assert turns.count("ours") == turns.count("peer") == 1 + 3 + 1
    assert all(set(pair) == {"ours", "peer"} for pair in zip(timed[::2], timed[1::2], strict=True))
    case.seconds = {"ours": [1.0, 9.0, 2.0], "peer": [4.0, 4.0, 5.0]}
    ours, peer = case.rows()
    assert (ours["seconds"], ours["ratio"], peer["ratio"]) == (2.0, 0.5, 1.0)


def test_memory_beside_what_stood_before() -> None:
    assert 90e6 < bench.peak(lambda: torch.ones(100_000_000, dtype=torch.uint8).max()) < 200e6


def test_figures_are_appended(tmp_path: Path) -> None:
    for number in range(2):
        bench.append(tmp_path / "x.csv", [{"case": "a", "seconds": number}])
    with (tmp_path / "x.csv").open() as file:
        assert [row["seconds"] for row in csv.DictReader(file)] == ["0", "1"]


def test_the_latest_figures_are_drawn(tmp_path: Path) -> None:
    facts = {"machine": "a <machine>", "type": "float32"}
    for ratio in (0.9, 0.25):
        rows = [{"case": "clip", "way": "ours", "seconds": 1.5, "ratio": ratio} | facts]
        bench.append(tmp_path / "x.csv", rows)
    picture = chart.draw(chart.read(tmp_path / "x.csv"))
    root = ElementTree.fromstring(picture)
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "0.25  (1.50 s)" in words
    assert not any("0.90" in (word or "") for word in words)
    bar = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("fill") == chart.OURS]
    assert [rect.get("width") for rect in bar] == [str(round(chart.SCALE * 0.25))]


def test_an_unknown_case_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wan_core.bench", "dit-7"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no case is called dit-7; there are dit-1280" in done.stderr
