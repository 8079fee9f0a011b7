"""The page: a tab per mode, each an input card beside the stage."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from wan_core.specs import SPECS, ModelSpec
from wan_core.studio.recipe import Engines
from wan_core.types import Request
from wan_core.ui import stage
from wan_core.ui.handlers import Desk, api_handler, page_handler, restore_handler, restored, statement
from wan_core.ui.inputs import inputs, request_of

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
        head = gr.HTML(_head(specs[0], f"{specs[0].name} · loading"))
        page.load(
            lambda: _head(specs[0], badge()), None, head, show_progress="hidden", api_visibility="private", queue=False
        )
        names: dict[str, list[str]] = {}
        engines = {mode: next((spec for spec in specs if mode in spec.modes), None) for mode in TABS}
        with gr.Tabs():
            for mode, label in TABS.items():
                with gr.Tab(label, id=mode):
                    engine = engines[mode]
                    if engine is None:
                        gr.Markdown(_absent(mode, specs))
                    else:
                        if engine is not specs[0]:
                            gr.Markdown(_why(mode, engine, specs[0]), elem_classes="plan")
                        names[mode] = _tab(mode, engine, desk, engines)
        _verifier(engines, names)
        page.unload(_stopper(desk))
    page.queue(max_size=32, api_open=False, default_concurrency_limit=16)
    return page


def _head(spec: ModelSpec, badge: str) -> str:
    note = f'<p class="note">{html.escape(spec.note)}</p>' if spec.note else ""
    return (
        f'<div id="head"><span class="mark">Wan <b>Atelier</b></span>'
        f'<span class="badge"><i></i>{html.escape(badge)}</span>{note}</div>'
    )


def _why(mode: str, engine: ModelSpec, first: ModelSpec) -> str:
    """Which engine serves a tab, and why it is not the first one."""
    note = f" {engine.note}" if engine.note else ""
    return f"Made by {engine.name}, because {first.name} has no {mode} mode.{note}"


def _absent(mode: str, specs: Sequence[ModelSpec]) -> str:
    able = ", ".join(name for name, other in SPECS.items() if mode in other.modes)
    loaded = " and ".join(spec.name for spec in specs)
    return (
        f"What is loaded, {loaded}, has no {mode} mode. These have: {able}. Set WAN_MODEL to the folder of one; "
        "several, with commas between them, share the tabs."
    )


def _tab(mode: str, spec: ModelSpec, desk: Desk, engines: Engines) -> list[str]:
    """Lay out and wire one tab; returns its fields."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_classes="card"):
            widgets = inputs(mode, spec)
            go = gr.Button("Generate", variant="primary", elem_classes="make")
            again = gr.UploadButton("Restore from a video …", file_types=[".mp4"], size="sm", elem_classes="again")
            told = gr.Markdown("", elem_classes="plan")
            again.upload(
                restore_handler(mode, list(widgets), engines), again, [*widgets.values(), told],
                show_progress="hidden", api_visibility="private", queue=False,
            )  # fmt: skip
        with gr.Column(scale=8, min_width=320):
            with gr.Column(elem_classes="stage"):
                view = gr.HTML(stage.empty())
                video = gr.Video(
                    label="Result", show_label=False, visible=False, interactive=False, autoplay=True, loop=True,
                    buttons=[], height=420,
                )  # fmt: skip
                stop = gr.Button("Cancel", visible=False, elem_classes="stop")
            with gr.Row(elem_classes="after"):
                save = gr.DownloadButton("Download", visible=False)
                line = gr.Markdown("", elem_classes="plan")
    _wire(mode, desk, widgets, go, stop, [view, video, stop, save, line])
    return list(widgets)


def _wire(mode: str, desk: Desk, widgets: dict[str, Any], go: gr.Button, stop: gr.Button, outputs: list[Any]) -> None:
    names, order = list(widgets), list(widgets.values())

    def read(*values: Any) -> Request:
        return request_of(mode, dict(zip(names, values, strict=True)))

    gr.on(
        [go.click, widgets["prompt"].submit], page_handler(desk, read, names), order, outputs,
        show_progress="hidden", api_visibility="private", concurrency_id="page", concurrency_limit=16,
    )  # fmt: skip
    stop.click(_stopper(desk), None, None, api_visibility="private", queue=False)
    _endpoint(mode, desk, names, order, read)


def _stopper(desk: Desk) -> Any:
    """A handler that stops what its visitor has running."""

    def stop(request: gr.Request) -> None:
        desk.stop(request.session_hash)

    return stop


def _endpoint(mode: str, desk: Desk, names: list[str], widgets: list[Any], read: Any) -> None:
    """The same request for programs: ``/text_to_video`` and ``/image_to_video``."""
    call = api_handler(desk, read, names, f"Make a video in {mode} mode; the fields are wan_core.Request's.")
    trigger = gr.Button(visible=False)
    video, seed = gr.Video(label="video", visible=False), gr.Number(label="seed", visible=False, precision=0)
    trigger.click(
        call, widgets, [video, seed], api_name=f"{mode}_to_video", concurrency_id="page", concurrency_limit=16
    )


def _verifier(engines: Engines, names: dict[str, list[str]]) -> None:
    """``/verify``: what a video says about its own making; ``/restore``: how to make it again."""
    file, said = gr.File(visible=False, label="file"), gr.JSON(visible=False)
    gr.Button(visible=False).click(statement, file, said, api_name="verify", concurrency_id="page")

    def recipe(file: str | None) -> dict[str, Any]:
        return restored(file, engines, names)

    gr.Button(visible=False).click(recipe, file, said, api_name="restore", concurrency_id="page")
