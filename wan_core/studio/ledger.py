"""All jobs together: whose turn it is, what a visitor made, how fast this machine is, what goes.

Turns. A job's rank is a moment: when it came, but at least ``SLICE`` after the rank of the visitor's
job before it. Who hands in ten at once has the tenth ranked as if it came much later, so others come
in between, and yet nobody waits for ever behind newcomers: their ranks are moments too.
"""

from __future__ import annotations

import logging
import math
import statistics
import threading
import time
from pathlib import Path
from typing import Any

from filelock import Timeout

from wan_core.errors import BusyError, RequestError
from wan_core.studio.jobs import Card, Jobs, is_id
from wan_core.types import Request

log = logging.getLogger(__name__)

SLICE = 600.0  # seconds between the ranks of one visitor's jobs
MOST, MOST_OF_ONE = 500, 50  # jobs that wait, in all and of one visitor
FRESH = 1.0  # seconds for which a count of what waits is good enough
RECENT, NEAREST = 30, 5  # jobs that tell how fast a machine is: looked at, and believed


class Ledger:
    """An account of all jobs.

    Args:
        jobs: where they lie.
    """

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self._cards: dict[str, Card] = {}  # recipes never change
        self._ended: set[str] = set()
        self._entering = threading.Lock()  # ranks are counted and taken one at a time
        self._order: tuple[float, list[str], int] = (0.0, [], 0)

    def enter(self, request: Request, visitor: str = "", **facts: Any) -> str:
        """Write a new job and give it its rank.

        Args:
            request: what to make.
            visitor: whose turn it takes; all whose browsers tell nothing are one.
            facts: see :meth:`Jobs.create`.

        Returns:
            The job's id.

        Raises:
            BusyError: too much is waiting already.
            MediaError: a picture or the sound cannot be copied.
            OutputError: there is no room.
        """
        with self._entering:
            waiting = self.unfinished()
            own = [card.rank for card in waiting if card.visitor == visitor]
            for count, most in ((len(waiting), MOST), (len(own), MOST_OF_ONE)):
                if count >= most:
                    raise BusyError("queue", f"{count} videos", f"at most {most} may wait", "try again later")
            rank = max(time.time(), max(own) + SLICE if own else 0.0)
            return self.jobs.create(request, visitor, rank, **facts)

    def again(self, job: str) -> None:
        """See :meth:`Jobs.again`."""
        self.jobs.again(job)
        self._ended.discard(job)

    def cards(self) -> list[Card]:
        """All jobs, oldest first; what cannot be read is left out."""
        there = {path.name for path in self.jobs.root.glob("*") if is_id(path.name)}
        for gone in self._cards.keys() - there:
            self._cards.pop(gone, None)
            self._ended.discard(gone)
        for job in there - self._cards.keys():
            try:
                self._cards[job] = self.jobs.card(job)
            except RequestError as error:
                log.warning("%s", error)
        return sorted(self._cards.values(), key=lambda card: card.created)

    def unfinished(self) -> list[Card]:
        """What is left to do, in the order in which it will be done."""
        return sorted((card for card in self.cards() if not self._has_ended(card.id)), key=lambda card: card.rank)

    def _has_ended(self, job: str) -> bool:
        try:
            if job not in self._ended and self.jobs.status(job).ended:
                self._ended.add(job)
        except RequestError:  # swept this moment
            return True
        return job in self._ended

    def ahead(self, job: str) -> int:
        """How many jobs come before a queued one, the one under way among them; counted once a second."""
        if time.monotonic() - self._order[0] > FRESH:
            left = [card.id for card in self.unfinished()]
            waiting = [one for one in left if self.jobs.status(one).phase == "queued"]
            self._order = (time.monotonic(), waiting, len(left) - len(waiting))
        _, waiting, running = self._order
        return waiting.index(job) + running if job in waiting else 0

    def of(self, visitor: str, most: int) -> list[Card]:
        """A visitor's last finished jobs, newest first."""
        found: list[Card] = []
        for card in reversed(self.cards()):
            mine = bool(visitor) and card.visitor == visitor and self._has_ended(card.id)
            if mine and self.jobs.status(card.id).phase == "done":
                found.append(card)
            if len(found) == most:
                break
        return found

    def twin(self, mark: str) -> Card | None:
        """The last finished job of a mark, whoever's it is; None if there is none."""
        for card in reversed(self.cards()) if mark else ():
            if card.mark == mark and self._has_ended(card.id) and self.jobs.status(card.id).phase == "done":
                return card
        return None

    def pace(self, model: str, flops: float, tier: str = "exact") -> float | None:
        """FLOPs a second that this machine makes of a job, by its last ones of about that size.

        Size matters: a short job spends most of its time on what does not grow with it.

        Args:
            model: what makes it.
            flops: what it costs, as it was planned.
            tier: "fast" leaves out more than was planned, and is a pace of its own.

        Returns:
            The median of those nearest in size; None before the first.
        """
        known: list[tuple[float, float]] = []
        if flops <= 0:  # not known
            return None
        for card in reversed(self.cards()):
            alike = card.model == model and (card.tier == "fast") == (tier == "fast")
            if alike and card.flops and self._has_ended(card.id):
                status = self.jobs.status(card.id)
                if status.phase == "done" and status.tries == 1 and status.seconds:
                    known.append((abs(math.log(card.flops / flops)), card.flops / status.seconds))
            if len(known) == RECENT:
                break
        nearest = [pace for _, pace in sorted(known)[:NEAREST]]
        return statistics.median(nearest) if nearest else None

    def sweep(self, days: float, gigabytes: float) -> None:
        """Remove ended jobs that are too old, and the oldest of them while there is too much.

        Args:
            days: the age at which a job goes.
            gigabytes: what all jobs together may take.
        """
        cards, counted = self.cards(), set()
        # the newest first: a file that several jobs share goes with the last of them
        sizes = {card.id: _size(self.jobs.root / card.id, counted) for card in reversed(cards)}
        total, oldest = sum(sizes.values()), time.time() - days * 86400
        for card in cards:
            too_old, too_much = card.created < oldest, total > gigabytes * 1e9
            if (too_old or too_much) and self._has_ended(card.id) and self._remove(card.id):
                total -= sizes[card.id]
        for draft in self.jobs.root.glob(".*"):  # a server was killed while it wrote or removed one
            if is_id(draft.name[1:]) and time.time() - draft.stat().st_mtime > 3600:
                self.jobs.remove(draft.name[1:])

    def _remove(self, job: str) -> bool:
        """Remove a job unless somebody has it in hand, or put it back to work this moment."""
        try:
            with self.jobs.claim(job):
                if self.jobs.status(job).ended:
                    self.jobs.remove(job)
                    return True
        except (Timeout, RequestError):
            pass  # somebody has it, or it is gone: the next sweep looks again
        return False


def _size(folder: Path, counted: set[tuple[int, int]]) -> int:
    """Bytes of the files in a folder that were not counted yet."""
    total = 0
    for path in folder.glob("*"):
        try:
            known = path.stat()
        except OSError:  # renamed this moment
            continue
        if (known.st_dev, known.st_ino) not in counted:
            counted.add((known.st_dev, known.st_ino))
            total += known.st_size
    return total
