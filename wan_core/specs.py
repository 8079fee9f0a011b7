"""Model families and their recipes, as frozen data.

Flow shift, guidance and boundary come from here and not from a repository's scheduler config:
several published configs carry a wrong shift. Figures are those of the official inference code
(Wan-Video/Wan2.1 and Wan2.2, wan/configs and generate.py).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from wan_core.vocabulary import Vocabulary

NEGATIVE_ZH = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，"
    "手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)


#: Attention of other makers that can be asked for on a GPU, by diffusers' names. Sage's approximates: scores in int8.
ATTENTION = {"cudnn": "_native_cudnn", "flash3": "_flash_3", "sage": "sage"}
ARTIFACTS = "artifacts.json"  # in a folder of blocks that were compiled ahead, see :mod:`wan_core.artifact`
#: Steps of which none is left out in the tier "fast": distilled models need every one.
FEW_STEPS = 8


class Limits(NamedTuple):
    """How far a schedule of steps that are left out may go, see :mod:`wan_core.magnitude`.

    Attributes:
        error: what the differences in size may add up to.
        longest: steps left out in a row.
        first: share of the steps that are always computed, at the start.
    """

    error: float = 0.12
    longest: int = 4
    first: float = 0.2


USUAL = Limits()


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
        sampler: the solver, see :func:`wan_core.sample.schedule.solver`.
        levels: timesteps that a distilled model was made for; () where the shift gives them.
        tolerance: what steps that are left out in the tier "fast" may add up to, see :mod:`wan_core.sample.skip`.
        magnitudes: by how much what the trunk adds grows from step to step; () where nobody measured it, or where no
            step of it may be left out.
        magnitudes_low: the low-noise expert's, in its own turn.
        limits: of the tier "scheduled", which goes by that.
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
    sampler: str = "unipc"
    levels: tuple[float, ...] = ()
    tolerance: float = 0.05  # EasyCache's own for Wan 2.1 1.3B: 25.2 dB, 2.54 times faster on an A800 (its README)
    magnitudes: tuple[float, ...] = ()
    magnitudes_low: tuple[float, ...] = ()
    limits: Limits = USUAL

    def skipping(self, tier: str) -> str:
        """What leaves steps out in a tier, and how much; "" where none are."""
        if tier == "scheduled":
            curves = (self.magnitudes, self.magnitudes_low) if self.magnitudes_low else (self.magnitudes,)
            mark = zlib.crc32(repr((*curves, tuple(self.limits))).encode())
            return f"MagCache {mark:08x}"
        return f"EasyCache {self.tolerance}" if tier == "fast" else ""

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
        kind: how it is conditioned: "wan", "humo", "s2v", "vace" or "phantom".
        modes: what it can do, of "text", "image", "last_image", "reference", and what it takes there, of
            "sound" and "video".
        recipe: how to sample it.
        boundary: share of the noise range that the high-noise expert owns, for two experts.
        max_frames: longest clip it was made for.
        max_side: largest side it was made for, pixels.
        references: least and most reference pictures in reference mode.
        grid: pixels that sides must be a multiple of, where that is more than the latents ask for.
        fixed_size: whether it makes only the recipe's size.
        note: one honest sentence about what it can show, by language: "en", "ja", "zh".
        licence: SPDX identifier.
        like: the family whose tensors it has, where shapes cannot tell the two apart.
        vocabulary: all that it understands, for models of few words; None for those that read anything.
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
    kind: str = "wan"
    like: str = ""
    vocabulary: Vocabulary | None = None
    revision: str = ""

    @property
    def scheduled(self) -> bool:
        """Whether it has a schedule of steps to leave out."""
        return bool(self.recipe.magnitudes or (self.boundary is not None and self.recipe.magnitudes_low))

    def reads(self, prompt: str, seed: int, mode: str) -> str:
        """What it is told in a prompt's place; "" where that is the prompt itself."""
        return "" if self.vocabulary is None else self.vocabulary.read(prompt, seed, pictured=mode == "image")


_480P, _720P = (832, 480), (1280, 720)
_T2V = Recipe(50, 5.0, 5.0, 16, 81, _480P)
_TEXT, _IMAGE = frozenset({"text"}), frozenset({"image", "last_image"})
_SPEAKS = frozenset({"reference", "sound"})
_VACE = frozenset({"text", "image", "last_image", "reference", "video"})
_PHANTOM = replace(_T2V, guidance=7.5, image_guidance=5.0)
_HUMO = Recipe(50, 5.0, 5.0, 25, 97, _480P, audio_guidance=5.5)
#: Distilled with DMD, and with LightX2V's recipe: few steps at levels of their own, without guidance.
_DMD = Recipe(3, 8.0, 1.0, 16, 81, _480P, sampler="renoise", levels=(1000, 757, 522))
_FOUR = Recipe(4, 5.0, 1.0, 16, 81, _480P, guidance_low=1.0, sampler="euler", levels=(1000, 937.5, 833.3333, 625))
NEGATIVE_S2V = (
    "画面模糊，最差质量，画面模糊，细节模糊不清，情绪激动剧烈，手快速抖动，字幕，丑陋的，残缺的，多余的手指，"
    "画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，"
    "三条腿，背景人很多，倒着走"
)

#: By how much what the trunk adds grows from step to step, both branches' mean, in 50 steps (image model: 40);
#: measured by MagCache's authors (Zehong-Ma/MagCache, MagCache4Wan2.1/magcache_generate.py).
_CURVE_1_3B = (
    1.0173, 1.0029, 0.9993, 0.9972, 0.9966, 0.9958, 0.9942, 0.9958, 0.9957, 0.9951, 0.9953, 0.9955, 0.9954, 0.9954,
    0.9949, 0.9952, 0.9948, 0.9948, 0.9941, 0.9942, 0.9939, 0.9939, 0.9935, 0.9931, 0.9927, 0.9923, 0.9917, 0.9914,
    0.9907, 0.9900, 0.9894, 0.9885, 0.9876, 0.9864, 0.9850, 0.9836, 0.9820, 0.9798, 0.9772, 0.9741, 0.9700, 0.9654,
    0.9593, 0.9509, 0.9402, 0.9241, 0.9025, 0.8684, 0.8189,
)  # fmt: skip
_CURVE_14B = (
    1.0276, 1.0014, 0.9991, 0.9977, 0.9966, 0.9948, 0.9946, 0.9966, 0.9943, 0.9954, 0.9947, 0.9944, 0.9952, 0.9938,
    0.9940, 0.9952, 0.9941, 0.9943, 0.9934, 0.9942, 0.9927, 0.9931, 0.9921, 0.9922, 0.9922, 0.9916, 0.9914, 0.9898,
    0.9900, 0.9887, 0.9877, 0.9877, 0.9857, 0.9850, 0.9838, 0.9818, 0.9804, 0.9768, 0.9754, 0.9718, 0.9671, 0.9635,
    0.9563, 0.9493, 0.9396, 0.9251, 0.9069, 0.8795, 0.8615,
)  # fmt: skip
_CURVE_I2V = (  # the 480p model's, which is the steeper one: the 720p model has the same tensors
    0.9889, 0.9758, 0.9831, 0.9821, 0.9888, 0.9876, 0.9896, 0.9905, 0.9938, 0.9886, 0.9907, 0.9885, 0.9906, 0.9896,
    0.9861, 0.9882, 0.9876, 0.9881, 0.9872, 0.9857, 0.9854, 0.9816, 0.9841, 0.9795, 0.9815, 0.9774, 0.9783, 0.9736,
    0.9709, 0.9706, 0.9659, 0.9612, 0.9568, 0.9496, 0.9398, 0.9322, 0.9189, 0.9095, 0.9262,
)  # fmt: skip
#: Wan 2.2's, by the same authors (Zehong-Ma/MagCache, MagCache4Wan2.2; also in deepbeepmeep/Wan2GP,
#: models/wan/wan_handler.py), of each expert in its own turn: 26 and 14 of 40 steps. Of the image model's 15 and 25,
#: none of the first are left out there, nor here.
_CURVE_HIGH = (
    1.0014, 0.9984, 0.9969, 0.9972, 0.9967, 0.9963, 0.9962, 0.9949, 0.9962, 0.9967, 0.9954, 0.9958, 0.9969, 0.9956,
    0.9946, 0.9962, 0.9946, 0.9947, 0.9938, 0.9940, 0.9936, 0.9928, 0.9927, 0.9907, 0.9913,
)  # fmt: skip
_CURVE_LOW = (
    0.9883, 0.9875, 0.9852, 0.9832, 0.9806, 0.9777, 0.9728, 0.9673, 0.9586, 0.9438, 0.9211, 0.8809, 0.8022,
)  # fmt: skip
_CURVE_IMAGE_LOW = (
    0.9893, 0.9909, 0.9885, 0.9890, 0.9881, 0.9871, 0.9862, 0.9843, 0.9830, 0.9819, 0.9813, 0.9783, 0.9762, 0.9727,
    0.9709, 0.9657, 0.9605, 0.9533, 0.9459, 0.9330, 0.9171, 0.8919, 0.8543, 0.7986,
)  # fmt: skip
_CURVE_5B = (  # with a first frame, which is the steeper one in the end
    0.9954, 0.9956, 0.9959, 0.9951, 0.9954, 0.9954, 0.9949, 0.9950, 0.9945, 0.9948, 0.9943, 0.9943, 0.9941, 0.9937,
    0.9941, 0.9936, 0.9933, 0.9924, 0.9923, 0.9924, 0.9916, 0.9915, 0.9919, 0.9898, 0.9899, 0.9885, 0.9885, 0.9886,
    0.9874, 0.9859, 0.9854, 0.9844, 0.9831, 0.9812, 0.9800, 0.9786, 0.9756, 0.9739, 0.9715, 0.9687, 0.9643, 0.9613,
    0.9564, 0.9518, 0.9445, 0.9397, 0.9358, 0.9354, 0.9664,
)  # fmt: skip

SPECS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec("wan2.1-t2v-1.3b", _TEXT, replace(_T2V, magnitudes=_CURVE_1_3B)),
        ModelSpec("wan2.1-t2v-14b", _TEXT,
                  replace(_T2V, size=_720P, magnitudes=_CURVE_14B, limits=Limits(0.24, 6, 0.2))),
        ModelSpec("wan2.1-i2v-14b", frozenset({"image"}),
                  replace(_T2V, steps=40, size=_720P, shift_small=3.0, negative="镜头晃动，" + NEGATIVE_ZH,
                          magnitudes=_CURVE_I2V, limits=Limits(0.24, 6, 0.2))),
        ModelSpec("wan2.1-flf2v-14b", _IMAGE,
                  replace(_T2V, shift=16.0, size=_720P, negative="镜头切换，" + NEGATIVE_ZH)),
        ModelSpec("wan2.2-t2v-a14b", _TEXT,
                  Recipe(40, 12.0, 4.0, 16, 81, _720P, guidance_low=3.0, magnitudes=_CURVE_HIGH,
                         magnitudes_low=_CURVE_LOW, limits=Limits(0.06, 2, 0.4)), boundary=0.875),
        ModelSpec("wan2.2-i2v-a14b", _IMAGE,
                  Recipe(40, 5.0, 3.5, 16, 81, _720P, guidance_low=3.5, shift_small=3.0,
                         magnitudes_low=_CURVE_IMAGE_LOW, limits=Limits(0.06, 2, 0.1)), boundary=0.9),
        ModelSpec("wan2.2-ti2v-5b", frozenset({"text", "image"}),
                  Recipe(50, 5.0, 5.0, 24, 121, (1280, 704), magnitudes=_CURVE_5B, limits=Limits(0.06, 2, 0.2))),
        ModelSpec("humo-1.7b", _SPEAKS, replace(_HUMO, guidance=7.5, audio_guidance=7.5, image_guidance=4.0),
                  max_frames=97, references=(0, 3), kind="humo"),
        ModelSpec("humo-17b", _SPEAKS, _HUMO, max_frames=97, references=(0, 3), kind="humo"),
        ModelSpec("wan2.2-s2v-14b", _SPEAKS, Recipe(40, 3.0, 4.5, 16, 77, (832, 448), negative=NEGATIVE_S2V),
                  max_frames=80, references=(1, 1), grid=64, kind="s2v"),
        ModelSpec("wan2.1-vace-1.3b", _VACE, replace(_T2V, shift=16.0), max_frames=81, references=(0, 3), kind="vace"),
        ModelSpec("wan2.1-vace-14b", _VACE, replace(_T2V, shift=16.0, size=_720P), max_frames=81, references=(0, 3),
                  kind="vace"),
        ModelSpec("wan2.2-vace-fun-a14b", _VACE, Recipe(40, 12.0, 4.0, 16, 81, _720P, guidance_low=3.0),
                  boundary=0.875, max_frames=81, references=(0, 3), kind="vace"),
        ModelSpec("fastwan2.1-t2v-1.3b", _TEXT, _DMD, like="wan2.1-t2v-1.3b"),
        ModelSpec("fastwan2.1-t2v-14b", _TEXT, _DMD, like="wan2.1-t2v-14b"),
        ModelSpec("fastwan2.2-ti2v-5b", frozenset({"text", "image"}),
                  replace(_DMD, shift=5.0, fps=24, frames=121, size=(1280, 704)), like="wan2.2-ti2v-5b"),
        ModelSpec("lightx2v-t2v-14b", _TEXT, replace(_FOUR, guidance_low=None), like="wan2.1-t2v-14b"),
        ModelSpec("lightx2v-i2v-14b", frozenset({"image"}), replace(_FOUR, guidance_low=None), like="wan2.1-i2v-14b"),
        ModelSpec("lightx2v-t2v-a14b", _TEXT, _FOUR, boundary=0.875, like="wan2.2-t2v-a14b"),
        ModelSpec("lightx2v-i2v-a14b", _IMAGE, _FOUR, boundary=0.9, like="wan2.2-i2v-a14b"),
        ModelSpec("phantom-1.3b", frozenset({"reference"}), _PHANTOM, max_frames=81, references=(1, 4), kind="phantom",
                  like="wan2.1-t2v-1.3b"),
        ModelSpec("phantom-14b", frozenset({"reference"}), replace(_PHANTOM, fps=24, frames=121, size=_720P),
                  max_frames=121, references=(1, 4), kind="phantom", like="wan2.1-t2v-14b"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """Where a family's weights are, and how large they are.

    Attributes:
        repo: in diffusers' layout where there is such a repository, else the official one.
        parameters: of one transformer.
        layers: its blocks.
        dim: its width.
        download: gigabytes of the repository, with the text encoder and whatever types it stores; 0 if not known.
    """

    repo: str
    parameters: int
    layers: int
    dim: int
    download: float = 0.0


TEXT_ENCODER = 11_360_000_000  # bytes of UMT5-XXL's encoder in bfloat16
_13B, _14B = (1_418_996_800, 30, 1536), (14_288_491_584, 40, 5120)
#: By family. Parameters were counted (``tests/core/test_zoo.py``); downloads follow from the types that the
#: repositories store: 2.1 in float32, the text encoder too, 2.2's transformers in float32 and its encoder in bfloat16.
PUBLISHED = {
    "wan2.1-t2v-1.3b": Published("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", *_13B, 28.9),
    "wan2.1-t2v-14b": Published("Wan-AI/Wan2.1-T2V-14B-Diffusers", *_14B, 80.4),
    "wan2.1-i2v-14b": Published("Wan-AI/Wan2.1-I2V-14B-720P-Diffusers", 16_394_878_784, 40, 5120, 91.3),
    "wan2.1-flf2v-14b": Published("Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers", 16_395_536_704, 40, 5120, 91.3),
    "wan2.2-t2v-a14b": Published("Wan-AI/Wan2.2-T2V-A14B-Diffusers", *_14B, 126.2),
    "wan2.2-i2v-a14b": Published("Wan-AI/Wan2.2-I2V-A14B-Diffusers", 14_288_901_184, 40, 5120, 126.2),
    "wan2.2-ti2v-5b": Published("Wan-AI/Wan2.2-TI2V-5B-Diffusers", 4_999_787_712, 30, 3072, 34.2),
    "humo-1.7b": Published("bytedance-research/HuMo", 1_741_569_088, 30, 1536),
    "humo-17b": Published("bytedance-research/HuMo", 17_055_925_312, 40, 5120, 68.2),
    "wan2.2-s2v-14b": Published("Wan-AI/Wan2.2-S2V-14B", 16_295_755_609, 40, 5120, 49.1),
    "wan2.1-vace-1.3b": Published("Wan-AI/Wan2.1-VACE-1.3B-diffusers", 2_153_972_032, 30, 1536, 31.8),
    "wan2.1-vace-14b": Published("Wan-AI/Wan2.1-VACE-14B-diffusers", 17_337_592_896, 40, 5120, 92.6),
    "wan2.2-vace-fun-a14b": Published("linoyts/Wan2.2-VACE-Fun-14B-diffusers", 17_337_592_896, 40, 5120, 81.3),
    "fastwan2.1-t2v-1.3b": Published("FastVideo/FastWan2.1-T2V-1.3B-Diffusers", *_13B),
    "fastwan2.1-t2v-14b": Published("FastVideo/FastWan2.1-T2V-14B-480P-Diffusers", *_14B),
    "fastwan2.2-ti2v-5b": Published("FastVideo/FastWan2.2-TI2V-5B-FullAttn-Diffusers", 4_999_787_712, 30, 3072),
    "lightx2v-t2v-14b": Published("lightx2v/Wan2.1-T2V-14B-StepDistill-CfgDistill-Lightx2v", *_14B),
    "lightx2v-i2v-14b": Published(
        "lightx2v/Wan2.1-I2V-14B-480P-StepDistill-CfgDistill-Lightx2v", 16_394_878_784, 40, 5120
    ),
    "lightx2v-t2v-a14b": Published("lightx2v/Wan2.2-Distill-Models", *_14B),
    "lightx2v-i2v-a14b": Published("lightx2v/Wan2.2-Distill-Models", 14_288_901_184, 40, 5120),
    "phantom-1.3b": Published("bytedance-research/Phantom", *_13B),
    "phantom-14b": Published("bytedance-research/Phantom", *_14B),
}


def family(config: dict, index: dict, layers: int, kind: str = "wan", asked: str | None = None) -> ModelSpec:
    """Name a checkpoint by what it holds, never by its file name.

    Args:
        config: the transformer's config.
        index: the pipeline's ``model_index.json``: only 2.2 A14B models have a ``boundary_ratio``,
            only the TI2V kind says ``expand_timesteps``.
        layers: transformer blocks.
        kind: the class of trunk, "wan", "humo", "s2v" or "vace".
        asked: which family it is, where shapes cannot tell; None for the one that they name.

    Returns:
        The nearest spec; its recipe may be overridden by the checkpoint's own ``recipe.json``.

    Raises:
        ValueError: naming what it can be, if it cannot be what was asked for.
    """
    found = replace(SPECS[_named(config, index, layers, kind)], boundary=index.get("boundary_ratio"))
    if asked is None and index.get("_class_name") == "WanDMDPipeline":
        return next((s for s in SPECS.values() if s.like == found.name and s.recipe.sampler == "renoise"), found)
    others = {spec.name: spec for spec in SPECS.values() if spec.like == found.name}
    if asked in (None, found.name):
        return found
    if asked not in others:
        names = ", or ".join(f"{name}'s" for name in (found.name, *others))
        raise ValueError(f"these tensors are {names}")
    return replace(others[asked], boundary=found.boundary)


def _named(config: dict, index: dict, layers: int, kind: str) -> str:
    channels, out, boundary = config["in_channels"], config["out_channels"], index.get("boundary_ratio")
    if kind == "vace":
        name = f"wan2.1-vace-{'14b' if layers > 30 else '1.3b'}" if boundary is None else "wan2.2-vace-fun-a14b"
    elif kind != "wan":
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
    return name
