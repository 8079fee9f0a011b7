"""A request against a model: every choice made, every rule checked, its price known, before anything is spent."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wan_core.errors import RequestError
from wan_core.magnitude import left_out
from wan_core.specs import ModelSpec, Recipe
from wan_core.types import Geometry, Kind, Request, Settled

PROMPT_LIMIT = 2000
SEED_LIMIT = 2**53  # what a JSON number holds exactly
SAMPLERS = ("unipc", "euler", "renoise")
FITS = ("crop", "pad")
TIERS = ("exact", "fast", "scheduled")
GUIDANCE = ("plain", "zero_star")
OWN_GUIDANCE = ("humo", "phantom")  # kinds of model whose branches are weighed by a formula of their own
TEXT_TOKENS = 512


def settle(
    request: Request,
    spec: ModelSpec,
    geometry: Geometry,
    picture: tuple[int, int] | None = None,
    sound_seconds: float | None = None,
    shown: int | None = None,
    in_front: int = 0,
) -> Settled:
    """Fill in what a request leaves open and check all of it.

    Args:
        request: what was asked for.
        spec: the model's modes and recipe.
        geometry: its grid.
        picture: width and height of the first frame's picture, in image mode.
        sound_seconds: how long the sound lasts, in reference mode; the video lasts as long.
        shown: frames of the video that is given; the one to be made has as many, if nothing else is said.
        in_front: frames of the video that is gone on from.

    Returns:
        The settled request.

    Raises:
        RequestError: naming field, rule and the nearest valid value.
    """
    recipe = spec.recipe
    _check_mode(request, spec)
    width, height = _size(request, spec, geometry, picture)
    guidance, low, by_sound, by_pictures = _scales(request, recipe)
    method, start, stop = _guidance(request, spec)
    prompt, seed = _prompt(request.prompt), _seed(request.seed)
    return Settled(
        prompt=prompt,
        negative_prompt=_negative(request.negative_prompt, recipe.negative),
        width=width,
        height=height,
        num_frames=_frames(request, spec, geometry, sound_seconds, shown),
        num_inference_steps=_integer("num_inference_steps", request.num_inference_steps, recipe.steps, 1, 100),
        guidance_scale=guidance,
        guidance_scale_2=low,
        audio_guidance_scale=by_sound,
        image_guidance_scale=by_pictures,
        conditioning_scale=_number("conditioning_scale", request.conditioning_scale, 1.0, 0.0, 2.0),
        flow_shift=_number("flow_shift", request.flow_shift, recipe.shift_for(width, height), 0.1, 50.0),
        sampler=_choice("sampler", recipe.sampler if request.sampler is None else request.sampler, SAMPLERS),
        seed=seed,
        fps=recipe.fps,
        mode=request.mode,
        image_fit=_choice("image_fit", request.image_fit, FITS),
        focal_point=_focal(request.focal_point),
        tier=_tier(request, spec),
        guidance_method=method,
        guidance_start=start,
        guidance_stop=stop,
        in_front=in_front,
        read_as=spec.reads(prompt, seed, request.mode),
    )


def _scales(request: Request, recipe: Recipe) -> tuple[float, float, float, float]:
    """Guidance at high noise, at low noise (the same where the recipe is silent), by the sound, and by the pictures."""
    high = _number("guidance_scale", request.guidance_scale, recipe.guidance, 1.0, 20.0)
    usual = high if recipe.guidance_low is None else recipe.guidance_low
    low = _number("guidance_scale_2", request.guidance_scale_2, usual, 1.0, 20.0)
    by_sound = _number("audio_guidance_scale", request.audio_guidance_scale, recipe.audio_guidance, 0.0, 20.0)
    by_pictures = _number("image_guidance_scale", request.image_guidance_scale, recipe.image_guidance, 0.0, 20.0)
    return high, low, by_sound, by_pictures


def _guidance(request: Request, spec: ModelSpec) -> tuple[str, float, float]:
    """How guidance is taken, and between which shares of the steps."""
    method = _choice("guidance_method", request.guidance_method, GUIDANCE)
    if method != "plain" and spec.kind in OWN_GUIDANCE:
        rule = f"{spec.name} guides text, pictures and sound apart, in a way of its own"
        raise RequestError("guidance_method", method, rule, "leave it out")
    sampler = request.sampler or spec.recipe.sampler
    if method == "zero_star" and sampler == "renoise":
        rule = "its first step stands still, which renoise takes for a finished video"
        raise RequestError("guidance_method", method, rule, "leave it out")
    start = _number("guidance_start", request.guidance_start, 0.0, 0.0, 1.0)
    return method, start, _number("guidance_stop", request.guidance_stop, 1.0, start, 1.0)


def _tier(request: Request, spec: ModelSpec) -> str:
    tier = _choice("tier", request.tier, TIERS)
    if tier == "scheduled" and not spec.scheduled:
        raise RequestError("tier", tier, f"{spec.name} has no schedule of steps to leave out", "try fast")
    return tier


def _check_mode(request: Request, spec: ModelSpec) -> None:
    if request.last_image is not None and request.image is None and request.extends is None:
        raise RequestError("last_image", "given alone", "a last frame needs a first one", "give image too")
    if request.last_image is not None and "last_image" not in spec.modes:
        raise RequestError("last_image", "given", f"{spec.name} takes no last frame", "leave it out")
    if request.extends is not None and request.image is not None:
        raise RequestError("image", "given", "the video that is gone on from ends with the first frame", "leave it out")
    if request.extends is not None and "image" not in spec.modes:
        raise RequestError("extends", "given", f"{spec.name} has no image mode", "leave it out")
    for field, needs in (("audio", "sound"), ("video", "video"), ("mask", "video")):
        if getattr(request, field) is not None and needs not in spec.modes:
            raise RequestError(field, "given", f"{spec.name} takes no {needs}", "leave it out")
    if request.mask is not None and request.video is None:
        raise RequestError("mask", "given alone", "a mask says what of a video is changed", "give video too")
    if request.mode not in spec.modes:
        field, hint = {
            "text": ("reference_images", "give a reference")
            if "reference" in spec.modes
            else ("image", "give an image"),
            "image": ("image", "leave the image out"),
            "reference": ("reference_images", "leave reference images and audio out"),
        }[request.mode]
        raise RequestError(field, request.mode + " mode", f"{spec.name} has no {request.mode} mode", hint)
    if request.mode == "reference":
        if request.image is not None:
            raise RequestError("image", "given", "reference mode takes reference images", "give it as a reference")
        if request.extends is not None:
            raise RequestError("extends", "given", "reference mode goes on from no video", "leave it out")
        least, most = spec.references
        count = len(request.reference_images)
        if not least <= count <= most:
            rule = f"{spec.name} takes {least if least == most else f'{least} to {most}'} reference pictures"
            raise RequestError(
                "reference_images", f"{count} pictures", rule, f"give {least if count < least else most}"
            )


def _prompt(value: Any) -> str:
    if not isinstance(value, str):
        raise RequestError("prompt", value, "must be text")
    text = value.strip()
    if not text:
        raise RequestError("prompt", value, "must say what to show", 'try "a red ball bouncing on grass"')
    if len(text) > PROMPT_LIMIT:
        raise RequestError(
            "prompt", value, f"has {len(text):,} characters, at most {PROMPT_LIMIT:,} are read",
            f"shorten it by {len(text) - PROMPT_LIMIT:,}",
        )  # fmt: skip
    return text


def _negative(value: Any, default: str) -> str:
    if value is None:
        return default
    if not isinstance(value, str):
        raise RequestError("negative_prompt", value, "must be text")
    if len(value) > PROMPT_LIMIT:
        raise RequestError("negative_prompt", value, f"may have at most {PROMPT_LIMIT:,} characters")
    return value.strip()


def _size(request: Request, spec: ModelSpec, geometry: Geometry, picture: tuple[int, int] | None) -> tuple[int, int]:
    default, grid = spec.recipe.size, math.lcm(geometry.grid, spec.grid)
    if picture is not None and not spec.fixed_size:
        default = _same_area(default, picture, grid, enlarge=request.mode != "reference")
    if spec.fixed_size:
        for field, value, fixed in zip(("width", "height"), (request.width, request.height), default, strict=True):
            if value is not None and value != fixed:
                raise RequestError(field, value, f"{spec.name} only makes {default[0]}x{default[1]}", f"try {fixed}")
    return (
        _side("width", request.width, default[0], grid, spec.max_side),
        _side("height", request.height, default[1], grid, spec.max_side),
    )


def _same_area(size: tuple[int, int], picture: tuple[int, int], grid: int, enlarge: bool) -> tuple[int, int]:
    """The picture's own aspect at the recipe's area, on the grid."""
    area, aspect = size[0] * size[1], picture[0] / picture[1]
    if not enlarge:
        area = min(area, picture[0] * picture[1])
    width, height = math.sqrt(area * aspect), math.sqrt(area / aspect)
    return max(grid, int(width // grid) * grid), max(grid, int(height // grid) * grid)


def _side(field: str, value: Any, default: int, grid: int, most: int) -> int:
    if value is None:
        return default
    value = _whole(field, value)
    top = most // grid * grid
    if value % grid or not grid <= value <= top:
        nearest = min(max(grid, round(value / grid) * grid), top)
        raise RequestError(field, value, f"must be a multiple of {grid}, {grid} to {top}", f"try {nearest}")
    return value


def _frames(
    request: Request, spec: ModelSpec, geometry: Geometry, sound_seconds: float | None, shown: int | None
) -> int:
    n, fps = geometry.temporal, spec.recipe.fps
    if sound_seconds is not None and request.num_frames is None and request.duration_seconds is None:
        return max(1, round(sound_seconds * fps))
    most = (spec.max_frames - 1) // n * n + 1
    if request.duration_seconds is not None:
        if request.num_frames is not None:
            rule = "num_frames is given too"
            raise RequestError("duration_seconds", request.duration_seconds, rule, "give one of them")
        seconds = _number("duration_seconds", request.duration_seconds, 1.0, 1 / fps, most / fps)
        return min(most, max(1, round((seconds * fps - 1) / n) * n + 1))
    if request.num_frames is None:
        return spec.recipe.frames if shown is None else min(most, max(1, (shown - 1) // n * n + 1))
    value = _whole("num_frames", request.num_frames)
    if request.extends is not None and value == 1:
        raise RequestError("num_frames", 1, f"going on takes {n + 1} frames or more", f"try {n + 1}")
    if sound_seconds is not None and value == max(1, round(sound_seconds * fps)):  # a plan of the same sound says so
        return value
    if value % n == 1 and 1 <= value <= most:
        return value
    below = min(most, max(1, (value - 1) // n * n + 1))
    above = min(most, below + n) if value > below else below
    hint = f"try {below}" if above == below else f"try {below} or {above}"
    raise RequestError("num_frames", value, f"Wan makes {n}n+1 frames, 1 to {most}", hint)


def _whole(field: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RequestError(field, value, "must be a whole number")
    if value != int(value):
        raise RequestError(field, value, "must be a whole number", f"try {round(value)}")
    return int(value)


def _integer(field: str, value: Any, default: int, least: int, most: int) -> int:
    if value is None:
        return default
    value = _whole(field, value)
    if not least <= value <= most:
        raise RequestError(field, value, f"must be {least} to {most}", f"try {min(max(value, least), most)}")
    return value


def _number(field: str, value: Any, default: float, least: float, most: float) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RequestError(field, value, f"must be a number from {least:g} to {most:g}", f"try {default:g}")
    if not least <= value <= most:
        raise RequestError(field, value, f"must be {least:g} to {most:g}", f"try {min(max(value, least), most):g}")
    return float(value)


def _choice(field: str, value: Any, options: tuple[str, ...]) -> str:
    if value is None:
        return options[0]
    if value not in options:
        raise RequestError(field, value, f"must be one of {', '.join(options)}", f"try {options[0]}")
    return value


def _seed(value: Any) -> int:
    if value is None:
        return secrets.randbelow(2**31)
    value = _whole("seed", value)
    if not 0 <= value < SEED_LIMIT:
        raise RequestError("seed", value, "must be 0 to 2**53 - 1", f"try {abs(value) % SEED_LIMIT}")
    return value


def _focal(value: Any) -> tuple[float, float]:
    try:
        x, y = value
    except (TypeError, ValueError) as error:
        raise RequestError("focal_point", value, "must be two numbers from 0 to 1", "try (0.5, 0.5)") from error
    return _number("focal_point", x, 0.5, 0.0, 1.0), _number("focal_point", y, 0.5, 0.0, 1.0)


# --- the price --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """A settled request and its price.

    Attributes:
        settled: what will be made.
        model: the name of what makes it.
        tokens: that one forward pass reads.
        passes: forward passes in all; fewer in the tier "fast", how many is found out on the way.
        flops: of all passes; the text encoder and the VAE come on top.
        peak: bytes of memory that it takes beside the model's weights, as far as that is known.
        revision: the model's weights, likewise.
        backend: device, precision and torch's version, likewise.
        placement: which of the weights wait in RAM for want of memory on the device; or empty.
    """

    settled: Settled
    model: str
    tokens: int
    passes: int
    flops: float
    peak: float = 0.0
    revision: str = ""
    backend: str = ""
    placement: str = ""


def price(
    settled: Settled,
    spec: ModelSpec,
    geometry: Geometry,
    config: Mapping[str, Any],
    stretches: Sequence[int],
    kinds: Sequence[Kind],
) -> Plan:
    """Price a request.

    Args:
        settled: what will be made.
        spec: of what makes it.
        geometry: its grid.
        config: its transformer's.
        stretches: latent frames of each; what is too long to be denoised at once is several.
        kinds: every step's, of one stretch.

    Returns:
        The plan.
    """
    one, _ = geometry.tokens(1, settled.height, settled.width)
    tokens = one * max(stretches) // geometry.patch[0]
    skipped = left_out(spec.recipe, kinds) if settled.tier == "scheduled" else ()
    passes = len(stretches) * sum(len(branches) for step, (_, branches) in enumerate(kinds) if step not in skipped)
    return Plan(settled, spec.name, tokens, passes, passes * forward_flops(config, tokens))


def guided_steps(settled: Settled) -> range:
    """The steps that are guided, numbered from 0."""
    steps = settled.num_inference_steps
    first, last = (int(round(share * steps, 6)) for share in (settled.guidance_start, settled.guidance_stop))
    return range(first, last)


def fitting(
    plan: Plan,
    needs: Callable[[Settled], float],
    room: float,
    geometry: Geometry,
    spec: ModelSpec,
    spoken: bool = False,
) -> Plan:
    """Refuse what does not fit, and say what would.

    Args:
        plan: of a request.
        needs: bytes that a settled request takes beside the weights.
        room: bytes that are free.
        geometry: the model's grid.
        spec: the model; one that makes a single size is offered no other.
        spoken: whether a sound says how long it is.

    Returns:
        The plan, its memory known.

    Raises:
        RequestError: naming the nearest requests that fit: a shorter one, a smaller one.
    """
    asked = plan.settled
    peak = needs(asked)
    if peak <= room:
        return replace(plan, peak=peak, revision=spec.revision)
    n, grid = geometry.temporal, math.lcm(geometry.grid, spec.grid)
    shorter = [replace(asked, num_frames=f) for f in range(asked.num_frames - n, 0, -n) if not spoken]
    smaller = []
    for share in range(19, 1, -1) if not spec.fixed_size else ():
        width, height = (max(grid, int(side * share / 20 // grid) * grid) for side in (asked.width, asked.height))
        smaller.append(replace(asked, width=width, height=height))
    tries = []
    if fits := next((s for s in shorter if needs(s) <= room), None):
        tries.append(f"{fits.num_frames} frames")
    if fits := next((s for s in smaller if needs(s) <= room), None):
        tries.append(f"{fits.width}x{fits.height}")
    rule = f"takes about {_gigabytes(peak)} beside the model, and {_gigabytes(max(0.0, room))} are free"
    hint = "try " + " or ".join(tries) if tries else "free some memory, or use a smaller model"
    raise RequestError("size", f"{asked.width}x{asked.height}x{asked.num_frames}", rule, hint)


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def forward_flops(config: Mapping[str, Any], tokens: int) -> float:
    """Multiplications and additions of one forward pass, those of the blocks.

    Args:
        config: with num_attention_heads, attention_head_dim, ffn_dim and num_layers, perhaps vace_layers.
        tokens: L.
    """
    dim = config["num_attention_heads"] * config["attention_head_dim"]
    linear = 12 * tokens * dim**2 + 4 * tokens * dim * config["ffn_dim"]  # projections, feed-forward
    attention = 4 * tokens**2 * dim + 4 * tokens * TEXT_TOKENS * dim + 4 * TEXT_TOKENS * dim**2
    return float((config["num_layers"] + len(config.get("vace_layers", ()))) * (linear + attention))
