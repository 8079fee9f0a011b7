"""The page: a tab per mode, each an input card beside the stage."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from wan_core.specs import SPECS, ModelSpec
from wan_core.studio.recipe import Engines
from wan_core.types import Request
from wan_core.ui import stage
from wan_core.ui.desk import Desk
from wan_core.ui.handlers import (
    FIELDS,
    Tab,
    aimed,
    api_handler,
    progress,
    restore_handler,
    restored,
    result,
    statement,
    worded,
)
from wan_core.ui.inputs import inputs, request_of
from wan_core.ui.visit import REMEMBER, Visit
from wan_core.ui.words import label, language_of, say

#: Inputs that change what a video costs.
PRICED = (
    "image", "last_image", "reference", "audio", "width", "height", "num_frames", "num_inference_steps",
    "guidance_scale",
)  # fmt: skip
FRAMING = ("image", "image_fit", "focal_x", "focal_y", "width", "height")
#: Ctrl+Enter presses the Generate button of the open tab.
KEYS = """() => document.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return
  const button = [...document.querySelectorAll('button.make')].find((b) => b.offsetParent)
  if (button) { event.preventDefault(); button.click() }
})"""
TABS = {"text": "Text", "image": "Image", "reference": "Reference"}


def build(specs: Sequence[ModelSpec], badge: Callable[[], str], desk: Desk) -> gr.Blocks:
    """Make the page.

    Args:
        specs: the loaded models; a tab is served by the first that has its mode.
        badge: says which models, device and precision, once they are loaded.
        desk: runs requests.

    Returns:
        The page, ready to launch.
    """
    with gr.Blocks(title="Wan Atelier", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        head = gr.HTML(_head(specs[0], f"{specs[0].name} · loading", "en"))

        async def loaded(request: gr.Request) -> str:
            return _head(specs[0], await desk.wait(badge), language_of(request))

        page.load(loaded, None, head, show_progress="hidden", api_visibility="private", queue=False)
        names: dict[str, list[str]] = {}
        engines = {mode: next((spec for spec in specs if mode in spec.modes), None) for mode in TABS}
        _jobs(desk)  # first: the page's own Cancel would take the name
        visit = Visit(desk)
        with gr.Tabs() as tabs:
            for mode, name in TABS.items():
                with gr.Tab(label(name), id=mode):
                    engine = engines[mode]
                    if engine is None:
                        gr.Markdown(_absent(mode, specs))
                    else:
                        if engine is not specs[0]:
                            _explain(page, engine, specs[0])
                        names[mode] = _tab(mode, engine, desk, engines, visit)
        visit.arrive(page, tabs)
        _verifier(engines, names)
    page.queue(max_size=64, api_open=False, default_concurrency_limit=None)
    return page


def _head(spec: ModelSpec, badge: str, language: str) -> str:
    said = _note(spec, language)
    note = f'<p class="note">{html.escape(said)}</p>' if said else ""
    return (
        f'<div id="head"><span class="mark">Wan <b>Atelier</b></span>'
        f'<span class="badge"><i></i>{html.escape(badge)}</span>{note}</div>'
    )


def _note(spec: ModelSpec, language: str) -> str:
    return spec.note.get(language) or spec.note.get("en", "")


def _explain(page: gr.Blocks, engine: ModelSpec, first: ModelSpec) -> None:
    """Which engine serves a tab, why it is not the first one, and what it can do."""

    def why(request: gr.Request | None = None) -> str:
        language, word = language_of(request), "Made by {engine}: {first} does not serve this tab"
        reason = say(language, word, engine=engine.name, first=first.name)
        return stage.line(" · ".join(filter(None, (reason, _note(engine, language)))))

    page.load(why, None, gr.HTML(why()), show_progress="hidden", api_visibility="private", queue=False)


def _absent(mode: str, specs: Sequence[ModelSpec]) -> str:
    able = ", ".join(name for name, other in SPECS.items() if mode in other.modes)
    loaded = " and ".join(spec.name for spec in specs)
    return (
        f"What is loaded, {loaded}, has no {mode} mode. These have: {able}. Set WAN_MODEL to the folder of one; "
        "several, with commas between them, share the tabs."
    )


def _tab(mode: str, spec: ModelSpec, desk: Desk, engines: Engines, visit: Visit) -> list[str]:
    """Lay out and wire one tab; returns its fields."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_classes="card"):
            widgets = inputs(mode, spec)
            seen = gr.Image(
                label=label("What the model sees: click on what matters"), visible=False, interactive=False,
                buttons=[], height=200,
            )  # fmt: skip
            plan = gr.HTML()
            go = gr.Button(label("Generate"), variant="primary", elem_classes="make")
            refill = gr.UploadButton(
                label("Restore from a video …"), file_types=[".mp4"], size="sm", elem_classes="again"
            )
            told = gr.HTML(visible=False)
            refill.upload(
                restore_handler(mode, list(widgets), engines), refill, [*widgets.values(), told],
                show_progress="hidden", api_visibility="private", queue=False,
            )  # fmt: skip
        with gr.Column(scale=8, min_width=320):
            with gr.Column(elem_classes="stage"):
                view = gr.HTML(stage.empty("en"))
                video = gr.Video(
                    label=label("Result"), show_label=False, visible=False, interactive=False, autoplay=True, loop=True,
                    buttons=[], height=420,
                )  # fmt: skip
                stop = gr.Button(label("Cancel"), visible=False, elem_classes="stop")
                again = gr.Button(label("Try again"), visible=False, elem_classes="stop")
            with gr.Row(elem_classes="after"):
                save = gr.DownloadButton(label("Download"), visible=False)
                onward = gr.Button(label("Go on from the last frame"), visible=False)
                reuse = gr.Button(label("Keep this seed"), visible=False)
                line = gr.HTML()
            job = gr.Textbox(visible="hidden", label="job")
    shown = _Shown(view, video, stop, again, save, onward, reuse, line, job)
    names = list(widgets)

    def read(*values: Any) -> Request:
        return request_of(mode, dict(zip(names, values, strict=True)))

    tab = Tab(desk, mode, read, names, goes_on=engines["image"] is not None)
    _wire(tab, widgets, go, shown, visit)
    _endpoint(tab, list(widgets.values()))
    priced = [widgets[name].change for name in PRICED if name in widgets]
    visit.prices.append((tab.plan(), list(widgets.values()), plan))
    gr.on(priced, *visit.prices[-1], trigger_mode="always_last", show_progress="hidden", api_visibility="private")
    if mode == "image":
        _watch_picture(tab, widgets, seen)
    return names


def _watch_picture(tab: Tab, widgets: dict[str, Any], seen: gr.Image) -> None:
    """Show what the model sees of the first frame; a click there moves the focal point."""
    framing = [widgets[name].change for name in FRAMING]
    gr.on(framing, tab.look(), list(widgets.values()), seen, trigger_mode="always_last",
          show_progress="hidden", api_visibility="private")  # fmt: skip
    focus = [widgets["focal_x"], widgets["focal_y"]]
    seen.select(aimed, seen, focus, show_progress="hidden", api_visibility="private")


@dataclass(frozen=True)
class _Shown:
    """A tab's outputs, in the order of ``handlers.FIELDS``."""

    view: gr.HTML
    video: gr.Video
    stop: gr.Button
    again: gr.Button
    save: gr.DownloadButton
    onward: gr.Button
    reuse: gr.Button
    line: gr.HTML
    job: gr.Textbox

    def widgets(self) -> list[Any]:
        """As Gradio wants them."""
        return [getattr(self, name) for name in FIELDS]


def _wire(tab: Tab, widgets: dict[str, Any], go: gr.Button, shown: _Shown, visit: Visit) -> None:
    """Connect a tab's buttons."""
    desk, order, outputs = tab.desk, list(widgets.values()), shown.widgets()
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    visit.recall(gr.on([go.click, widgets["prompt"].submit], tab.generate(), [*order, visit.token], outputs, **quiet))
    visit.recall(shown.again.click(tab.again(), shown.job, outputs, **quiet))

    async def stop(job: str) -> None:
        await worded(desk.cancel(job))

    async def reuse(job: str) -> int:
        status, _ = await worded(desk.aside(desk.look, job))
        return status.seed

    shown.stop.click(stop, shown.job, None, **quiet)
    shown.reuse.click(reuse, shown.job, widgets["seed"], **quiet)
    shown.job.change(None, shown.job, None, js=REMEMBER, api_visibility="private")
    visit.onward.append((shown.onward, shown.job))
    visit.first_frame = widgets.get("image", visit.first_frame)
    visit.returns.append((tab.follow(), outputs))


def _endpoint(tab: Tab, widgets: list[Any]) -> None:
    """The same request for programs: ``/text_to_video`` and its like."""
    doc = f"Make a video in {tab.mode} mode; the fields are wan_core.Request's."
    call = api_handler(tab.desk, tab.build, tab.names, doc)
    video, seed = gr.Video(label="video", visible=False), gr.Number(label="seed", visible=False, precision=0)
    job = gr.Textbox(label="job", visible=False)
    gr.Button(visible=False).click(call, widgets, [video, seed, job], api_name=f"{tab.mode}_to_video")


def _jobs(desk: Desk) -> None:
    """``/status``, ``/result``, ``/cancel`` and ``/retry``: a job by its id, from anywhere."""
    job, said = gr.Textbox(visible=False, label="job"), gr.JSON(visible=False)
    video, seed = gr.Video(label="video", visible=False), gr.Number(label="seed", visible=False, precision=0)

    async def status(job: str) -> dict[str, Any]:
        """How far a job is."""
        return await progress(desk, job)

    async def finished(job: str) -> tuple[str, int]:
        """A finished job's video and seed."""
        return await result(desk, job)

    async def cancel(job: str) -> dict[str, Any]:
        """Stop a job at its next step."""
        await worded(desk.cancel(job))
        return await progress(desk, job)

    async def retry(job: str) -> dict[str, Any]:
        """Run a job that failed or was stopped once more."""
        await worded(desk.again(job))
        return await progress(desk, job)

    for name, call, outputs in (
        ("status", status, said), ("result", finished, [video, seed]), ("cancel", cancel, said), ("retry", retry, said),
    ):  # fmt: skip
        gr.Button(visible=False).click(call, job, outputs, api_name=name)


def _verifier(engines: Engines, names: dict[str, list[str]]) -> None:
    """``/verify``: what a video says about its own making; ``/restore``: how to make it again."""
    file, said = gr.File(visible=False, label="file"), gr.JSON(visible=False)
    gr.Button(visible=False).click(statement, file, said, api_name="verify")

    def recipe(file: str | None) -> dict[str, Any]:
        return restored(file, engines, names)

    gr.Button(visible=False).click(recipe, file, said, api_name="restore")
