"""The page: a tab per mode, each an input card beside the stage."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.route_utils import get_root_url

from wan_core.specs import SPECS, ModelSpec
from wan_core.studio.recipe import Engines
from wan_core.types import Request
from wan_core.ui import stage
from wan_core.ui.api import publish
from wan_core.ui.desk import Desk
from wan_core.ui.handlers import (
    FIELDS,
    Tab,
    aimed,
    link_handler,
    named,
    restore_handler,
    worded,
)
from wan_core.ui.inputs import closed, inputs, request_of
from wan_core.ui.picker import Choice, path, picker
from wan_core.ui.snippet import KINDS, snippet
from wan_core.ui.visit import REMEMBER, Visit
from wan_core.ui.words import label, language_of, say

#: Inputs that change what a video costs.
PRICED = (
    "image", "last_image", "extends", "reference", "audio", "video", "width", "height", "num_frames",
    "num_inference_steps", "guidance_scale", "guidance_start", "guidance_stop", "tier",
)  # fmt: skip
FRAMING = ("image", "image_fit", "focal_x", "focal_y", "width", "height")
#: Ctrl+Enter presses the Generate button of the open tab; an mp4 that is dropped anywhere restores its settings.
KEYS = """() => {
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return
    const button = [...document.querySelectorAll('button.make')].find((b) => b.offsetParent)
    if (button) { event.preventDefault(); button.click() }
  })
  document.addEventListener('dragover', (event) => {
    if (event.dataTransfer.types.includes('Files')) event.preventDefault()
  })
  document.addEventListener('drop', (event) => {
    const video = [...event.dataTransfer.files].find((file) => file.name.toLowerCase().endsWith('.mp4'))
    if (event.target.closest?.('.block')?.querySelector('input[type=file][accept*=video]')) return
    const button = [...document.querySelectorAll('button.again')].find((b) => b.offsetParent)
    const input = button && button.parentElement.querySelector('input[type=file]')
    if (!video || !input) return
    event.preventDefault()
    event.stopPropagation()
    const files = new DataTransfer()
    files.items.add(video)
    input.files = files.files
    input.dispatchEvent(new Event('change', {bubbles: true}))
  }, true)
}"""
TABS = {"text": "Text", "image": "Image", "reference": "Reference"}


def build(
    specs: Sequence[ModelSpec], badge: Callable[[], str], desk: Desk, choices: Sequence[Choice] = ()
) -> gr.Blocks:
    """Make the page, and one for every model that can be picked beside those that serve it.

    Every page is laid out for its own models from the start, so that no setting of one reaches another.

    Args:
        specs: the loaded models; a tab is served by the first that has its mode.
        badge: says which models, device and precision, once they are loaded.
        desk: runs requests.
        choices: all models that can be picked; () offers no choice.

    Returns:
        The page, ready to launch.
    """
    engines: dict[str, ModelSpec | None] = {mode: next((s for s in specs if mode in s.modes), None) for mode in TABS}
    with gr.Blocks(title="Wan Atelier", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        publish(desk, engines, {c.spec.name: c.spec for c in choices})  # first: the page's Cancel would take the name
        _page(page, _Served(specs, engines, badge, "", choices), desk)
    for choice in choices:
        spec = choice.spec
        if all(engines[mode] is spec for mode in spec.modes & TABS.keys()):
            continue  # the first page is its own already
        own = engines | {mode: spec for mode in TABS if mode in spec.modes}
        with page.route(spec.name, path(spec), show_in_navbar=False):
            _page(page, _Served([spec, *specs], own, choice.badge, spec.name, choices), desk)
    page.queue(max_size=64, api_open=False, default_concurrency_limit=None)
    return page


@dataclass(frozen=True)
class _Served:
    """What one page offers.

    Attributes:
        specs: its models, the first of which it is named after.
        engines: which of them serves which tab.
        badge: says which models, device and precision, once they are loaded.
        picked: the model that was picked, or empty.
        choices: all that can be.
    """

    specs: Sequence[ModelSpec]
    engines: Engines
    badge: Callable[[], str]
    picked: str
    choices: Sequence[Choice]

    def asks_for(self, mode: str) -> str | None:
        """The name by which a tab's requests ask for their model; None for whichever serves the tab anyway."""
        engine = self.engines[mode]
        return self.picked if engine is not None and engine.name == self.picked else None


def _page(page: gr.Blocks, served: _Served, desk: Desk) -> None:
    """One page: head, tabs, and the way back to a visitor's last job."""
    specs, engines = served.specs, served.engines
    head = gr.HTML(_head(specs[0], f"{specs[0].name} · loading", "en"))

    async def loaded(request: gr.Request) -> str:
        return _head(specs[0], await desk.wait(served.badge), language_of(request))

    page.load(loaded, None, head, show_progress="hidden", api_visibility="private", queue=False)
    visit = Visit(desk)
    with gr.Tabs() as tabs:
        for mode, name in TABS.items():
            with gr.Tab(label(name), id=mode):
                engine = engines[mode]
                if any(mode in choice.spec.modes and choice.spec is not engine for choice in served.choices):
                    words = partial(picker, mode, engine, served.choices)
                    visit.lines.append((gr.HTML(words("en"), elem_classes="pick"), words))
                if engine is None:
                    _said(visit, partial(_absent, mode, specs))
                else:
                    if engine is not specs[0]:
                        _said(visit, partial(_why, engine, specs[0]))
                    _tab(mode, engine, desk, served, visit)
    visit.arrive(page, tabs)


def _head(spec: ModelSpec, badge: str, language: str) -> str:
    said = _note(spec, language)
    note = f'<p class="note">{html.escape(said)}</p>' if said else ""
    return (
        f'<div id="head"><span class="mark">Wan <b>Atelier</b></span>'
        f'<span class="badge"><i></i>{html.escape(badge)}</span>{note}</div>'
    )


def _note(spec: ModelSpec, language: str) -> str:
    return spec.note.get(language) or spec.note.get("en", "")


def _said(visit: Visit, words: Callable[[str], str]) -> None:
    """A line in the visitor's language, which is known once the page is opened."""
    visit.lines.append((gr.HTML(stage.line(words("en"))), lambda language: stage.line(words(language))))


def _why(engine: ModelSpec, first: ModelSpec, language: str) -> str:
    """Which engine serves a tab, why it is not the first one, and what it can do."""
    word = "Made by {engine}: {first} does not serve this tab"
    reason = say(language, word, engine=engine.name, first=first.name)
    return " · ".join(filter(None, (reason, _note(engine, language))))


def _absent(mode: str, specs: Sequence[ModelSpec], language: str) -> str:
    """Which models would serve a tab that none of those loaded does."""
    able = ", ".join(name for name, other in SPECS.items() if mode in other.modes)
    word = (
        "{loaded} does not serve this tab; these do: {able}; set WAN_MODEL to the folder of one, or of several "
        "with commas between them"
    )
    return say(language, word, loaded=" + ".join(spec.name for spec in specs), able=able)


def _tab(mode: str, spec: ModelSpec, desk: Desk, served: _Served, visit: Visit) -> None:
    """Lay out and wire one tab."""
    engines, model = served.engines, served.asks_for(mode)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_classes="card"):
            widgets, seen = inputs(mode, spec)
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
            if model is None:
                _code(mode, widgets)
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
                extend = gr.Button(label("Extend"), visible=False)
                onward = gr.Button(label("Go on from the last frame"), visible=False)
                refer = gr.Button(label("Last frame as a reference"), visible=False)
                reuse = gr.Button(label("Keep this seed"), visible=False)
                line = gr.HTML()
            with gr.Accordion(label("Recipe"), open=False, visible=False) as how:
                recipe = gr.JSON(show_label=False)
            job = gr.Textbox(visible="hidden", label="job")
    shown = _Shown(view, video, stop, again, save, extend, onward, refer, reuse, line, how, recipe, job)
    names = list(widgets)

    def read(*values: Any) -> Request:
        return replace(request_of(mode, closed(dict(zip(names, values, strict=True)))), model=model)

    tab = Tab(desk, mode, read, names, [m for m in ("image", "reference") if engines[m] is not None])
    _wire(tab, widgets, go, shown, visit)
    visit.fills.append((link_handler(mode, names, spec.scheduled), list(widgets.values())))
    priced = [widgets[name].change for name in PRICED if name in widgets]
    visit.prices.append((tab.plan(), list(widgets.values()), plan))
    gr.on(priced, *visit.prices[-1], trigger_mode="always_last", show_progress="hidden", api_visibility="private")
    if seen is not None:
        _watch_picture(tab, widgets, seen)


def _code(mode: str, widgets: dict[str, Any]) -> None:
    """The settings as code to copy, written anew whenever they change."""
    usual = closed({name: widget.value for name, widget in widgets.items() if name != "prompt"})

    def write(kind: str, *inputs: Any) -> str:
        *values, request = inputs
        fields = closed(dict(zip(widgets, values, strict=True)))
        changed = {k: v for k, v in fields.items() if k not in usual or v != usual[k]}
        return snippet(kind, get_root_url(request.request, request.request.url.path, None), mode, changed)

    with gr.Accordion(label("Use from a program"), open=False, elem_classes="program") as section:
        kind = gr.Radio(KINDS, value=KINDS[0], show_label=False, label=label("Language"))
        code = gr.Textbox(label=label("Code"), show_label=False, lines=8, interactive=False, buttons=["copy"],
                          elem_classes="code")  # fmt: skip
    events = [section.expand, kind.change, *(widget.change for widget in widgets.values())]
    gr.on(events, named(write, ["kind", *widgets]), [kind, *widgets.values()], code, trigger_mode="always_last",
          show_progress="hidden", api_visibility="private", queue=False)  # fmt: skip


def _watch_picture(tab: Tab, widgets: dict[str, Any], seen: gr.HTML) -> None:
    """Show what the model sees of the first frame; dragging the frame there moves the focal point."""
    framing = [widgets[name].change for name in FRAMING]
    gr.on(framing, tab.look(), list(widgets.values()), seen, trigger_mode="always_last",
          show_progress="hidden", api_visibility="private")  # fmt: skip
    focus = [widgets["focal_x"], widgets["focal_y"]]
    seen.select(aimed, None, focus, show_progress="hidden", api_visibility="private")


@dataclass(frozen=True)
class _Shown:
    """A tab's outputs, in the order of ``handlers.FIELDS``."""

    view: gr.HTML
    video: gr.Video
    stop: gr.Button
    again: gr.Button
    save: gr.DownloadButton
    extend: gr.Button
    onward: gr.Button
    refer: gr.Button
    reuse: gr.Button
    line: gr.HTML
    how: gr.Accordion
    recipe: gr.JSON
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

    async def stop(job: str, request: gr.Request) -> None:
        await worded(desk.cancel(job), request)

    async def reuse(job: str, request: gr.Request) -> int:
        status, _ = await worded(desk.aside(desk.look, job), request)
        return status.seed

    shown.stop.click(stop, shown.job, None, **quiet)
    shown.reuse.click(reuse, shown.job, widgets["seed"], **quiet)
    shown.job.change(None, shown.job, None, js=REMEMBER, api_visibility="private")
    visit.onward += [
        (shown.extend, shown.job, "extends"), (shown.onward, shown.job, "image"), (shown.refer, shown.job, "reference")
    ]  # fmt: skip
    takes = {"image": ("image", "extends"), "reference": ("reference",)}.get(tab.mode, ())
    visit.takers |= {name: (widgets[name], widgets["prompt"]) for name in takes}
    visit.stages.append((tab.mode, shown.view))
    visit.returns.append((tab.follow(), outputs))
