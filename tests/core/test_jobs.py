"""Jobs as folders: written whole, taken in turns, stopped, tried again, and never lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wan_core.errors import DeviceError, MediaError, OutputError, RequestError
from wan_core.studio.jobs import Jobs, Status
from wan_core.studio.queue import Queue
from wan_core.studio.work import FAULT, carry_out
from wan_core.types import CancelCheck, Denoised, Done, Event, Frames, Kept, Preview, Progress, Request, Settled

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 30


def settled(seed: int = 1) -> Settled:
    return Settled("a", "", 16, 16, 5, 3, 1.0, 1.0, 1.0, 1.0, 3.0, "unipc", seed, 16, "text", "crop", (0.5, 0.5))


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


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path / "outputs")


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_request_comes_back_as_it_was(jobs: Jobs, tmp_path: Path) -> None:
    picture, voice = tmp_path / "Ä photo.PNG", tmp_path / "voice.wav"
    Image.new("RGB", (8, 8), "red").save(picture)
    voice.write_bytes(b"RIFF")
    asked = Request("a \N{SNOWMAN}", references=(picture, picture), audio=voice, seed=7, focal_point=(0.2, 0.3))
    job = jobs.create(asked, "me")
    back = jobs.request(job)
    assert back.as_json() == asked.as_json()
    assert [Path(p).read_bytes() for p in back.references] == [picture.read_bytes()] * 2
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
    with pytest.raises(RequestError, match="is done"):
        jobs.again(job)


def test_faults_of_ours_are_not_told_in_their_words(jobs: Jobs) -> None:
    def broken(*_) -> Generator[Event, None, None]:
        raise ValueError("/root/secret")
        yield  # a generator, as real ones are

    job = jobs.create(Request("a"))
    carry_out(jobs, job, broken)
    assert jobs.status(job).message == FAULT


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


def test_visitors_take_turns(jobs: Jobs) -> None:
    order: list[str] = []
    free = threading.Event()

    def run(job: str) -> None:
        assert free.wait(LIMIT)
        order.append(jobs.card(job).prompt)
        carry_out(jobs, job, produce)

    queue = Queue(jobs, run)
    queue.start()
    names = ("a0", "a1", "a2", "b0", "b1", "c0")
    ids = {name: jobs.create(Request(name), name[0]) for name in names}
    for job in ids.values():
        queue.put(job)
    assert [card.prompt for card in jobs.unfinished()] == ["a0", "b0", "c0", "a1", "b1", "a2"]
    assert [jobs.ahead(ids[name]) for name in names] == [0, 3, 5, 1, 4, 2]
    free.set()
    until(lambda: not jobs.unfinished())
    assert sorted(order) == sorted(names)  # none lost, none twice
    assert order[1:] == [n for n in ("a0", "b0", "c0", "a1", "b1", "a2") if n != order[0]]


def test_many_threads_hand_in_at_once(jobs: Jobs) -> None:
    done: list[str] = []
    queue = Queue(jobs, lambda job: (carry_out(jobs, job, produce), done.append(job))[0])
    queue.start()
    handed: list[str] = []

    def client(number: int) -> None:
        for i in range(4):
            job = jobs.create(Request(f"{number} {i}"), str(number))
            handed.append(job)
            queue.put(job)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: len(done) == 40)
    assert sorted(done) == sorted(handed)
    assert all(jobs.status(job).phase == "done" for job in handed)
    assert all(jobs.status(job).tries == 1 for job in handed)


SERVER = """
import sys, time
from pathlib import Path
from tests.core.test_jobs import Jobs, Queue, Request, carry_out, produce

jobs = Jobs(Path(sys.argv[1]))

def slow(*args):
    for event in produce(*args):
        yield event
        if "wait" in sys.argv[2:] and type(event).__name__ == sys.argv[3]:
            print("here", flush=True)
            time.sleep(60)

queue = Queue(jobs, lambda job: carry_out(jobs, job, slow))
queue.start()
if "make" in sys.argv[2:]:
    for i in range(3):
        queue.put(jobs.create(Request(str(i), seed=i), "me"))
while "wait" in sys.argv[2:] or jobs.unfinished():
    time.sleep(0.02)
"""


@pytest.mark.parametrize("moment", ["Progress", "Denoised", "Frames"])
def test_a_killed_server_finishes_everything_when_it_is_back(jobs: Jobs, moment: str) -> None:
    command = [sys.executable, "-c", SERVER, str(jobs.root)]
    process = subprocess.Popen([*command, "wait", moment, "make"], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    until(lambda: len(jobs.cards()) == 3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert len(jobs.unfinished()) == 3
    subprocess.run(command, cwd=ROOT, check=True, timeout=LIMIT)
    fresh = Jobs(jobs.root)
    assert [fresh.status(card.id).phase for card in fresh.cards()] == ["done"] * 3
    assert [(fresh.folder(card.id) / "video.mp4").read_text() for card in fresh.cards()] == ["0.0", "1.0", "2.0"]
    assert sorted(fresh.status(card.id).tries for card in fresh.cards()) == [1, 1, 2]


def test_work_that_cannot_begin_is_told(jobs: Jobs) -> None:
    def refuse(_: str) -> None:
        raise DeviceError("the GPU quota is used up; try again tomorrow")

    queue = Queue(jobs, refuse, immediate=True)
    queue.start()
    job = jobs.create(Request("a"))
    queue.put(job)
    assert (jobs.status(job).phase, jobs.status(job).message[:13]) == ("failed", "the GPU quota")


def test_the_pace_is_learned_from_finished_jobs(jobs: Jobs) -> None:
    assert jobs.pace("m") is None
    for flops in (1.0, 5.0, 3.0):
        carry_out(jobs, jobs.create(Request("a"), model="m", flops=flops), produce)
    jobs.create(Request("a"), model="m", flops=1e9)  # not done
    carry_out(jobs, jobs.create(Request("a"), model="other", flops=1e9), produce)
    assert jobs.pace("m") == 6.0  # 3 in half a second


def test_three_hundred_jobs_leave_nothing_open(jobs: Jobs) -> None:
    def held() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    queue = Queue(jobs, lambda job: carry_out(jobs, job, produce))
    queue.start()
    before: tuple[int, int] | None = None
    for i in range(300):
        queue.put(jobs.create(Request(str(i)), str(i % 7)))
        if i == 20:
            until(lambda: not jobs.unfinished())
            before = held()
    until(lambda: not jobs.unfinished())
    assert before is not None
    assert all(now <= then + 1 for now, then in zip(held(), before, strict=True))
    assert all(jobs.status(card.id).tries == 1 for card in jobs.cards())
    names = {path.name for card in jobs.cards() for path in jobs.folder(card.id).iterdir()}
    assert names == {".lock", "recipe.json", "status.json", "preview.webp", "poster.webp", "last.png", "video.mp4"}


def test_sweeping_takes_the_old_and_the_too_many(jobs: Jobs) -> None:
    ids = [jobs.create(Request(str(i))) for i in range(4)]
    for job in ids[:3]:
        carry_out(jobs, job, produce)
        (jobs.folder(job) / "video.mp4").write_bytes(bytes(1_000_000))
    jobs.sweep(days=1, gigabytes=2.5e-3)
    assert [card.id for card in jobs.cards()] == ids[1:]  # the oldest made room, what is queued stays
    jobs.sweep(days=0, gigabytes=1)
    assert [card.id for card in jobs.cards()] == ids[3:]


def test_immediate_mode_runs_in_the_callers_thread(jobs: Jobs) -> None:
    where: list[threading.Thread] = []
    left = jobs.create(Request("left behind"))
    queue = Queue(jobs, lambda job: (where.append(threading.current_thread()), carry_out(jobs, job, produce))[1],
                  immediate=True)  # fmt: skip
    queue.start()
    assert "restarted" in jobs.status(left).message
    job = jobs.create(Request("a"))
    queue.put(job)
    assert jobs.status(job).phase == "done"
    assert where == [threading.current_thread()]
