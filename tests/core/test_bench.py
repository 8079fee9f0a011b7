"""The benchmark's own arithmetic; what it measures is no test's business."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import torch

from wan_core import bench


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


def test_an_unknown_case_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wan_core.bench", "dit-7"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no case is called dit-7; there are dit-1280" in done.stderr
