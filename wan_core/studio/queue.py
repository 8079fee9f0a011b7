"""Who works on which job when: huey carries the ids, the folders say what is left to do."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from filelock import FileLock, Timeout
from huey import MemoryHuey, SqliteHuey
from huey.api import Huey, TaskWrapper
from huey.consumer import Consumer

from wan_core.errors import DeviceError, FaultError, RequestError, WanError
from wan_core.studio.jobs import failed
from wan_core.studio.ledger import Ledger

log = logging.getLogger(__name__)

POLL = 0.2  # seconds between looks at an empty queue, or at whether another server has gone
SWEEP_EVERY = 3600.0
BEHIND = 5  # how far the worker stands behind the threads that answer, in Unix's niceness
INTERRUPTED = "The server was restarted in the middle of this; try again."


class Queue:
    """Runs jobs one at a time, visitors taking turns.

    Args:
        ledger: of all jobs.
        carry_out: does one job, given its id; it raises only where it could not do its work at all.
        immediate: do a job in the thread that hands it in, as ZeroGPU needs: its GPU belongs to the
            visitor whose request that thread serves.
        days: the age at which an ended job is removed.
        gigabytes: what all jobs together may take.
    """

    def __init__(
        self, ledger: Ledger, carry_out: Callable[[str], None], *, immediate: bool = False, days: float = 30,
        gigabytes: float = 20,
    ) -> None:  # fmt: skip
        self.ledger, self.jobs, self.immediate = ledger, ledger.jobs, immediate
        self._carry_out, self._limits = carry_out, (days, gigabytes)
        self._task: TaskWrapper | None = None
        self._owner: FileLock | None = None

    def start(self) -> None:
        """Begin: first with whatever an earlier server left unfinished.

        Only one server works on a folder. Another one that is started on it hands its jobs to the
        first, and takes over when that goes.
        """
        self.jobs.root.mkdir(parents=True, exist_ok=True)
        huey: Huey = (
            MemoryHuey("jobs", immediate=True, results=False)
            if self.immediate
            else SqliteHuey("jobs", filename=str(self.jobs.root / "queue.db"), results=False, strict_fifo=True)
        )
        self._task = huey.task(name="job")(self._run)
        # a lock of the process, not of the thread that happens to take it
        self._owner = FileLock(self.jobs.root / ".owner", thread_local=False)
        try:
            self._owner.acquire(timeout=0)
        except Timeout:
            threading.Thread(target=self._wait, args=(huey,), daemon=True).start()
        else:
            self._take_over(huey)

    def put(self, job: str) -> None:
        """Hand in a job. In immediate mode this returns when it has ended."""
        assert self._task is not None, "start() comes first"
        if self.immediate:
            self._task(job)
        else:
            self._task(job, priority=-self.jobs.card(job).rank)

    def _run(self, job: str) -> None:
        """Carry a job out; if that could not even begin, or its process is gone, the job says so."""
        if not self.immediate:
            _stand_back()
        try:
            self._carry_out(job)
        except Exception as error:
            log.error("job %s broke off", job, exc_info=error)
            self._fail(job, error if isinstance(error, WanError) else FaultError())

    def _fail(self, job: str, why: WanError) -> None:
        try:
            status = self.jobs.status(job)
            if not status.ended:
                self.jobs.report(job, failed(status, why))
        except (OSError, RequestError) as error:
            log.error("job %s: its end could not be written", job, exc_info=error)

    def _wait(self, huey: Huey) -> None:
        assert self._owner is not None
        self._owner.acquire(poll_interval=POLL)
        self._take_over(huey)

    def _take_over(self, huey: Huey) -> None:
        """Work from now on, first on what was queued or under way when the last server went."""
        self._sweep()
        left = self.ledger.unfinished()
        if self.immediate:
            for card in left:  # the visitors who lent their GPU time are gone
                self._fail(card.id, DeviceError(INTERRUPTED))
            return
        huey.storage.flush_queue()  # a task that a worker has taken is gone, one in the queue is here twice
        for card in left:
            self.put(card.id)
        _Quiet(huey, workers=1, periodic=False, initial_delay=POLL, max_delay=POLL, backoff=1.0).start()
        threading.Thread(target=self._sweep_for_ever, daemon=True).start()

    def _sweep(self) -> None:
        try:
            self.ledger.sweep(*self._limits)
        except OSError as error:
            log.error("old jobs could not be swept", exc_info=error)

    def _sweep_for_ever(self) -> None:
        while True:
            time.sleep(SWEEP_EVERY)
            self._sweep()


def _stand_back() -> None:
    """Let threads that answer visitors go before this one, which keeps all cores busy for minutes.

    On Linux every thread has a niceness of its own, and those that torch starts from it inherit it.
    """
    if sys.platform == "linux":
        own = threading.get_native_id()
        with suppress(OSError):  # it only answers a little later then
            os.setpriority(os.PRIO_PROCESS, own, max(os.getpriority(os.PRIO_PROCESS, own), BEHIND))


class _Quiet(Consumer):
    """A consumer inside somebody else's process: signals are not its business."""

    def _set_signal_handlers(self) -> None:
        pass
