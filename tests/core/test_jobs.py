"""Jobs as folders: written whole, taken in turns, stopped, tried again, and never lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wan_core.errors import DeviceError, FaultError, MediaError, OutputError, RequestError
from wan_core.studio.jobs import DAMAGED, Jobs, Status
from wan_core.studio.ledger import Ledger
from wan_core.studio.queue import Queue
from wan_core.studio.work import NO_ROOM, TRIES, carry_out
from wan_core.types import CancelCheck, Denoised, Done, Event, Frames, Kept, Preview, Progress, Request, Settled

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 30


def settled(seed: int = 1) -> Settled:
    return Settled("a", "", 16, 16, 5, 3, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0, "unipc", seed, 16, "text", "crop", (0.5, 0.5))


def produce(request: Request, path: Path, cancelled: CancelCheck, kept: Kept) -> Generator[Event, None, None]:
    """A video of numbers: its latents are its seed, unless some were kept."""
    from wan_core.errors import Cancelled

    yield Progress("encode", 1, 1)
    latents = kept.get(0)
    if latents is None:
        for step in range(3):
            if cancelled():
                raise Cancelled("stopped")
            yield Progress("denoise", step + 1, 3)
        yield Preview(np.zeros((2, 4, 4, 3), np.uint8), 2)
        latents = np.full((1, 2), request.seed, np.float32)
        yield Denoised(latents, 0)
    if (path.parent / "full").exists():
        raise OutputError("video.mp4: there is no room left to write it")
    path.write_text(str(latents[0, 0]))
    yield Frames(np.zeros((4, 16, 16, 3), np.uint8))
    yield Progress("decode", 1, 1)
    yield Done(settled(request.seed or 0), 0.5)


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_request_comes_back_as_it_was(jobs: Jobs, tmp_path: Path) -> None:
    picture, voice = tmp_path / "Ä photo.PNG", tmp_path / "voice.wav"
    Image.new("RGB", (8, 8), "red").save(picture)
    voice.write_bytes(b"RIFF")
    asked = Request("a \N{SNOWMAN}", reference_images=(picture, picture), audio=voice, seed=7, focal_point=(0.2, 0.3))
    job = jobs.create(asked, "me")
    back = jobs.request(job)
    assert back.as_json() == asked.as_json()
    assert [Path(p).read_bytes() for p in back.reference_images] == [picture.read_bytes()] * 2
    assert Path(back.audio).read_bytes() == b"RIFF"
    assert (jobs.card(job).mode, jobs.card(job).visitor) == ("reference", "me")
    assert jobs.status(job) == Status()


def test_what_cannot_be_copied_leaves_no_job(jobs: Jobs, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        jobs.create(Request("a", image=tmp_path / "gone.png"))
    with pytest.raises(MediaError, match="give a path"):
        jobs.create(Request("a", image=np.zeros((4, 4, 3), np.uint8)))
    assert list(jobs.root.iterdir()) == []


@pytest.mark.parametrize("job", ["", "..", "x" * 32, "0" * 32, "../" + "0" * 29, "A" * 32])
def test_unknown_ids_are_refused(jobs: Jobs, job: str) -> None:
    for call in (jobs.status, jobs.request, jobs.cancel, jobs.card):
        with pytest.raises(RequestError, match="not known here"):
            call(job)


def test_time_left_counts_every_clip(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clips of five steps, a second a step: what is told is never far from what is left."""
    clock = [0.0]
    monkeypatch.setattr("wan_core.studio.work.time.monotonic", lambda: clock[0])
    job, told = jobs.create(Request("a", seed=4)), []

    def two_clips(request: Request, path: Path, *_: object) -> Generator[Event, None, None]:
        for clip in range(2):
            for step in range(1, 6):
                clock[0] += 1
                yield Progress("denoise", step, 5, clip, 2)
                told.append((10 - clock[0], jobs.status(job).seconds_left))
        path.write_text("made")
        yield Done(settled(4), 10.0)

    carry_out(jobs, job, two_clips)
    assert told[0][1] is None
    assert all(left is not None and abs(left - true) < 2 for true, left in told[1:]), told


def test_a_job_from_its_folder_to_its_video(jobs: Jobs) -> None:
    job = jobs.create(Request("a", seed=4))
    carry_out(jobs, job, produce)
    status, names = jobs.status(job), {path.name for path in jobs.folder(job).iterdir()}
    assert (status.phase, status.seed, status.share, status.previews, status.tries) == ("done", 4, 1.0, 1, 1)
    assert "seed 4" in status.message
    assert names >= {"recipe.json", "status.json", "video.mp4", "poster.webp", "preview.webp"}
    assert not any(name.startswith("latents") for name in names)
    carry_out(jobs, job, produce)  # an id that a queue holds twice
    assert jobs.status(job).tries == 1


def test_a_failed_decode_is_tried_again_without_denoising(jobs: Jobs) -> None:
    job = jobs.create(Request("a", seed=4))
    (jobs.folder(job) / "full").touch()
    carry_out(jobs, job, produce)
    assert (jobs.status(job).phase, "no room" in jobs.status(job).message) == ("failed", True)
    assert jobs.kept(job)[0].tolist() == [[4.0, 4.0]]
    (jobs.folder(job) / "full").unlink()
    steps: list[str] = []

    def watched(*args) -> Generator[Event, None, None]:
        for event in produce(*args):
            steps.append(type(event).__name__ + getattr(event, "phase", ""))
            yield event

    jobs.again(job)
    carry_out(jobs, job, watched)
    assert jobs.status(job).phase == "done"
    assert "Progressdenoise" not in steps
    assert jobs.kept(job) == {}
    with pytest.raises(RequestError, match="is done"):
        jobs.again(job)


def test_faults_of_ours_are_not_told_in_their_words(jobs: Jobs) -> None:
    def broken(*_) -> Generator[Event, None, None]:
        raise ValueError("/root/secret")
        yield  # a generator, as real ones are

    job = jobs.create(Request("a"))
    carry_out(jobs, job, broken)
    assert jobs.status(job).message == str(FaultError())
    assert (jobs.status(job).error or {})["code"] == "internal"


def test_cancel_before_and_in_the_middle(jobs: Jobs) -> None:
    early = jobs.create(Request("a"))
    jobs.cancel(early)
    assert jobs.status(early).phase == "stopped"
    late = jobs.create(Request("b"))

    def halfway(request: Request, path: Path, cancelled: CancelCheck, kept: Kept) -> Generator[Event, None, None]:
        for event in produce(request, path, cancelled, kept):
            yield event
            if isinstance(event, Progress) and event.phase == "denoise":
                jobs.cancel(late)

    carry_out(jobs, late, halfway)
    assert (jobs.status(late).phase, jobs.status(late).step) == ("stopped", 1)
    assert not (jobs.folder(late) / "video.mp4").exists()
    jobs.again(late)
    carry_out(jobs, late, produce)
    assert jobs.status(late).phase == "done"


def test_one_that_was_stopped_in_the_queue_says_so(ledger: Ledger) -> None:
    job = ledger.enter(Request("a"))
    ledger.jobs.cancel(job)
    status = ledger.jobs.status(job)
    assert status.phase == "stopped"
    assert status.error is not None
    assert "stopped" in status.error["message"]


# --- things that go wrong -----------------------------------------------------------------------


def test_a_damaged_folder_stops_nobody_else(ledger: Ledger) -> None:
    jobs = ledger.jobs
    bad, worse, good = (ledger.enter(Request(name), "a") for name in "abc")
    (jobs.folder(bad) / "status.json").write_text("")
    (jobs.folder(worse) / "recipe.json").write_text("{}")
    (jobs.root / f"{good}.bak").mkdir()
    (jobs.root / "notes.txt").write_text("mine")
    fresh = Ledger(jobs)
    assert [card.id for card in fresh.unfinished()] == [good]
    assert jobs.status(bad).message == DAMAGED
    with pytest.raises(RequestError, match="is damaged"):
        jobs.card(worse)
    done = Queue(fresh, lambda job: carry_out(jobs, job, produce))
    done.start()
    until(lambda: jobs.status(good).phase == "done")


def test_fields_of_another_version_are_passed_over(jobs: Jobs) -> None:
    job = jobs.create(Request("a"))
    (jobs.folder(job) / "status.json").write_text('{"phase": "denoise", "step": 2, "mood": "good"}')
    assert (jobs.status(job).phase, jobs.status(job).step) == ("denoise", 2)


def test_latents_that_cannot_be_read_are_made_anew(jobs: Jobs) -> None:
    job = jobs.create(Request("a", seed=3))
    (jobs.folder(job) / "latents-0.safetensors").write_bytes(b"cut")
    carry_out(jobs, job, produce)
    assert (jobs.folder(job) / "video.mp4").read_text() == "3.0"


def test_work_that_takes_the_server_down_is_given_up(jobs: Jobs) -> None:
    job = jobs.create(Request("a"))
    jobs.report(job, Status(phase="denoise", tries=TRIES))
    carry_out(jobs, job, produce)
    assert jobs.status(job).phase == "failed"
    assert "ask for less" in jobs.status(job).message
    jobs.again(job)
    carry_out(jobs, job, produce)
    assert jobs.status(job).phase == "done"


def test_a_full_disk_is_told_and_the_latents_are_still_there(jobs: Jobs) -> None:
    """In a process of its own, whose files may not grow beyond a few kilobytes."""
    job = jobs.create(Request("a", seed=5))
    code = (
        "import resource, signal, sys\n"
        "from tests.core.test_jobs import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "def large(request, path, *rest):\n"
        "    yield from produce(request, path.with_name('small'), *rest)\n"
        "    path.write_bytes(bytes(10_000))\n"
        "carry_out(Jobs(Path(sys.argv[1])), sys.argv[2], large)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(jobs.root), job], cwd=ROOT, check=True, timeout=LIMIT)
    assert (jobs.status(job).phase, jobs.status(job).message) == ("failed", NO_ROOM)
    assert jobs.kept(job)[0].tolist() == [[5.0, 5.0]]


SERVER = """
import sys, time
from pathlib import Path
from tests.core.test_jobs import Jobs, Ledger, Queue, Request, carry_out, produce

jobs = Jobs(Path(sys.argv[1]))
ledger = Ledger(jobs)

def slow(*args):
    for event in produce(*args):
        yield event
        if "wait" in sys.argv[2:] and type(event).__name__ == sys.argv[3]:
            print("here", flush=True)
            time.sleep(60)

queue = Queue(ledger, lambda job: carry_out(jobs, job, slow))
queue.start()
if "make" in sys.argv[2:]:
    for i in range(3):
        queue.put(ledger.enter(Request(str(i), seed=i), "me"))
while "wait" in sys.argv[2:] or ledger.unfinished():
    time.sleep(0.02)
"""


@pytest.mark.parametrize("moment", ["Progress", "Denoised", "Frames"])
def test_a_killed_server_finishes_everything_when_it_is_back(ledger: Ledger, moment: str) -> None:
    jobs = ledger.jobs
    command = [sys.executable, "-c", SERVER, str(jobs.root)]
    process = subprocess.Popen([*command, "wait", moment, "make"], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    until(lambda: len(ledger.cards()) == 3)
    heir = subprocess.Popen(command, cwd=ROOT)  # waits for its turn, as in a rolling restart
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert heir.wait(LIMIT) == 0
    fresh = Ledger(jobs)
    assert [jobs.status(card.id).phase for card in fresh.cards()] == ["done"] * 3
    assert [(jobs.folder(card.id) / "video.mp4").read_text() for card in fresh.cards()] == ["0.0", "1.0", "2.0"]
    assert sorted(jobs.status(card.id).tries for card in fresh.cards()) == [1, 1, 2]


def test_work_that_cannot_begin_is_told(ledger: Ledger) -> None:
    def refuse(_: str) -> None:
        raise DeviceError("the GPU quota is used up; try again tomorrow")

    queue = Queue(ledger, refuse, immediate=True)
    queue.start()
    job = ledger.enter(Request("a"))
    queue.put(job)
    status = ledger.jobs.status(job)
    assert (status.phase, status.message[:13]) == ("failed", "the GPU quota")
