"""Frozen data that travels between the rooms: a request, latent shapes, events.

Letters used across the project: B batch, F pixel frames, T latent frames, (H, W) pixels, (h, w)
latents, C channels, L tokens, U distinct timesteps, S text tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

ImageInput = Any  # a path, a PIL image or a uint8 array; read by condition.picture
VideoInput = Any  # a path or (F, H, W, 3) uint8; read by condition.video
AudioInput = Any  # a path, or (rate, samples); read by condition.sound


@dataclass(frozen=True)
class Request:
    """One video to make, in diffusers' own names; None means "as the model's recipe says".

    Attributes:
        prompt: what to show, 1 to 2,000 characters.
        negative_prompt: what to avoid; only used when guidance is on.
        image: first frame: path, PIL image or (H, W, 3) uint8 array.
        last_image: last frame, for models that take one.
        extends: a video that this one goes on from, in place of ``image``: it stands in front, up to 60 seconds.
        reference_images: up to three pictures of who or what the video shows, in reference mode.
        audio: what is said or heard: a path, or (rate, samples); the video lasts as long.
        video: what controls or is changed, for models that take it: a path or (F, H, W, 3) uint8 frames.
        mask: where that is changed (white) or kept (black): likewise, or one picture for all frames.
        width: pixels.
        height: pixels.
        num_frames: 4n+1; excludes ``duration_seconds``.
        duration_seconds: seconds, rounded to the nearest 4n+1 frames.
        num_inference_steps: 1 to 100.
        guidance_scale: classifier-free guidance; 1 is off. For two experts, the high-noise one's.
        guidance_scale_2: the low-noise expert's guidance.
        audio_guidance_scale: how closely lips follow the sound, for models that guide it apart.
        image_guidance_scale: how closely references are kept, likewise.
        conditioning_scale: how closely ``video`` and references are followed; 1 is as trained.
        guidance_method: "plain", or "zero_star" (CFG-Zero*), which fits the negative branch first.
        guidance_start: share of the steps after which guidance begins, 0 to 1.
        guidance_stop: and after which it ends: a step without it takes less time.
        flow_shift: how far sampling leans to high noise.
        sampler: "unipc", "euler" or "renoise".
        seed: 0 to 2**53 - 1; None draws one.
        image_fit: "crop" fills the frame, "pad" shows the whole image.
        focal_point: (x, y) in 0..1 that a crop keeps in view.
        tier: "exact"; or approximations: "fast" leaves out steps that would change little, "scheduled" fixed ones.
        model: which of the models at hand, by name; None for the first that has the mode.
    """

    prompt: str
    negative_prompt: str | None = None
    image: ImageInput = None
    last_image: ImageInput = None
    extends: VideoInput = None
    reference_images: tuple[ImageInput, ...] = ()
    audio: AudioInput = None
    video: VideoInput = None
    mask: VideoInput = None
    width: int | None = None
    height: int | None = None
    num_frames: int | None = None
    duration_seconds: float | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    audio_guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    conditioning_scale: float | None = None
    guidance_method: str | None = None
    guidance_start: float | None = None
    guidance_stop: float | None = None
    flow_shift: float | None = None
    sampler: str | None = None
    seed: int | None = None
    image_fit: str = "crop"
    focal_point: tuple[float, float] = (0.5, 0.5)
    tier: str | None = None
    model: str | None = None

    @property
    def mode(self) -> str:
        """Which tab this belongs to: by what is given besides the prompt."""
        if self.reference_images or self.audio is not None or self.video is not None:
            return "reference"
        return "text" if self.image is None and self.extends is None else "image"

    def as_json(self) -> dict[str, Any]:
        """The request without its pictures, for recipes and logs."""
        skip = {"image", "last_image", "extends", "reference_images", "audio", "video", "mask"}
        return {k: v for k, v in asdict_shallow(self).items() if k not in skip}


def asdict_shallow(data: object) -> dict[str, Any]:
    """A dataclass as a dict without copying what it holds."""
    return {f.name: getattr(data, f.name) for f in fields(data)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Geometry:
    """How pixels become latents and tokens for one model.

    Attributes:
        spatial: pixels per latent, both ways.
        temporal: frames per latent after the first.
        patch: latents per token in (time, height, width).
        channels: latent channels.
    """

    spatial: int
    temporal: int
    patch: tuple[int, int, int]
    channels: int

    @property
    def grid(self) -> int:
        """The number of pixels that width and height must be a multiple of."""
        return self.spatial * self.patch[1]

    def latent_frames(self, frames: int) -> int:
        """Latent frames T that F pixel frames need."""
        return -(-(frames - 1) // self.temporal) + 1

    def latents(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, T, h, w) of a clip."""
        return (
            self.channels,
            self.latent_frames(frames),
            height // self.spatial,
            width // self.spatial,
        )

    def tokens(self, frames: int, height: int, width: int) -> tuple[int, int]:
        """(tokens of one latent frame, tokens of the clip)."""
        _, t, h, w = self.latents(frames, height, width)
        pt, ph, pw = self.patch
        one = (h // ph) * (w // pw)
        return one, one * (t // pt)


@dataclass(frozen=True)
class Branch:
    """What one forward pass is told.

    Attributes:
        text: the prompt; else the negative prompt.
        image: the reference images; else none.
        audio: the sound; else silence.
    """

    text: bool = True
    image: bool = True
    audio: bool = True


Kind = tuple[int, frozenset[Branch]]  # of a step: the expert whose turn it is, and the branches that it runs


@dataclass(frozen=True)
class Settled:
    """A request with every choice made and checked against a model.

    Attributes are those of :class:`Request`, with nothing left open, and two more. ``in_front``: how many frames the
    video has that is gone on from; its last one is the first of ``num_frames``. ``read_as``: what a model of few words
    is told in the prompt's place, or "": see :mod:`wan_core.vocabulary`.
    """

    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_frames: int
    num_inference_steps: int
    guidance_scale: float
    guidance_scale_2: float
    audio_guidance_scale: float
    image_guidance_scale: float
    conditioning_scale: float
    flow_shift: float
    sampler: str
    seed: int
    fps: int
    mode: str
    image_fit: str
    focal_point: tuple[float, float]
    tier: str = "exact"
    guidance_method: str = "plain"
    guidance_start: float = 0.0
    guidance_stop: float = 1.0
    in_front: int = 0
    read_as: str = ""

    @property
    def frames(self) -> int:
        """Of the whole video."""
        return self.num_frames + max(0, self.in_front - 1)

    def as_json(self) -> dict[str, Any]:
        """The recipe's core."""
        return asdict(self)


# --- events -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Started:
    """The request is settled and work begins.

    Attributes:
        settled: what will be made.
        sound: (m, 2) float32 in [-1, 1] at 48 kHz, as long as the video, or None.
        model: the name of what makes it.
        revision: its weights, see :func:`wan_core.weights.revision.revision`.
        backend: device, precision and torch's version.
    """

    settled: Settled
    sound: np.ndarray | None = None
    model: str = ""
    revision: str = ""
    backend: str = ""


@dataclass(frozen=True)
class Rerouted:
    """What makes the video is not what ``Started`` told: its blocks could not be compiled.

    A file's recipe is written with its first frames; what comes later, in a video of several clips, it does not hold.

    Attributes:
        backend: as in ``Started``.
    """

    backend: str


@dataclass(frozen=True)
class Progress:
    """Work done so far in one phase: "encode", "compile", "denoise" or "decode"; of one clip of several."""

    phase: str
    step: int
    of: int
    clip: int = 0
    clips: int = 1

    @property
    def share(self) -> float:
        """How much of the whole video is done, 0 to 1, going by how long the phases usually take."""
        low, high = {"encode": (0.0, 0.05), "compile": (0.05, 0.05), "denoise": (0.05, 0.9), "decode": (0.9, 1.0)}[
            self.phase
        ]
        return (self.clip + low + (high - low) * self.step / max(1, self.of)) / self.clips


@dataclass(frozen=True)
class Preview:
    """A rough picture of the clip so far. frames: (T, h, w, 3) uint8."""

    frames: np.ndarray
    step: int


@dataclass(frozen=True)
class Denoised:
    """One clip's finished latents: kept, they spare the denoising when what comes after fails.

    Attributes:
        latents: (1, C, T, h, w) float32.
        clip: which clip of the video.
    """

    latents: np.ndarray
    clip: int


@dataclass(frozen=True)
class Frames:
    """Finished frames, in order. pixels: (n, H, W, 3) uint8."""

    pixels: np.ndarray


@dataclass(frozen=True)
class Sync:
    """How well a picture follows its sound; measured by ``studio.sync``.

    Attributes:
        correlation: Pearson's, at the best offset, between loudness and what the picture tells of it.
        offset: frames by which the picture is late; negative where it leads.
    """

    correlation: float
    offset: int

    def __str__(self) -> str:
        """One line for people."""
        frames = f"{abs(self.offset)} frame{'' if abs(self.offset) == 1 else 's'} "
        where = "0 frames off" if self.offset == 0 else frames + ("late" if self.offset > 0 else "early")
        return f"lip sync: {where}, r = {self.correlation:.2f}"


@dataclass(frozen=True)
class Done:
    """The clip is complete; its frames have all been yielded.

    Attributes:
        settled: how it was made.
        seconds: that it took.
        sync: how well it follows its sound, if it has any and that can be told.
    """

    settled: Settled
    seconds: float
    sync: Sync | None = None


Event = Started | Rerouted | Progress | Preview | Denoised | Frames | Done
CancelCheck = Callable[[], bool]
Kept = Mapping[int, "np.ndarray"]  # finished latents by clip, from an earlier try


def never() -> bool:
    """The cancel check of someone who does not cancel."""
    return False
