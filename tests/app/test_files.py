"""From request to file: the writer, the command line, one line of Python, and what a failure leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

import wan_core
from tests.app.conftest import ROOT
from wan_core.__main__ import main
from wan_core.errors import Cancelled, OutputError
from wan_core.studio.media import VideoWriter
from wan_core.studio.produce import produce
from wan_core.types import Done, Frames, Preview, Progress, Request

QUICK = {"num_inference_steps": 3, "num_frames": 9, "seed": 4}


@pytest.fixture(scope="module")
def pipe() -> wan_core.Pipeline:
    return wan_core.load(wan_core.BUILT_IN, "cpu")


def command(*words: str, **options) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    line = [sys.executable, "-m", "wan_core", *words]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, **options)


def test_written_frames_come_back(tmp_path: Path) -> None:
    frames = np.zeros((5, 64, 48, 3), np.uint8)
    for i in range(5):
        frames[i, :, :, i % 3] = 200
    with VideoWriter(tmp_path / "a.mp4", 48, 64, 16, {"seed": 7, "prompt": "赤い星"}) as writer:
        writer.write(frames[:2])
        writer.write(frames[2:])
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "a.mp4"))
    meta = next(reader)
    back = np.stack([np.frombuffer(f, np.uint8).reshape(64, 48, 3) for f in reader])
    assert meta["size"] == (48, 64)
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 6
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    line = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(tmp_path / "a.mp4")]
    probe = subprocess.run(line, capture_output=True, check=False)  # without an output it ends with an error
    assert '"prompt": "赤い星"' in probe.stderr.decode()


def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="halfway"), VideoWriter(tmp_path / "a.mp4", 48, 64, 16) as writer:
        writer.write(np.zeros((2, 64, 48, 3), np.uint8))
        raise RuntimeError("halfway")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "said"), [
    ("clip.avi", "try clip.mp4"), ("no/such/clip.mp4", "make the folder 'such' first"),
])  # fmt: skip
def test_places_that_cannot_take_a_video(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=said) as caught:
        VideoWriter(tmp_path / name, 48, 64, 16)
    assert str(tmp_path) not in str(caught.value)


def test_a_full_disk(tmp_path: Path) -> None:
    """A file-size limit stands in for the full disk: the encoder cannot go on writing."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from wan_core.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / "x.mp4"
    words = ["text", "a red ball", "--steps", "2", "--seed", "1", "--out", str(out)]
    line = [sys.executable, "-W", "ignore", "-c", code, *words]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "no room left" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_events_in_order(pipe: wan_core.Pipeline, tmp_path: Path) -> None:
    events = list(produce(pipe, Request("a red ball", **QUICK), tmp_path / "x.mp4"))
    phases = [e.phase for e in events if isinstance(e, Progress)]
    assert phases == sorted(phases, key=["encode", "denoise", "decode"].index)
    assert [e.step for e in events if isinstance(e, Progress) and e.phase == "denoise"] == [1, 2, 3]
    assert isinstance(events[-1], Done)
    assert events[-1].settled.seed == 4
    assert sum(len(e.pixels) for e in events if isinstance(e, Frames)) == 9
    assert [p.name for p in tmp_path.iterdir()] == ["x.mp4"]


def test_previews_arrive_while_denoising(pipe: wan_core.Pipeline) -> None:
    steps = {"num_inference_steps": 40, "seed": 1}
    shown = [e for e in pipe.run(Request("a red ball", **steps)) if isinstance(e, Preview)]
    assert shown
    assert shown[0].frames.shape == (9, 8, 8, 3)


@pytest.mark.parametrize("after", ["denoise", "decode"])
def test_cancel_takes_effect_within_one_step(pipe: wan_core.Pipeline, tmp_path: Path, after: str) -> None:
    seen: list[Progress] = []

    def cancelled() -> bool:
        return bool(seen) and seen[-1].phase == after

    with pytest.raises(Cancelled):
        for event in produce(pipe, Request("a red ball", **QUICK), tmp_path / "x.mp4", cancelled):
            if isinstance(event, Progress):
                seen.append(event)
    assert [e.phase for e in seen].count(after) == 1
    assert list(tmp_path.iterdir()) == []


def test_closing_the_events_cleans_up(pipe: wan_core.Pipeline, tmp_path: Path) -> None:
    events = produce(pipe, Request("a red ball", **QUICK), tmp_path / "x.mp4")
    while not (isinstance(event := next(events), Progress) and event.phase == "decode"):
        pass
    events.close()
    assert list(tmp_path.iterdir()) == []


def test_one_line_of_python(pipe: wan_core.Pipeline, tmp_path: Path) -> None:
    path = pipe(prompt="a red ball", **QUICK).save(tmp_path / "x.mp4")
    assert imageio_ffmpeg.count_frames_and_secs(str(path))[0] == 9


def test_command_line(tmp_path: Path) -> None:
    out = tmp_path / "x.mp4"
    done = command("text", "a blue star", "--steps", "2", "--seconds", "1", "--seed", "3", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "seed 3" in done.stderr
    assert imageio_ffmpeg.count_frames_and_secs(str(out))[0] == 17


@pytest.mark.parametrize(("words", "said"), [
    (["text", "", "--out", "x.mp4"], "prompt"),
    (["text", "a ball", "--frames", "80", "--out", "x.mp4"], "num_frames 80"),
    (["text", "a ball", "--steps", "0", "--out", "x.mp4"], "try 1"),
    (["text", "a ball", "--guidance", "nan", "--out", "x.mp4"], "guidance_scale nan"),
    (["text", "a ball", "--model", "nowhere/at/all", "--out", "x.mp4"], "no such folder"),
    (["image", "a ball", "--image", "README.md", "--out", "x.mp4"], "not a picture"),
])  # fmt: skip
def test_command_line_errors(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(tmp_path / w) if w == "x.mp4" else w for w in words]
    assert main(words) == 1  # a process of its own for each would only import torch once more
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_fails_says_so_to_the_shell(tmp_path: Path) -> None:
    done = command("text", "a ball", "--frames", "80", "--out", str(tmp_path / "x.mp4"))
    assert done.returncode == 1
    assert "num_frames 80" in done.stderr
    assert "try 33" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_seed_is_bit_identical_in_two_processes() -> None:
    code = (
        "import hashlib, json, wan_core;"
        "pipe = wan_core.load(wan_core.BUILT_IN, 'cpu');"
        "clip = pipe(prompt='a red star bouncing on grass', num_inference_steps=6, seed=9);"
        "print(json.dumps(hashlib.sha256(clip.frames.tobytes()).hexdigest()))"
    )
    line = [sys.executable, "-W", "ignore", "-c", code]
    runs = [subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True) for _ in range(2)]
    first, second = (json.loads(r.stdout.splitlines()[-1]) for r in runs)
    assert first == second
