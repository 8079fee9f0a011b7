"""Between the page and the jobs: hand in, watch, stop, try again.

Handlers run on the event loop, where waiting would freeze every visitor; whatever touches a disk or
a model goes to a thread. A watcher only reads what a job says of itself, so a closed tab, a reload
or a lost connection takes nothing from it.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import logging
import os
import re
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from gradio.utils import get_upload_folder

from wan_core.errors import FaultError, OutputError, RequestError, WanError
from wan_core.plan import Plan
from wan_core.studio.jobs import Card, Status, failed, linked
from wan_core.studio.ledger import Ledger
from wan_core.studio.queue import Queue
from wan_core.studio.recipe import fingerprint
from wan_core.types import Request

log = logging.getLogger(__name__)

T = TypeVar("T")
LOOK = 0.1  # seconds between looks at a job
READERS, CHECKERS = 16, 16  # threads that read files, and that wait for models
_TOKEN = re.compile(r"[A-Za-z0-9_-]{8,64}")


class Desk:
    """Takes orders and tells how they are coming on.

    Args:
        ledger: of all jobs.
        queue: runs them.
        check: settles and prices a request with the model that will make it.
        signed: who signs the videos, or empty: one that is signed is another file.
        news: what is being downloaded, its bytes so far and in all; or None.
    """

    def __init__(
        self, ledger: Ledger, queue: Queue, check: Callable[[Request], Plan], signed: str = "",
        news: Callable[[], tuple[str, int, int] | None] = lambda: None,
    ) -> None:  # fmt: skip
        self._signed, self.news = signed, news
        self.ledger, self.jobs, self.queue, self.check = ledger, ledger.jobs, queue, check
        # apart: while a model loads, everybody who asks for a price waits, and nobody else may have to
        self._readers = ThreadPoolExecutor(READERS, "reader")
        self._checkers = ThreadPoolExecutor(CHECKERS, "checker")

    async def aside(self, work: Callable[..., T], *given: Any) -> T:
        """Read or write something away from the event loop."""
        return await self._in(self._readers, work, *given)

    async def wait(self, work: Callable[[], T]) -> T:
        """Do something that may have to wait for a model to load."""
        return await self._in(self._checkers, work)

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[..., T], *given: Any) -> T:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        return await loop.run_in_executor(threads, lambda: context.run(work, *given))

    async def submit(self, make: Callable[[], Request], visitor: str = "") -> str:
        """Check a request and hand it in.

        Args:
            make: builds the request.
            visitor: whose turn it takes.

        Returns:
            The job's id.

        Raises:
            WanError: nothing was handed in.
        """
        return await self._in(self._checkers, self._submit, make, visitor)

    def _submit(self, make: Callable[[], Request], visitor: str) -> str:
        request = make()
        plan = self.check(request)
        # drawn now: a job that is begun again after a crash must become the same video
        seeded = replace(request, seed=plan.settled.seed)
        known = visitor if _TOKEN.fullmatch(visitor) else ""
        mark = fingerprint(seeded, plan, self._signed)
        twin = None
        if request.seed is not None:
            with suppress(RequestError):  # swept this moment
                twin = self.ledger.twin(mark)
        if twin is not None and known and twin.visitor == known:
            return twin.id
        job = self.ledger.enter(seeded, known, model=plan.model, flops=plan.flops, revision=plan.revision, mark=mark)
        if twin is not None and self.jobs.inherit(job, twin.id):
            return job  # the same was made before, for somebody else
        try:
            self._put(job)
        except Exception as error:
            self.jobs.remove(job)
            raise OutputError("the job could not be queued; try again in a moment") from error
        return job

    async def price(self, make: Callable[[], Request]) -> tuple[Plan, float | None]:
        """What a request comes to, and the seconds that it would take here, as far as they are known.

        Raises:
            WanError: it cannot be made.
        """

        def look() -> tuple[Plan, float | None]:
            plan = self.check(make())
            pace = self.ledger.pace(plan.model, plan.flops, plan.settled.tier)
            return plan, plan.flops / pace if pace else None

        return await self._in(self._checkers, look)

    def _put(self, job: str) -> None:
        if self.queue.immediate:  # the context carries Gradio's request, which ZeroGPU bills by
            threading.Thread(target=contextvars.copy_context().run, args=(self.queue.put, job), daemon=True).start()
        else:
            self.queue.put(job)

    async def watch(self, job: str) -> AsyncGenerator[tuple[Status, int], None]:
        """A job's status whenever it changes, and how many are before it; the last one has ended.

        Raises:
            RequestError: there is no such job.
        """
        before = None
        while True:
            now = await self.aside(self.look, job)
            if now != before:
                yield now
            if now[0].ended:
                return
            before = now
            await asyncio.sleep(LOOK)

    def look(self, job: str) -> tuple[Status, int]:
        """A job's status, and how many are before it."""
        status = self.jobs.status(job)
        return status, self.ledger.ahead(job) if status.phase == "queued" else 0

    async def cancel(self, job: str) -> None:
        """Stop a job at its next step."""
        await self.aside(self.jobs.cancel, job)

    async def again(self, job: str) -> None:
        """Run a job that failed or was stopped once more, from the latents it kept."""

        def put() -> None:
            self.ledger.again(job)
            try:
                self._put(job)
            except Exception as error:
                why = OutputError("the job could not be queued; try again in a moment")
                self.jobs.report(job, failed(Status(), why))
                raise why from error

        await self.aside(put)

    async def card(self, job: str) -> Card | None:
        """What stands on a job's recipe; None if there is no such job."""
        if job:
            with suppress(RequestError):
                return await self.aside(self.jobs.card, job)
        return None

    async def hand_out(self, job: str, name: str = "video.mp4") -> Path:
        """One of a job's files, by default its video, at a place that the page may serve.

        Only that file is put there: the folder of jobs holds other people's. The place is the same
        each time.

        Raises:
            RequestError: it is gone.
        """
        return await self.aside(self._hand_out, job, name)

    def _hand_out(self, job: str, name: str) -> Path:
        source = self.jobs.folder(job) / name
        place = Path(get_upload_folder()) / hashlib.sha256(job.encode()).hexdigest()[:32] / name
        if not source.exists():
            raise RequestError("job", job, f"has no {name}", "make it again")
        if place.exists():
            os.utime(place)  # Gradio sweeps by age
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        linked(source, place)
        return place

    async def picture(self, job: str, name: str) -> bytes | None:
        """One of a job's pictures, if it is there."""

        def read() -> bytes | None:
            path = self.jobs.folder(job) / name
            return path.read_bytes() if path.exists() else None

        return await self.aside(read)


def fit_to_show(error: Exception) -> WanError:
    """What a visitor is told of an error: ours as it is, anything else without its words."""
    if isinstance(error, WanError):
        return error
    log.error("a request failed", exc_info=error)
    return FaultError()
