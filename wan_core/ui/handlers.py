"""Widgets to requests, and what a job says of itself to widgets."""

from __future__ import annotations

import asyncio
import html
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from wan_core.errors import MediaError, WanError
from wan_core.plan import Plan
from wan_core.studio.jobs import Status
from wan_core.studio.provenance import verify
from wan_core.studio.recipe import Engines, recipe_in_address, restore
from wan_core.types import Request
from wan_core.ui import stage
from wan_core.ui.desk import Desk, fit_to_show
from wan_core.ui.inputs import flattened
from wan_core.ui.sight import sight
from wan_core.ui.told import told
from wan_core.ui.words import language_of

#: A tab's outputs, in order; the last is the id of the job that they show.
FIELDS = (
    "view", "video", "stop", "again", "save", "extend", "onward", "refer", "reuse", "line", "how", "recipe", "job",
)  # fmt: skip
NEWS = 1.0  # seconds between looks at a download
Scene = tuple[Any, ...]
T = TypeVar("T")


class Tab:
    """What one tab shows of a job.

    Args:
        desk: takes orders.
        mode: the tab's.
        build: makes a request from the tab's inputs.
        names: the inputs' names.
        onward: the tabs that a last frame can be taken to.
    """

    def __init__(
        self, desk: Desk, mode: str, build: Callable[..., Request], names: list[str], onward: Sequence[str] = ()
    ) -> None:
        self.desk, self.mode, self.build, self.names, self.onward = desk, mode, build, names, onward
        self._shown: dict[str | None, object] = {}  # the stream that a visitor's stage belongs to

    def generate(self) -> Callable[..., Any]:
        """The Generate button: inputs and the visitor's token to scenes."""

        async def handler(*inputs: Any) -> AsyncIterator[Scene]:
            *values, visitor, request = inputs
            language = language_of(request)
            yield _scene(stage.waiting(language, 0))
            handed = asyncio.ensure_future(self.desk.submit(lambda: self.build(*values), visitor or ""))
            try:
                while not (await asyncio.wait({handed}, timeout=NEWS))[0]:
                    if news := self.desk.news():
                        yield _scene(stage.waiting(language, 0, news))
                job = handed.result()
            except Exception as error:
                yield _scene(stage.failed(language, told(language, str(fit_to_show(error)))))
                return
            async for scene in self._follow(job, request):
                yield scene

        return named(handler, [*self.names, "visitor"])

    def follow(self) -> Callable[..., Any]:
        """A page that was opened again: the id of its last job to scenes, if it is this tab's."""

        async def handler(job: str, request: gr.Request) -> AsyncIterator[Scene]:
            card = await self.desk.card(job)
            if card is None or card.mode != self.mode:
                yield tuple(gr.skip() for _ in FIELDS)
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
                return stage.line(told(language_of(inputs[-1]), str(fit_to_show(error))))
            return stage.line(stage.plan_line(language_of(inputs[-1]), plan, seconds))

        return named(handler, self.names)

    def look(self) -> Callable[..., Any]:
        """The Image tab's preview: inputs to what the model will see of the picture."""

        async def handler(*inputs: Any) -> Any:
            picture = inputs[self.names.index("image")]
            if not picture:
                return gr.HTML(visible=False)
            try:
                plan, _ = await self._priced(inputs[:-1])
                seen = await self.desk.aside(sight, Path(picture), plan.settled, language_of(inputs[-1]))
            except (WanError, OSError):
                return gr.HTML(visible=False)  # what is wrong stands in the line of the plan, or on the stage
            return gr.HTML(seen, visible=True)

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
            yield _scene(stage.failed(language, told(language, str(fit_to_show(error)))))
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
                return _scene(stage.failed(language, told(language, status.message)), job, again=True)
            case "done":
                path = await self.desk.hand_out(job)
                recipe, line = (await self.desk.aside(verify, path)).recipe, told(language, status.message)
                return (gr.HTML(visible=False), gr.Video(value=str(path), visible=True), gr.Button(visible=False),
                        gr.Button(visible=False), gr.DownloadButton(value=str(path), visible=True),
                        gr.Button(visible="image" in self.onward and self.mode != "reference"),
                        gr.Button(visible="image" in self.onward), gr.Button(visible="reference" in self.onward),
                        gr.Button(visible=True), stage.line(line), gr.Accordion(visible=True), recipe,
                        job)  # fmt: skip
        return _scene(stage.working(language, status, picture), job, busy=True)


async def worded(work: Awaitable[T], request: gr.Request) -> T:
    """Let an error reach the page, as a note in the visitor's language."""
    try:
        return await work
    except Exception as error:
        words = told(language_of(request), str(fit_to_show(error)))
        raise gr.Error(html.escape(words), print_exception=False) from None


def aimed(at: gr.EventData) -> tuple[float, float]:
    """Where the frame was dropped on what the model sees, as a focal point: across and down, 0 to 1."""
    return round(float(at.x), 2), round(float(at.y), 2)


def _scene(view: str, job: str = "", *, busy: bool = False, again: bool = False) -> Scene:
    """Everything but a finished video."""
    return (gr.HTML(view, visible=True), gr.Video(value=None, visible=False), gr.Button(visible=busy),
            gr.Button(visible=again), gr.DownloadButton(visible=False), *(gr.Button(visible=False) for _ in range(4)),
            "", gr.Accordion(visible=False), None, job)  # fmt: skip


def named(handler: Callable[..., Any], names: list[str], required: tuple[str, ...] = ()) -> Callable[..., Any]:
    """Give a handler of any number of inputs a signature, which is where Gradio reads names from.

    Args:
        handler: takes the inputs in order and the visitor's ``gr.Request`` last.
        names: the inputs' names; they become the API's parameter names.
        required: which of them may not be left out.

    Returns:
        The handler.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    open_ = {name: inspect.Parameter.empty if name in required else None for name in names}
    parameters = [inspect.Parameter(name, kind, default=default) for name, default in open_.items()]
    parameters.append(inspect.Parameter("request", kind, default=None, annotation=gr.Request))
    handler.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    handler.__annotations__ = {"request": gr.Request}
    return handler


# --- what a video says ------------------------------------------------------------------------


def link_handler(mode: str, names: list[str], scheduled: bool) -> Callable[[str], list[Any]]:
    """Fill one tab's inputs from the recipe in the address, if it is this tab's.

    Args:
        mode: the tab's.
        names: its inputs' names.
        scheduled: whether its model has that tier.
    """

    def fill(recipe: str) -> list[Any]:
        wanted = recipe_in_address(recipe)
        values = flattened(wanted) if wanted.get("mode") == mode else {}
        if not scheduled and values.get("tier") == "scheduled":
            del values["tier"]
        return [values.get(name, gr.skip()) for name in names]

    return fill


def restore_handler(mode: str, names: list[str], engines: Engines) -> Callable[..., Any]:
    """Fill one tab's inputs from a video that was made here.

    Args:
        mode: the tab's.
        names: its inputs' names.
        engines: which model serves which mode.

    Returns:
        A handler of an mp4's path, for the inputs and a line below them.
    """

    def fill(file: str, request: gr.Request) -> tuple[Any, ...]:
        def said(*sentences: str) -> gr.HTML:
            language = language_of(request)
            return gr.HTML(stage.line(" ".join(told(language, sentence) for sentence in sentences)), visible=True)

        nothing = [gr.skip()] * len(names)
        try:
            wanted, differs = restore(Path(file), engines)
        except Exception as error:
            return *nothing, said(str(fit_to_show(error)))
        if wanted["mode"] != mode:
            return *nothing, said(f"This video was made in the {wanted['mode'].capitalize()} tab; restore it there.")
        values = flattened(wanted)
        return *(values.get(name, gr.skip()) for name in names), said("Restored.", *differs)

    return fill
