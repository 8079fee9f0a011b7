"""Between the page and the jobs: hand in, watch, stop, try again.

Handlers run on the event loop, where waiting would freeze every visitor; whatever touches a disk or
a model goes to a thread. A watcher only reads what a job says of itself, so a closed tab, a reload
or a lost connection takes nothing from it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from gradio.utils import get_upload_folder

from wan_core.cost import Plan
from wan_core.errors import WanError
from wan_core.studio.jobs import Jobs, Status
from wan_core.studio.queue import Queue
from wan_core.studio.work import FAULT
from wan_core.types import Request

log = logging.getLogger(__name__)

T = TypeVar("T")
THREADS = 32
LOOK = 0.1  # seconds between looks at a job
COUNT = 1.0  # and between counts of the jobs before it


@dataclass
class Desk:
    """Takes orders and tells how they are coming on.

    Args:
        jobs: all of them.
        queue: runs them.
        check: settles and prices a request with the model that will make it.
    """

    jobs: Jobs
    queue: Queue
    check: Callable[[Request], Plan]
    # asyncio's own has six threads on two cores, and whoever waits for a model to load would fill it
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS, "desk"))

    async def _aside(self, work: Callable[..., T], *given: Any) -> T:
        """Do something away from the event loop, in the caller's context."""
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        return await loop.run_in_executor(self.threads, lambda: context.run(work, *given))

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
        return await self._aside(self._submit, make, visitor)

    def _submit(self, make: Callable[[], Request], visitor: str) -> str:
        request = make()
        plan = self.check(request)
        # drawn now: a job that is begun again after a crash must become the same video
        seeded = replace(request, seed=plan.settled.seed)
        job = self.jobs.create(seeded, visitor, plan.model, plan.flops)
        self._put(job)
        return job

    async def price(self, make: Callable[[], Request]) -> tuple[Plan, float | None]:
        """What a request comes to, and the seconds that it would take here, as far as they are known.

        Raises:
            WanError: it cannot be made.
        """

        def look() -> tuple[Plan, float | None]:
            plan = self.check(make())
            pace = self.jobs.pace(plan.model)
            return plan, plan.flops / pace if pace else None

        return await self._aside(look)

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
        before, counted = None, 0.0
        while True:
            now = await self._aside(self.jobs.status, job), 0 if before is None else before[1]
            if now[0].phase != "queued":
                now = now[0], 0
            elif time.monotonic() - counted > COUNT:
                counted = time.monotonic()
                now = now[0], await self._aside(self.jobs.ahead, job)
            if now != before:
                yield now
            if now[0].ended:
                return
            before = now
            await asyncio.sleep(LOOK)

    async def cancel(self, job: str) -> None:
        """Stop a job at its next step."""
        await self._aside(self.jobs.cancel, job)

    async def again(self, job: str) -> None:
        """Run a job that failed or was stopped once more, from the latents it kept."""

        def put() -> None:
            self.jobs.again(job)
            self._put(job)

        await self._aside(put)

    def hand_out(self, job: str, name: str = "video.mp4") -> Path:
        """One of a job's files, by default its video, at a place that the page may serve.

        Only that file is put there: the folder of jobs holds other people's.
        """
        source, place = self.jobs.folder(job) / name, Path(get_upload_folder()) / uuid.uuid4().hex / name
        place.parent.mkdir(parents=True)
        try:
            os.link(source, place)
        except OSError:  # another disk, or no links there
            shutil.copyfile(source, place)
        return place

    def picture(self, job: str, name: str) -> bytes | None:
        """One of a job's pictures, if it is there."""
        path = self.jobs.folder(job) / name
        return path.read_bytes() if path.exists() else None


def shown(error: BaseException) -> str:
    """What a visitor is told of an error: ours as it is, anything else without its words."""
    if isinstance(error, WanError):
        return str(error)
    log.error("a request failed", exc_info=error)
    return FAULT
