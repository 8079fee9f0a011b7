"""All jobs together: turns, an end to what waits, pace, twins, sweeping, three hundred in a row."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.core.test_jobs import LIMIT, produce, until
from wan_core.errors import RequestError
from wan_core.studio.ledger import MOST_OF_ONE, SLICE, Ledger
from wan_core.studio.queue import Queue
from wan_core.studio.work import carry_out
from wan_core.types import Request


def test_visitors_take_turns(ledger: Ledger) -> None:
    jobs, order, free = ledger.jobs, [], threading.Event()

    def run(job: str) -> None:
        assert free.wait(LIMIT)
        order.append(jobs.card(job).prompt)
        carry_out(jobs, job, produce)

    queue = Queue(ledger, run)
    queue.start()
    names = ("a0", "a1", "a2", "b0", "b1", "c0")
    ids = {name: ledger.enter(Request(name), name[0]) for name in names}
    for job in ids.values():
        queue.put(job)
    turns = ["a0", "b0", "c0", "a1", "b1", "a2"]
    assert [card.prompt for card in ledger.unfinished()] == turns
    assert [ledger.ahead(ids[name]) for name in turns] == [0, 1, 2, 3, 4, 5]
    free.set()
    until(lambda: not ledger.unfinished())
    assert sorted(order) == sorted(names)  # none lost, none twice
    assert order[1:] == [n for n in turns if n != order[0]]


def test_nobody_overtakes_oneself_or_waits_for_ever(ledger: Ledger) -> None:
    first, second = (ledger.enter(Request("a"), "a") for _ in range(2))
    carry_out(ledger.jobs, first, produce)
    third = ledger.enter(Request("a"), "a")
    ranks = [ledger.jobs.card(job).rank for job in (first, second, third)]
    assert ranks == sorted(ranks)
    assert ranks[2] - ranks[0] <= 2 * SLICE + 1  # who comes later than that is behind


def test_there_is_an_end_to_what_may_wait(ledger: Ledger) -> None:
    for i in range(MOST_OF_ONE):
        ledger.enter(Request(str(i)), "a")
    with pytest.raises(RequestError, match=f"at most {MOST_OF_ONE} may wait"):
        ledger.enter(Request("more"), "a")
    ledger.enter(Request("somebody else's"), "b")


def test_many_threads_hand_in_at_once(ledger: Ledger) -> None:
    jobs, done = ledger.jobs, []
    queue = Queue(ledger, lambda job: (carry_out(jobs, job, produce), done.append(job))[0])
    queue.start()
    handed: list[str] = []

    def client(number: int) -> None:
        for i in range(4):
            job = ledger.enter(Request(f"{number} {i}"), str(number))
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


def test_the_pace_is_learned_from_finished_jobs(ledger: Ledger) -> None:
    assert ledger.pace("m", 3.0) is None
    for flops in (1.0, 5.0, 3.0):
        carry_out(ledger.jobs, ledger.enter(Request("a"), model="m", flops=flops), produce)
    ledger.enter(Request("a"), model="m", flops=1e9)  # not done
    carry_out(ledger.jobs, ledger.enter(Request("a"), model="other", flops=1e9), produce)
    assert ledger.pace("m", 3.0) == 6.0  # 3 in half a second
    assert ledger.pace("m", 3.0, "fast") is None  # whose steps are fewer
    carry_out(ledger.jobs, ledger.enter(Request("a", tier="fast"), model="m", flops=30.0), produce)
    assert ledger.pace("m", 3.0) == 6.0
    assert ledger.pace("m", 3.0, "fast") == 60.0


def test_the_pace_is_that_of_jobs_of_about_that_size(ledger: Ledger) -> None:
    for flops in (*[1.0] * 6, *[1000.0] * 5):
        carry_out(ledger.jobs, ledger.enter(Request("a"), model="m", flops=flops), produce)
    assert ledger.pace("m", 2.0) == 2.0
    assert ledger.pace("m", 500.0) == 2000.0


def test_a_twin_gives_its_video_to_others(ledger: Ledger) -> None:
    jobs = ledger.jobs
    first = ledger.enter(Request("a", seed=3), mark="m")
    assert ledger.twin("m") is None  # not made yet
    carry_out(jobs, first, produce)
    twin = ledger.twin("m")
    assert twin is not None
    assert twin.id == first
    assert ledger.twin("") is None
    second = ledger.enter(Request("a", seed=3), mark="m")
    assert jobs.inherit(second, first)
    assert jobs.status(second).phase == "done"
    assert jobs.status(second).seed == jobs.status(first).seed
    jobs.remove(first)  # swept: the other one keeps its video
    assert (jobs.folder(second) / "video.mp4").read_text() == "3.0"
    third = ledger.enter(Request("a", seed=3), mark="m")
    assert not jobs.inherit(third, first)
    assert jobs.status(third).phase == "queued"
    (jobs.folder(second) / "video.mp4").unlink()  # half swept
    assert not jobs.inherit(third, second)
    assert {path.name for path in jobs.folder(third).iterdir()} == {"recipe.json"}


def test_a_shared_video_is_counted_once(ledger: Ledger) -> None:
    first = ledger.enter(Request("a", seed=3), mark="m")
    carry_out(ledger.jobs, first, produce)
    (ledger.jobs.folder(first) / "video.mp4").write_bytes(bytes(10_000_000))
    others = [ledger.enter(Request("a", seed=3), mark="m") for _ in range(5)]
    assert all(ledger.jobs.inherit(job, first) for job in others)
    ledger.sweep(days=1, gigabytes=0.02)  # two such files would fit
    assert {card.id for card in ledger.cards()} == {first, *others}


def test_three_hundred_jobs_leave_nothing_open(ledger: Ledger) -> None:
    def held() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    jobs = ledger.jobs
    queue = Queue(ledger, lambda job: carry_out(jobs, job, produce))
    queue.start()
    before: tuple[int, int] | None = None
    for i in range(300):
        queue.put(ledger.enter(Request(str(i)), str(i % 7)))
        if i == 20:
            until(lambda: not ledger.unfinished())
            before = held()
    until(lambda: not ledger.unfinished())
    assert before is not None
    assert all(now <= then + 1 for now, then in zip(held(), before, strict=True))
    assert all(jobs.status(card.id).tries == 1 for card in ledger.cards())
    names = {path.name for card in ledger.cards() for path in jobs.folder(card.id).iterdir()}
    assert names == {".lock", "recipe.json", "status.json", "preview.webp", "poster.webp", "last.png", "video.mp4"}


def test_sweeping_takes_the_old_and_the_too_many_and_nothing_else(ledger: Ledger) -> None:
    jobs = ledger.jobs
    ids = [ledger.enter(Request(str(i))) for i in range(4)]
    strange = jobs.root / ".cache"
    strange.mkdir()
    os.utime(strange, (0, 0))
    for job in ids[:3]:
        carry_out(jobs, job, produce)
        (jobs.folder(job) / "video.mp4").write_bytes(bytes(1_000_000))
    ledger.sweep(days=1, gigabytes=2.5e-3)
    assert [card.id for card in ledger.cards()] == ids[1:]  # the oldest made room, what is queued stays
    with jobs.claim(ids[1]):
        ledger.sweep(days=0, gigabytes=1)
    assert [card.id for card in ledger.cards()] == [ids[1], ids[3]]  # what somebody has in hand stays too
    assert strange.exists()


def test_immediate_mode_runs_in_the_callers_thread(ledger: Ledger) -> None:
    jobs, where = ledger.jobs, []
    left = ledger.enter(Request("left behind"))
    queue = Queue(ledger, lambda job: (where.append(threading.current_thread()), carry_out(jobs, job, produce))[1],
                  immediate=True)  # fmt: skip
    queue.start()
    assert "restarted" in jobs.status(left).message
    job = ledger.enter(Request("a"))
    queue.put(job)
    assert jobs.status(job).phase == "done"
    assert where == [threading.current_thread()]
