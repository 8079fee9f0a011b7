"""One tab's inputs: its widgets by the request's fields, and their values as a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from wan_core.errors import MediaError
from wan_core.framing import GRID, sizes
from wan_core.plan import OWN_GUIDANCE, SAMPLERS
from wan_core.specs import FEW_STEPS, ModelSpec
from wan_core.types import Request
from wan_core.ui.sight import DRAG
from wan_core.ui.words import label

EXAMPLES = (
    "a small red star bouncing on green grass",
    "a blue ring circling in a night sky",
    "黄色いハートが砂漠で大きくなる",
    "绿色方块在蓝天上向左移动",
)
MOTIONS = ("bouncing", "右に動く", "旋转")
#: What the examples are made of; whoever launches the page must allow it to be served.
SHELF = Path(__file__).parents[2] / "assets" / "examples"
#: Somebody to try the Reference tab with: a name, and what they say where.
CAST = {
    "Pip": ("pip.png", "austen-0880.flac", "talking in the middle, hopping, on green grass"),
    "Rua": ("rua.png", "austen-0930.flac", "左側でうなずいて話している、夜空"),
    "Lou": ("lou.png", "austen-0890.flac", "在沙漠的右边，左右摇摆着说话"),
}
CONSENT = "Use a face or a voice only with the consent of the person it belongs to"
#: A number field shows 0 when it is empty, so "leave it to the model" needs a value of its own.
LEFT_OPEN = {"width": 0, "height": 0, "flow_shift": 0, "seed": -1}
QUALITIES = {"Draft": 0.5, "Standard": 1.0, "Fine": 2.0}
PICTURES = ("reference", "reference_2", "reference_3", "reference_4")
#: The order of a tab's fields; every tab has some of them.
ORDER = (
    "prompt", "negative_prompt", "image", "last_image", "extends", "image_fit", "focal_x", "focal_y", *PICTURES,
    "audio", "video", "mask", "width", "height", "num_frames", "num_inference_steps", "guidance_scale",
    "guidance_scale_2", "audio_guidance_scale", "image_guidance_scale", "conditioning_scale", "guidance_method",
    "guidance_start", "guidance_stop", "flow_shift", "sampler", "tier", "seed",
)  # fmt: skip


def inputs(mode: str, spec: ModelSpec) -> tuple[dict[str, Any], gr.HTML | None]:
    """Lay out one tab's inputs.

    Args:
        mode: "text", "image" or "reference".
        spec: the loaded model.

    Returns:
        Widgets by field, in the API's order, and where it is shown what the model sees of a picture.
    """
    widgets: dict[str, Any] = {}
    seen: gr.HTML | None = None
    if mode == "image":
        first, seen = _frames(spec)
        widgets |= first
    elif mode == "reference":
        widgets |= _people(spec)
    prompt = gr.Textbox(
        value=EXAMPLES[0] if mode == "text" else "", label=label("Prompt"), lines=3, max_lines=8,
        placeholder=label("What happens in the video?"),
    )  # fmt: skip
    if mode == "reference" and "audio" in widgets:
        _cast([*(widgets[name] for name in PICTURES if name in widgets), widgets["audio"], prompt])
    elif mode != "reference":
        _chips(prompt, EXAMPLES if mode == "text" else MOTIONS)
    quality = gr.Radio([(label(name), name) for name in QUALITIES], value="Standard", label=label("Quality"))
    # with a voice, the video lasts as long
    frames = gr.Slider(
        1, spec.max_frames, spec.recipe.frames, step=4, label=label("Length in frames"), visible="audio" not in widgets
    )
    shape = None if spec.fixed_size else gr.Dropdown(_shapes(mode, spec), value=None, label=label("Shape"))
    widgets |= {"prompt": prompt, "num_frames": frames} | _advanced(mode, spec)
    if shape is not None:
        shape.change(
            lambda size: [int(side) for side in size.split("x")], shape, [widgets["width"], widgets["height"]],
            api_visibility="private", queue=False,
        )  # fmt: skip
    quality.input(  # by hand only: steps that a link or a file brings stay
        lambda q: max(1, round(spec.recipe.steps * QUALITIES[q])), quality, widgets["num_inference_steps"],
        api_visibility="private", queue=False,
    )  # fmt: skip
    return {name: widgets[name] for name in ORDER if name in widgets}, seen


def _shapes(mode: str, spec: ModelSpec) -> list[tuple[str, str]]:
    """Sizes of common shapes; in image mode the picture's own comes first."""
    own = [(label("As the picture"), "0x0")] if mode == "image" else []
    some = {
        name: "x".join(map(str, size))
        for name, size in sizes(spec.recipe.size, spec.max_side, max(GRID, spec.grid)).items()
    }
    return own + [(f"{name} · {size}", size) for name, size in some.items()]


def _frames(spec: ModelSpec) -> tuple[dict[str, Any], gr.HTML]:
    """A first frame, how it fits and what is seen of it, and a last frame where the model takes one."""
    image = picture(label("First frame"), 220)
    seen = gr.HTML(visible=False, js_on_load=DRAG)
    fit = gr.Radio([(label("Crop to fill"), "crop"), (label("Pad on white"), "pad")], value="crop", label=label("Fit"))
    with gr.Row() as focus:
        across = gr.Slider(0, 1, 0.5, step=0.05, label=label("Focus, across"))
        down = gr.Slider(0, 1, 0.5, step=0.05, label=label("Focus, down"))
    fit.change(lambda way: gr.Row(visible=way == "crop"), fit, focus, api_visibility="private", queue=False)
    widgets = {"image": image, "image_fit": fit, "focal_x": across, "focal_y": down}
    if "last_image" in spec.modes:
        with gr.Accordion(label("Last frame"), open=False):
            widgets["last_image"] = picture(label("Last frame"), 180)
    with gr.Accordion(label("Or a video to go on from"), open=False):
        widgets["extends"] = clip(label("Video"))
    return widgets, seen


def _people(spec: ModelSpec) -> dict[str, Any]:
    """Reference pictures, and a voice or a video where the model takes one."""
    gr.Markdown(label(CONSENT), elem_classes="consent")
    with gr.Row():
        labels = ("Who or what", *["And"] * 3)[: spec.references[1]]
        widgets: dict[str, Any] = {n: picture(label(word), 150) for n, word in zip(PICTURES, labels, strict=False)}
    if "sound" in spec.modes:
        widgets["audio"] = voice(label("Voice"))
    if "video" in spec.modes:
        with gr.Accordion(label("A video to follow or to change"), open=False):
            widgets["video"] = clip(label("Video"))
            widgets["mask"] = gr.File(label=label("Mask: white is changed, black is kept"), height=90)
            ways = [(label("Crop to fill"), "crop"), (label("Pad, and paint around it"), "pad")]
            widgets["image_fit"] = gr.Radio(ways, value="crop", label=label("Fit"))
    return widgets


def _advanced(mode: str, spec: ModelSpec) -> dict[str, Any]:
    """What most people leave alone."""
    recipe = spec.recipe
    widgets: dict[str, Any] = {}
    with gr.Accordion(label("Advanced"), open=False):
        widgets["num_inference_steps"] = gr.Slider(1, 100, recipe.steps, step=1, label=label("Steps"))
        widgets["guidance_scale"] = gr.Slider(1, 12, recipe.guidance, step=0.1, label=label("Guidance (1 is off)"))
        if spec.boundary is not None:  # two experts
            low = recipe.guidance if recipe.guidance_low is None else recipe.guidance_low
            widgets["guidance_scale_2"] = gr.Slider(1, 12, low, step=0.1, label=label("Guidance at low noise"))
        for name, value, word in (
            ("audio_guidance_scale", recipe.audio_guidance, "Guidance by the voice"),
            ("image_guidance_scale", recipe.image_guidance, "Guidance by the pictures"),
        ):
            if mode == "reference" and value != 1:
                widgets[name] = gr.Slider(1, 12, value, step=0.1, label=label(word))
        if mode == "reference" and "video" in spec.modes:
            word = label("How closely video and pictures are followed")
            widgets["conditioning_scale"] = gr.Slider(0, 2, 1.0, step=0.05, label=word)
        if spec.kind not in OWN_GUIDANCE and recipe.guidance > 1:
            widgets["guidance_method"] = gr.Radio(
                [(label("Plain"), "plain"), ("CFG-Zero*", "zero_star")], value="plain", label=label("Guidance formula")
            )
        if recipe.guidance > 1:
            for name, share, word in (
                ("start", 0, "Guidance from (share of the steps)"),
                ("stop", 1, "Guidance until (share of the steps)"),
            ):
                widgets[f"guidance_{name}"] = gr.Slider(0, 1, share, step=0.05, label=label(word))
        widgets["seed"] = gr.Number(value=LEFT_OPEN["seed"], label=label("Seed (-1: a new one)"), precision=0)
        widgets["negative_prompt"] = gr.Textbox(value=recipe.negative, label=label("Negative prompt"), lines=2)
        with gr.Row(visible=not spec.fixed_size):
            follow = mode == "image" and not spec.fixed_size
            hint = " (0: as the picture)" if follow else ""
            for name, side in zip(("width", "height"), recipe.size, strict=True):
                word = label(name.capitalize() + hint)
                widgets[name] = gr.Number(value=0 if follow else side, label=word, precision=0)
        if recipe.steps > FEW_STEPS:
            ways = [(label("All of them"), "exact"), (label("As needed (faster)"), "fast")]
            if spec.scheduled:
                ways.append((label("By schedule (faster)"), "scheduled"))
            widgets["tier"] = gr.Radio(ways, value="exact", label=label("Steps that are computed"))
        widgets["sampler"] = gr.Radio(list(SAMPLERS), value=recipe.sampler, label=label("Sampler"))
        widgets["flow_shift"] = gr.Number(value=LEFT_OPEN["flow_shift"], label=label("Flow shift (0: the model's own)"))
    return widgets


def picture(name: str, height: int | None = None, visible: bool = True) -> gr.Image:
    """An image input that hands over the uploaded file as it is, to be checked by the core.

    Gradio's own preprocessing decodes the file and fails without words. The method is replaced on
    the instance: for a subclass Gradio would write a stub file beside this one.

    Args:
        name: its label.
        height: pixels.
        visible: for people; else only programs reach it.
    """
    widget = gr.Image(label=name, type="filepath", sources=["upload", "clipboard"], height=height, visible=visible)
    widget.preprocess = lambda payload: None if payload is None else payload.path
    return widget


def voice(name: str, visible: bool = True) -> gr.Audio:
    """A sound input, from a file or the microphone, handed over as :func:`picture` hands pictures."""
    widget = gr.Audio(label=name, type="filepath", sources=["upload", "microphone"], visible=visible)
    widget.preprocess = lambda payload: None if payload is None else payload.path
    return widget


def clip(name: str, visible: bool = True) -> gr.Video:
    """A video input, handed over as :func:`picture` hands pictures."""
    widget = gr.Video(label=name, sources=["upload"], visible=visible)
    widget.preprocess = lambda payload: None if payload is None else payload.path
    return widget


def _chips(prompt: gr.Textbox, texts: tuple[str, ...]) -> None:
    with gr.Row(elem_classes="chips"):
        for text in texts:
            chip = gr.Button(text, size="sm")
            chip.click(lambda text=text: text, None, prompt, api_visibility="private", queue=False)


def _cast(parts: list[Any]) -> None:
    """Buttons that fill in a picture and no others, a voice and a prompt at once."""
    with gr.Row(elem_classes="chips"):
        for name, (face, voice, text) in CAST.items():
            given = (str(SHELF / face), *[None] * (len(parts) - 3), str(SHELF / voice), text)
            chip = gr.Button(name, size="sm", icon=SHELF / face)
            chip.click(lambda given=given: given, None, parts, api_visibility="private", queue=False)


def flattened(fields: dict[str, Any]) -> dict[str, Any]:
    """A recipe's fields as the widgets and the API have them: the focal point in two numbers."""
    flat = {k: v for k, v in fields.items() if k in ORDER}
    if fields.get("focal_point") is not None:
        flat["focal_x"], flat["focal_y"] = fields["focal_point"]
    return flat


def closed(fields: dict[str, Any]) -> dict[str, Any]:
    """A tab's values, None for what its widgets leave open; with a voice, the hidden length is."""
    values = {k: None if v == LEFT_OPEN.get(k, object()) else v for k, v in fields.items()}
    return values | {"num_frames": None} if values.get("audio") else values


def request_of(mode: str, fields: dict[str, Any]) -> Request:
    """A tab's or an endpoint's values as a request.

    Args:
        mode: the tab's.
        fields: values by field; None leaves one open.

    Raises:
        MediaError: the tab's picture or sound is missing.
    """
    fields = dict(fields)
    pictures = tuple(fields.pop("reference_images", None) or ())
    pictures += tuple(p for p in (fields.pop(name, None) for name in PICTURES) if p)
    x, y = fields.pop("focal_x", None), fields.pop("focal_y", None)
    if mode == "image" and not (fields["image"] or fields.get("extends")):
        hint = "drop a picture on it, or a video to go on from"
        raise MediaError("image", "nothing", "the Image tab needs a first frame", hint)
    if mode == "reference" and not (pictures or fields.get("audio") or fields.get("video")):
        raise MediaError("reference_images", "nothing", "the Reference tab needs a picture or a voice", "give one")
    given: dict[str, Any] = {k: v for k, v in fields.items() if v is not None}
    if pictures:
        given["reference_images"] = pictures
    if (x, y) != (None, None):
        given["focal_point"] = (0.5 if x is None else x, 0.5 if y is None else y)
    given.setdefault("prompt", "")
    return Request(**given)
