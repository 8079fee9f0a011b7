"""Widgets to requests, and what a job says of itself to widgets."""

from __future__ import annotations

import html
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from wan_core.errors import MediaError, WanError
from wan_core.plan import Plan
from wan_core.studio.jobs import Status
from wan_core.studio.provenance import verify
from wan_core.studio.recipe import Engines, restore
from wan_core.types import Request
from wan_core.ui import stage
from wan_core.ui.desk import Desk, shown
from wan_core.ui.inputs import flattened
from wan_core.ui.sight import sight
from wan_core.ui.words import language_of

#: A tab's outputs, in order; the last is the id of the job that they show.
FIELDS = ("view", "video", "stop", "again", "save", "onward", "reuse", "line", "job")
Scene = tuple[Any, ...]
T = TypeVar("T")


class Tab:
    """What one tab shows of a job.

    Args:
        desk: takes orders.
        mode: the tab's.
        build: makes a request from the tab's inputs.
        names: the inputs' names.
        goes_on: whether the page has an Image tab to go on in.
    """

    def __init__(
        self, desk: Desk, mode: str, build: Callable[..., Request], names: list[str], goes_on: bool = False
    ) -> None:
        self.desk, self.mode, self.build, self.names, self.goes_on = desk, mode, build, names, goes_on
        self._shown: dict[str | None, object] = {}  # the stream that a visitor's stage belongs to

    def generate(self) -> Callable[..., Any]:
        """The Generate button: inputs and the visitor's token to scenes."""

        async def handler(*inputs: Any) -> AsyncIterator[Scene]:
            *values, visitor, request = inputs
            language = language_of(request)
            yield _scene(stage.waiting(language, 0))
            try:
                job = await self.desk.submit(lambda: self.build(*values), visitor or "")
            except Exception as error:
                yield _scene(stage.failed(language, shown(error)))
                return
            async for scene in self._follow(job, request):
                yield scene

        return named(handler, [*self.names, "visitor"])

    def follow(self) -> Callable[..., Any]:
        """A page that was opened again: the id of its last job to scenes, if it is this tab's."""

        async def handler(job: str, request: gr.Request) -> AsyncIterator[Scene]:
            card = await self.desk.card(job)
            if card is None or card.mode != self.mode:
                yield (gr.HTML(stage.empty(language_of(request))), *(gr.skip() for _ in FIELDS[1:]))
                return
            async for scene in self._follow(job, request):
                yield scene

        return handler

    def again(self) -> Callable[..., Any]:
        """The Try again button."""

        async def handler(job: str, request: gr.Request) -> AsyncIterator[Scene]:
            with suppress(WanError):  # somebody was quicker, in another window: what became of it is shown
                await self.desk.again(job)
            async for scene in self._follow(job, request):
                yield scene

        return handler

    def plan(self) -> Callable[..., Any]:
        """The line above Generate: inputs to what they come to, or to what is wrong with them."""

        async def handler(*inputs: Any) -> str:
            try:
                plan, seconds = await self._priced(inputs[:-1])
            except MediaError:
                return ""  # what is missing is seen
            except Exception as error:
                return stage.line(shown(error))
            return stage.line(stage.plan_line(language_of(inputs[-1]), plan, seconds))

        return named(handler, self.names)

    def look(self) -> Callable[..., Any]:
        """The Image tab's preview: inputs to what the model will see of the picture."""

        async def handler(*inputs: Any) -> Any:
            picture = inputs[self.names.index("image")]
            try:
                plan, _ = await self._priced(inputs[:-1])
                seen = await self.desk.aside(sight, Path(picture), plan.settled)
            except (WanError, OSError):
                return gr.Image(visible=False)  # what is wrong stands in the line of the plan, or on the stage
            return gr.Image(seen, visible=True)

        return named(handler, self.names)

    async def _priced(self, values: Sequence[Any]) -> tuple[Plan, float | None]:
        # words cost nothing, and while they are being typed there may be none
        fields = dict(zip(self.names, values, strict=True)) | {"prompt": "-", "negative_prompt": None}
        return await self.desk.price(lambda: self.build(*fields.values()))

    async def _follow(self, job: str, request: gr.Request) -> AsyncGenerator[Scene, None]:
        """Scenes of a job until it ends, or until the same stage shows another one."""
        language, visitor, stream = language_of(request), request.session_hash, object()
        self._shown[visitor] = stream
        picture, seen = None, 0
        try:
            async with aclosing(self.desk.watch(job)) as statuses:
                async for status, ahead in statuses:
                    if self._shown.get(visitor) is not stream:
                        return
                    if status.previews > seen:
                        seen, found = status.previews, await self.desk.picture(job, "preview.webp")
                        picture = stage.data_uri(found) if found else None
                    yield await self._scene(job, status, ahead, picture, language)
        except WanError as error:  # swept meanwhile
            yield _scene(stage.failed(language, shown(error)))
        finally:
            if self._shown.get(visitor) is stream:
                del self._shown[visitor]

    async def _scene(self, job: str, status: Status, ahead: int, picture: str | None, language: str) -> Scene:
        match status.phase:
            case "queued":
                return _scene(stage.waiting(language, ahead), job, busy=True)
            case "stopped":
                return _scene(stage.stopped(language), job, again=True)
            case "failed":
                return _scene(stage.failed(language, status.message), job, again=True)
            case "done":
                path = str(await self.desk.hand_out(job))
                return (gr.HTML(visible=False), gr.Video(value=path, visible=True), gr.Button(visible=False),
                        gr.Button(visible=False), gr.DownloadButton(value=path, visible=True),
                        gr.Button(visible=self.goes_on), gr.Button(visible=True), stage.line(status.message),
                        job)  # fmt: skip
        return _scene(stage.working(language, status, picture), job, busy=True)


async def worded(work: Awaitable[T]) -> T:
    """Let an error reach the page, or a program, in words that are fit to be shown."""
    try:
        return await work
    except Exception as error:
        raise refused(error) from None


def aimed(picture: Any, at: gr.SelectData) -> tuple[float, float]:
    """A click on what the model sees, as a focal point: across and down, 0 to 1."""
    height, width = picture.shape[:2]
    return round(at.index[0] / width, 2), round(at.index[1] / height, 2)


def _scene(view: str, job: str = "", *, busy: bool = False, again: bool = False) -> Scene:
    """Everything but a finished video."""
    return (gr.HTML(view, visible=True), gr.Video(value=None, visible=False), gr.Button(visible=busy),
            gr.Button(visible=again), gr.DownloadButton(visible=False), gr.Button(visible=False),
            gr.Button(visible=False), "", job)  # fmt: skip


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


# --- programs ---------------------------------------------------------------------------------


def api_handler(desk: Desk, build: Callable[..., Request], names: list[str], doc: str) -> Callable[..., Any]:
    """The same for programs: the job's id at once; the video, its seed and the id in the end."""

    async def call(*inputs: Any) -> AsyncIterator[tuple[str | None, int | None, str]]:
        *values, visitor = inputs
        job = await worded(desk.submit(lambda: build(*values), visitor.session_hash or ""))
        yield None, None, job
        async with aclosing(desk.watch(job)) as statuses:
            async for _ in statuses:
                pass
        yield *await result(desk, job), job

    call.__doc__ = doc
    return named(call, names)


async def result(desk: Desk, job: str) -> tuple[str, int]:
    """A finished job's video and seed; errors are fit to be shown."""
    status, _ = await worded(desk.aside(desk.look, job))
    if status.phase == "done":
        return str(await worded(desk.hand_out(job))), status.seed
    if status.phase == "failed":
        raise gr.Error(html.escape(status.message), print_exception=False)
    raise gr.Error("Stopped." if status.ended else "Not finished yet.", print_exception=False)


async def progress(desk: Desk, job: str) -> dict[str, Any]:
    """How far a job is: the fields of :class:`wan_core.studio.jobs.Status`, and how many come first."""
    status, ahead = await worded(desk.aside(desk.look, job))
    return asdict(status) | {"ahead": ahead}


def refused(error: Exception) -> gr.Error:
    """An error as programs get it."""
    return gr.Error(html.escape(shown(error)), print_exception=False)


# --- what a video says ------------------------------------------------------------------------


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
            return *nothing, _told(shown(error))
        if wanted["mode"] != mode:
            return *nothing, _told(f"This video was made in the {wanted['mode'].capitalize()} tab; restore it there.")
        values = flattened(wanted)
        return *(values.get(name, gr.skip()) for name in names), _told(" ".join(["Restored.", *differs]))

    return fill


def _told(text: str) -> gr.HTML:
    return gr.HTML(stage.line(text), visible=True)


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
        raise refused(error) from None
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
        raise refused(error) from None
