"""The page: a tab per mode, each an input card beside the stage."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import gradio as gr

from wan_core.errors import MediaError
from wan_core.specs import SPECS, ModelSpec
from wan_core.types import Request
from wan_core.ui import stage
from wan_core.ui.handlers import Desk, api_handler, page_handler, statement

EXAMPLES = (
    "a small red star bouncing on green grass",
    "a blue ring circling in a night sky",
    "黄色いハートが砂漠で大きくなる",
    "绿色方块在蓝天上向左移动",
)
#: A number field shows 0 when it is empty, so "leave it to the model" needs a value of its own.
LEFT_OPEN = {"width": 0, "height": 0, "flow_shift": 0, "seed": -1}
TABS = {"text": "Text", "image": "Image", "reference": "Reference"}
CONSENT = "Use a face or a voice only with the consent of the person it belongs to."
QUALITIES = {"Draft": 0.5, "Standard": 1.0, "Fine": 2.0}


def picture(label: str, height: int) -> gr.Image:
    """An image input that hands over the uploaded file as it is, to be checked by the core.

    Gradio's own preprocessing decodes the file and fails without words. The method is replaced on
    the instance: for a subclass Gradio would write a stub file beside this one.
    """
    widget = gr.Image(label=label, type="filepath", sources=["upload", "clipboard"], height=height)
    widget.preprocess = lambda payload: None if payload is None else payload.path
    return widget


def voice() -> gr.Audio:
    """A sound input, from a file or the microphone, handed over as a file like :func:`picture`'s."""
    widget = gr.Audio(label="Voice", type="filepath", sources=["upload", "microphone"])
    widget.preprocess = lambda payload: None if payload is None else payload.path
    return widget


@dataclass(frozen=True)
class Inputs:
    """One tab's widgets, in the order in which handlers take them."""

    prompt: gr.Textbox
    negative_prompt: gr.Textbox
    image: gr.Image | None
    last_image: gr.Image | None
    image_fit: gr.Radio | None
    reference: gr.Image | None
    reference_2: gr.Image | None
    reference_3: gr.Image | None
    audio: gr.Audio | None
    width: gr.Number
    height: gr.Number
    num_frames: gr.Slider
    num_inference_steps: gr.Slider
    guidance_scale: gr.Slider
    flow_shift: gr.Number
    sampler: gr.Radio
    seed: gr.Number

    def widgets(self) -> list[Any]:
        """Every widget that exists."""
        return [w for w in (getattr(self, n) for n in self.__dataclass_fields__) if w is not None]

    def names(self) -> list[str]:
        """The request's field of every widget."""
        return [n for n in self.__dataclass_fields__ if getattr(self, n) is not None]


def build(spec: ModelSpec, badge: str, desk: Desk) -> gr.Blocks:
    """Make the page.

    Args:
        spec: the loaded model.
        badge: which model, device and precision, in a few words.
        desk: runs requests.

    Returns:
        The page, ready to launch.
    """
    with gr.Blocks(title="Wan Atelier", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.HTML(_head(spec, badge))
        with gr.Tabs():
            for mode, label in TABS.items():
                with gr.Tab(label, id=mode):
                    if mode in spec.modes:
                        _tab(mode, spec, desk)
                    else:
                        gr.Markdown(_absent(mode, spec))
        _verifier()
        page.unload(_stopper(desk))
    page.queue(max_size=32, api_open=False, default_concurrency_limit=16)
    return page


def _head(spec: ModelSpec, badge: str) -> str:
    note = f'<p class="note">{html.escape(spec.note)}</p>' if spec.note else ""
    return (
        f'<div id="head"><span class="mark">Wan <b>Atelier</b></span>'
        f'<span class="badge"><i></i>{html.escape(badge)}</span>{note}</div>'
    )


def _absent(mode: str, spec: ModelSpec) -> str:
    able = ", ".join(name for name, other in SPECS.items() if mode in other.modes)
    return f"The loaded model, {spec.name}, has no {mode} mode. These have: {able}. Set WAN_MODEL to the folder of one."


def _tab(mode: str, spec: ModelSpec, desk: Desk) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_classes="card"):
            inputs = _inputs(mode, spec)
            go = gr.Button("Generate", variant="primary", elem_classes="make")
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
    _wire(mode, desk, inputs, go, stop, [view, video, stop, save, line])


def _wire(mode: str, desk: Desk, inputs: Inputs, go: gr.Button, stop: gr.Button, outputs: list[Any]) -> None:
    names, widgets = inputs.names(), inputs.widgets()

    def request_of(*values: Any) -> Request:
        return _request(mode, dict(zip(names, values, strict=True)))

    gr.on(
        [go.click, inputs.prompt.submit], page_handler(desk, request_of, names), widgets, outputs,
        show_progress="hidden", api_visibility="private", concurrency_id="page", concurrency_limit=16,
    )  # fmt: skip
    stop.click(_stopper(desk), None, None, api_visibility="private", queue=False)
    _endpoint(mode, desk, names, widgets, request_of)


def _request(mode: str, fields: dict[str, Any]) -> Request:
    """A tab's values as a request; what was left open stays open."""
    pictures = [fields.pop(name, None) for name in ("reference", "reference_2", "reference_3")]
    fields["references"] = tuple(p for p in pictures if p) or None
    if mode == "image" and not fields["image"]:
        raise MediaError("image", "nothing", "the Image tab needs a first frame", "drop a picture on it")
    if mode == "reference" and not (fields["references"] or fields["audio"]):
        raise MediaError("references", "nothing", "the Reference tab needs a picture or a voice", "give one")
    if mode == "reference" and fields["audio"]:
        fields.pop("num_frames", None)  # the video lasts as long as the sound
    given: dict[str, Any] = {k: v for k, v in fields.items() if v is not None and v != LEFT_OPEN.get(k)}
    given.setdefault("prompt", "")
    return Request(**given)


def _stopper(desk: Desk) -> Any:
    """A handler that stops what its visitor has running."""

    def stop(request: gr.Request) -> None:
        desk.stop(request.session_hash)

    return stop


def _endpoint(mode: str, desk: Desk, names: list[str], widgets: list[Any], request_of: Any) -> None:
    """The same request for programs: ``/text_to_video`` and ``/image_to_video``."""
    call = api_handler(desk, request_of, names, f"Make a video in {mode} mode; the fields are wan_core.Request's.")
    trigger = gr.Button(visible=False)
    video, seed = gr.Video(label="video", visible=False), gr.Number(label="seed", visible=False, precision=0)
    trigger.click(
        call, widgets, [video, seed], api_name=f"{mode}_to_video", concurrency_id="page", concurrency_limit=16
    )


def _verifier() -> None:
    """``/verify``: what a video says about its own making."""
    file, said = gr.File(visible=False, label="file"), gr.JSON(visible=False)
    gr.Button(visible=False).click(statement, file, said, api_name="verify", concurrency_id="page")


def _inputs(mode: str, spec: ModelSpec) -> Inputs:
    recipe = spec.recipe
    image = last = how = sound = None
    people: list[gr.Image | None] = [None, None, None]
    if mode == "image":
        image = picture("First frame", 220)
        how = gr.Radio([("Crop to fill", "crop"), ("Pad on white", "pad")], value="crop", label="Fit")
        if "last_image" in spec.modes:
            with gr.Accordion("Last frame", open=False):
                last = picture("Last frame", 180)
    if mode == "reference":
        gr.Markdown(CONSENT, elem_classes="consent")
        with gr.Row():
            names = ("Who or what", "And", "And")[: spec.references[1]]
            people[: len(names)] = [picture(name, 150) for name in names]
        sound = voice()
    prompt = gr.Textbox(
        value=EXAMPLES[0] if mode == "text" else "", label="Prompt", lines=3, max_lines=8,
        placeholder="What happens in the video?",
    )  # fmt: skip
    if mode != "reference":
        _chips(prompt, EXAMPLES if mode == "text" else ("bouncing", "右に動く", "旋转"))
    quality = gr.Radio(list(QUALITIES), value="Standard", label="Quality")
    length = f"Length in frames, {recipe.fps} a second"
    frames = gr.Slider(1, spec.max_frames, recipe.frames, step=4, label=length, visible=mode != "reference")
    with gr.Accordion("Advanced", open=False):
        steps = gr.Slider(1, 100, recipe.steps, step=1, label="Steps")
        guidance = gr.Slider(1, 12, recipe.guidance, step=0.1, label="Guidance (1 is off)")
        seed = gr.Number(value=LEFT_OPEN["seed"], label="Seed (-1: a new one)", precision=0)
        negative = gr.Textbox(value=recipe.negative, label="Negative prompt", lines=2)
        with gr.Row():
            follow = mode == "image" and not spec.fixed_size
            hint = " (0: the picture's shape)" if follow else ""
            width = gr.Number(value=0 if follow else recipe.size[0], label="Width" + hint, precision=0)
            height = gr.Number(value=0 if follow else recipe.size[1], label="Height" + hint, precision=0)
        sampler = gr.Radio(["unipc", "euler"], value="unipc", label="Sampler")
        shift = gr.Number(value=LEFT_OPEN["flow_shift"], label="Flow shift (0: the model's own)")
    quality.change(
        lambda q: max(1, round(recipe.steps * QUALITIES[q])), quality, steps, api_visibility="private", queue=False
    )
    who, second, third = people
    return Inputs(
        prompt, negative, image, last, how, who, second, third, sound, width, height, frames, steps, guidance, shift,
        sampler, seed,
    )  # fmt: skip


def _chips(prompt: gr.Textbox, texts: tuple[str, ...]) -> None:
    with gr.Row(elem_classes="chips"):
        for text in texts:
            chip = gr.Button(text, size="sm")
            chip.click(lambda text=text: text, None, prompt, api_visibility="private", queue=False)
