"""Widgets to requests, events to widgets; the work itself runs in a thread of its own.

Gradio closes a handler on the event loop, where waiting would freeze every visitor. So the handler
only passes messages: a worker thread drives the pipeline and looks at a stop flag after each event.
"""

from __future__ import annotations

import asyncio
import contextvars
import html
import inspect
import logging
import threading
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from wan_core.errors import MediaError, WanError
from wan_core.studio.provenance import verify
from wan_core.studio.recipe import Engines, restore
from wan_core.types import Done, Event, Preview, Progress, Request
from wan_core.ui import stage
from wan_core.ui.inputs import flattened

log = logging.getLogger(__name__)

Produce = Callable[[Request, Path], Iterator[Event]]
FAULT = "Something went wrong here, not with what you asked for. Please try again."


@dataclass
class Desk:
    """Hands requests to the model, one at a time, and remembers whom to stop.

    Args:
        produce: makes one video at a path and yields events; closing it stops the work.
    """

    produce: Produce
    lock: threading.Lock = field(default_factory=threading.Lock)
    flags: dict[str, set[threading.Event]] = field(default_factory=dict)

    def stop(self, session: str | None) -> None:
        """Stop everything a visitor has running."""
        for flag in list(self.flags.get(session or "", ())):
            flag.set()

    async def events(self, request: Request, path: Path, session: str | None) -> AsyncGenerator[Event, None]:
        """Run one request in a worker thread.

        Raises:
            WanError: as the pipeline raised it.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
        flag = threading.Event()
        mine = self.flags.setdefault(session or "", set())
        mine.add(flag)

        def put(item: Event | BaseException | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, item)

        # the context carries Gradio's request, which ZeroGPU bills by
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._work, request, path, flag, put), daemon=True).start()
        try:
            while (item := await queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            flag.set()
            mine.discard(flag)
            if not mine:
                self.flags.pop(session or "", None)

    def _work(
        self, request: Request, path: Path, flag: threading.Event, put: Callable[[Event | BaseException | None], None]
    ) -> None:
        try:
            while not self.lock.acquire(timeout=0.2):
                if flag.is_set():  # stopped while someone else's video was being made
                    put(None)
                    return
            try:  # the lock is freed only when the work has truly ended
                events = self.produce(request, path)
                for event in events:
                    if flag.is_set() and not isinstance(event, Done):
                        events.close()  # type: ignore[attr-defined] - produce is a generator
                        break
                    put(event)
            finally:
                self.lock.release()
            put(None)
        except BaseException as error:
            put(error)


def new_path() -> Path:
    """A place for one video that nobody can guess and that Gradio's cache sweeper knows."""
    folder = Path(get_upload_folder()) / uuid.uuid4().hex
    folder.mkdir(parents=True)
    return folder / "video.mp4"


def shown(error: BaseException) -> str:
    """What a visitor is told of an error: ours as it is, anything else without its words."""
    if isinstance(error, WanError):
        return str(error)
    log.error("a generation failed", exc_info=error)
    return FAULT


def page_handler(desk: Desk, build: Callable[..., Request], names: list[str]) -> Callable[..., Any]:
    """The Generate button of one tab.

    Args:
        desk: runs requests.
        build: makes a request from the tab's inputs.
        names: the inputs' names.

    Returns:
        A handler yielding (stage, video, cancel button, download button, seed line).
    """

    async def generate(*inputs: Any) -> AsyncIterator[tuple[Any, ...]]:
        *values, visitor = inputs

        def show(view: str, busy: bool = True) -> tuple[Any, ...]:
            return (gr.HTML(view, visible=True), gr.Video(value=None, visible=False), gr.Button(visible=busy),
                    gr.DownloadButton(visible=False), "")  # fmt: skip

        yield show(stage.waiting())
        path, picture, begin, done = new_path(), None, None, None
        try:
            async with aclosing(desk.events(build(*values), path, visitor.session_hash)) as events:
                async for event in events:
                    match event:
                        case Preview():
                            picture = stage.preview(event)
                        case Progress():
                            if event.phase == "denoise" and begin is None:
                                begin = time.monotonic()
                            yield show(stage.working(event, picture, _left(event, begin)))
                        case Done():
                            done = event
        except Exception as error:
            yield show(stage.failed(shown(error)), busy=False)
            return
        if done is None:
            yield show(stage.stopped(), busy=False)
            return
        made = done.settled
        line = f"{made.width}x{made.height}, {made.num_frames} frames, seed {made.seed}, {done.seconds:.1f} s"
        if done.sync is not None:
            line += f" · {done.sync}"
        yield (gr.HTML(visible=False), gr.Video(value=str(path), visible=True), gr.Button(visible=False),
               gr.DownloadButton(value=str(path), visible=True), line)  # fmt: skip

    return named(generate, names)


def named(handler: Callable[..., Any], names: list[str]) -> Callable[..., Any]:
    """Give a handler of any number of inputs a signature, which is where Gradio reads names from.

    Args:
        handler: takes the inputs in order and the visitor's ``gr.Request`` last.
        names: the inputs' names; they become the API's parameter names.

    Returns:
        The handler.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(n, kind, default=None) for n in names]  # every field may be left out
    parameters.append(inspect.Parameter("request", kind, default=None, annotation=gr.Request))
    handler.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    handler.__annotations__ = {"request": gr.Request}
    return handler


def _left(event: Progress, begin: float | None) -> float | None:
    if event.phase != "denoise" or begin is None or event.step < 2:
        return None
    return (time.monotonic() - begin) / (event.step - 1) * (event.of - event.step)


def api_handler(desk: Desk, build: Callable[..., Request], names: list[str], doc: str) -> Callable[..., Any]:
    """The same for programs: the video's path and its seed, or a ``gr.Error`` fit to be shown."""

    async def call(*inputs: Any) -> tuple[str, int]:
        *values, visitor = inputs
        path, done = new_path(), None
        try:
            async with aclosing(desk.events(build(*values), path, visitor.session_hash)) as events:
                async for event in events:
                    if isinstance(event, Done):
                        done = event
        except Exception as error:
            raise gr.Error(html.escape(shown(error)), print_exception=False) from None
        if done is None:
            raise gr.Error("Stopped.", print_exception=False)
        return str(path), done.settled.seed

    call.__doc__ = doc
    return named(call, names)


def restore_handler(mode: str, names: list[str], engines: Engines) -> Callable[..., Any]:
    """Fill one tab's inputs from a video that was made here.

    Args:
        mode: the tab's.
        names: its inputs' names.
        engines: which model serves which mode.

    Returns:
        A handler of an mp4's path, for the inputs and a line below them.
    """

    def fill(file: str) -> tuple[Any, ...]:
        nothing = [gr.skip()] * len(names)
        try:
            wanted, differs = restore(Path(file), engines)
        except Exception as error:
            return *nothing, shown(error)
        if wanted["mode"] != mode:
            return *nothing, f"This video was made in the {wanted['mode'].capitalize()} tab; restore it there."
        values = flattened(wanted)
        return *(values.get(name, gr.skip()) for name in names), " ".join(["Restored.", *differs])

    return fill


def restored(file: str | None, engines: Engines, names: Mapping[str, list[str]]) -> dict[str, Any]:
    """A video's recipe for programs: the endpoint, its fields, and what would differ now.

    Args:
        file: the path of an mp4 that was made here.
        engines: which model serves which mode.
        names: the fields of every mode's endpoint.

    Returns:
        ``api_name``, ``fields`` to call it with, and ``differs``, a list of sentences.
    """
    try:
        if not file:
            raise MediaError("file", "nothing", "there is no video to look at", "give an mp4")
        wanted, differs = restore(Path(file), engines)
    except Exception as error:
        raise gr.Error(html.escape(shown(error)), print_exception=False) from None
    mode = wanted.pop("mode")
    fields = {k: v for k, v in flattened(wanted).items() if k in names.get(mode, ())}
    return {"api_name": f"/{mode}_to_video", "fields": fields, "differs": differs}


def statement(file: str | None) -> dict[str, Any]:
    """Tell what a video says about its own making; nothing of it is proven.

    Args:
        file: the path of an mp4.

    Returns:
        The fields of :class:`wan_core.studio.provenance.Statement`.
    """
    try:
        if not file:
            raise MediaError("file", "nothing", "there is no video to look at", "give an mp4")
        return asdict(verify(Path(file)))
    except Exception as error:
        raise gr.Error(html.escape(shown(error)), print_exception=False) from None
