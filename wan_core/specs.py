"""Model families and their recipes, as frozen data.

Flow shift, guidance and boundary come from here and not from a repository's scheduler config:
several published configs carry a wrong shift. Figures are those of the official inference code
(Wan-Video/Wan2.1 and Wan2.2, wan/configs and generate.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

NEGATIVE_ZH = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，"
    "手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)


@dataclass(frozen=True)
class Recipe:
    """How a model is meant to be sampled.

    Attributes:
        steps: solver steps.
        shift: flow shift.
        guidance: classifier-free guidance, of the high-noise expert if there are two.
        guidance_low: the low-noise expert's guidance, or None for the same.
        fps: frames per second.
        frames: frames of a usual clip, 4n+1.
        size: usual (width, height).
        negative: negative prompt.
        shift_small: flow shift below 720p, where it differs.
        audio_guidance: how far from silence, for models that guide sound apart.
        image_guidance: how far from no references, likewise.
    """

    steps: int
    shift: float
    guidance: float
    fps: int
    frames: int
    size: tuple[int, int]
    guidance_low: float | None = None
    negative: str = NEGATIVE_ZH
    shift_small: float | None = None
    audio_guidance: float = 1.0
    image_guidance: float = 1.0

    def shift_for(self, width: int, height: int) -> float:
        """The flow shift for a frame size."""
        if self.shift_small is not None and width * height < 720 * 1024:
            return self.shift_small
        return self.shift


@dataclass(frozen=True)
class ModelSpec:
    """One family and size.

    Attributes:
        name: short name.
        modes: what it can do, of "text", "image", "last_image", "reference".
        recipe: how to sample it.
        boundary: share of the noise range that the high-noise expert owns, for two experts.
        max_frames: longest clip it was made for.
        max_side: largest side it was made for, pixels.
        references: least and most reference pictures in reference mode.
        grid: pixels that sides must be a multiple of, where that is more than the latents ask for.
        fixed_size: whether it makes only the recipe's size.
        note: one honest sentence about what it can show, by language: "en", "ja", "zh".
        licence: SPDX identifier.
        revision: which weights, once they are known; see :func:`wan_core.weights.revision.revision`.
    """

    name: str
    modes: frozenset[str]
    recipe: Recipe
    boundary: float | None = None
    max_frames: int = 161
    max_side: int = 1440
    references: tuple[int, int] = (0, 0)
    grid: int = 1
    fixed_size: bool = False
    note: Mapping[str, str] = field(default_factory=dict)
    licence: str = "Apache-2.0"
    revision: str = ""


_480P, _720P = (832, 480), (1280, 720)
_T2V = Recipe(50, 5.0, 5.0, 16, 81, _480P)
_TEXT, _IMAGE = frozenset({"text"}), frozenset({"image", "last_image"})
_SPEAKS = frozenset({"reference"})
_HUMO = Recipe(50, 5.0, 5.0, 25, 97, _480P, audio_guidance=5.5)
NEGATIVE_S2V = (
    "画面模糊，最差质量，画面模糊，细节模糊不清，情绪激动剧烈，手快速抖动，字幕，丑陋的，残缺的，多余的手指，"
    "画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，"
    "三条腿，背景人很多，倒着走"
)

SPECS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec("wan2.1-t2v-1.3b", _TEXT, _T2V),
        ModelSpec("wan2.1-t2v-14b", _TEXT, replace(_T2V, size=_720P)),
        ModelSpec("wan2.1-i2v-14b", frozenset({"image"}),
                  replace(_T2V, steps=40, size=_720P, shift_small=3.0, negative="镜头晃动，" + NEGATIVE_ZH)),
        ModelSpec("wan2.1-flf2v-14b", _IMAGE,
                  replace(_T2V, shift=16.0, size=_720P, negative="镜头切换，" + NEGATIVE_ZH)),
        ModelSpec("wan2.2-t2v-a14b", _TEXT,
                  Recipe(40, 12.0, 4.0, 16, 81, _720P, guidance_low=3.0), boundary=0.875),
        ModelSpec("wan2.2-i2v-a14b", _IMAGE,
                  Recipe(40, 5.0, 3.5, 16, 81, _720P, guidance_low=3.5, shift_small=3.0), boundary=0.9),
        ModelSpec("wan2.2-ti2v-5b", frozenset({"text", "image"}),
                  Recipe(50, 5.0, 5.0, 24, 121, (1280, 704))),
        ModelSpec("humo-1.7b", _SPEAKS, replace(_HUMO, guidance=7.5, audio_guidance=7.5, image_guidance=4.0),
                  max_frames=97, references=(0, 3)),
        ModelSpec("humo-17b", _SPEAKS, _HUMO, max_frames=97, references=(0, 3)),
        ModelSpec("wan2.2-s2v-14b", _SPEAKS, Recipe(40, 3.0, 4.5, 16, 77, (832, 448), negative=NEGATIVE_S2V),
                  max_frames=80, references=(1, 1), grid=64),
    )
}  # fmt: skip


def family(config: dict, index: dict, layers: int, kind: str = "wan") -> ModelSpec:
    """Name a checkpoint by what it holds, never by its file name.

    Args:
        config: the transformer's config.
        index: the pipeline's ``model_index.json``: only 2.2 A14B models have a ``boundary_ratio``,
            only the TI2V kind says ``expand_timesteps``.
        layers: transformer blocks.
        kind: the class of trunk, "wan", "humo" or "s2v".

    Returns:
        The nearest spec; its recipe may be overridden by the checkpoint's own ``recipe.json``.
    """
    channels, out, boundary = config["in_channels"], config["out_channels"], index.get("boundary_ratio")
    if kind != "wan":
        name = "wan2.2-s2v-14b" if kind == "s2v" else "humo-17b" if channels > out else "humo-1.7b"
    elif channels == out and (channels == 48 or index.get("expand_timesteps")):
        name = "wan2.2-ti2v-5b"
    elif channels == 36:
        if boundary is not None or config.get("image_dim") is None:
            name = "wan2.2-i2v-a14b"
        else:
            name = "wan2.1-flf2v-14b" if config.get("pos_embed_seq_len") else "wan2.1-i2v-14b"
    elif boundary is not None:
        name = "wan2.2-t2v-a14b"
    else:
        name = "wan2.1-t2v-14b" if layers > 30 else "wan2.1-t2v-1.3b"
    return replace(SPECS[name], boundary=boundary)
