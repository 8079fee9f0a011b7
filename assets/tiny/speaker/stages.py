"""The stages that are the reference model's own: its clips, its latents, and HuMo's layout trained on them.

A training row is a clip, the person on white behind it, and what the hearing encoder made of its
sound. As in HuMo-1.7B the reference stands clean on the last latent frame; without one, and in
silence, zeros stand there, which is what the guidance's weaker branches see.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel, WhisperFeatureExtractor, WhisperModel

from assets.tiny import export as first_export
from assets.tiny import train_dit, train_vae, whole
from assets.tiny import vocabulary as first_vocabulary
from assets.tiny import world as first_world
from assets.tiny.latents import per_latent
from assets.tiny.runs import RUNS, load_state, log, save_state, shortened
from assets.tiny.speaker import captions, vocabulary, voices, world
from assets.tiny.speaker.hearing import LAYERS, WIDTH
from assets.tiny.train_text import Speech
from wan_core.model.adapters import HumoDiT
from wan_core.model.audio import HUMO_WINDOW, humo_tracks, humo_windows, whisper_states
from wan_core.model.dit import After
from wan_core.types import Branch

CLIPS, PART, TAKES = 4000, 500, 10  # clips in all, in a file, and from one sound
FRAMES, LATENT_FRAMES = first_world.FRAMES, (first_world.FRAMES + 3) // 4
SECONDS = FRAMES / first_world.FPS
SPEECH = Speech(captions.ATTRIBUTES, world.sample_scene, captions.caption)
TEXT_STEPS = 1500  # three attributes are learnt sooner than the first model's six
CONFIG = train_dit.CONFIG | {
    "audio_channels": WIDTH, "audio_window": HUMO_WINDOW, "audio_tracks": LAYERS + 1, "audio_hidden": 256,
    "audio_tokens": 4, "audio_dim": 128,
}  # fmt: skip
HATS = 0.25  # share of the clips whose person is given one
HAIR_WEIGHT = 24.0  # how much more hair behind a hat counts, three pixels wide, while a finished VAE is trained on
MOUTH_WEIGHT = 3.0  # how much more the mouth counts: a few latents of 64, and what the model is for
CROWN_WEIGHT, CROWN_Y = 6.0, -0.42  # likewise the hair above the face, which tells people with hats apart
SHIFT = 3.0  # less lean to high noise than the first model's: a mouth's timing is a detail
#: How often a clip is told what: everything, no sound, and what the guidance's weaker branches leave out together.
TOLD = {
    Branch(): 0.72, Branch(image=False): 0.08, Branch(audio=False): 0.07, Branch(image=False, audio=False): 0.05,
    Branch(text=False, image=False, audio=False): 0.08,
}  # fmt: skip
RECIPE = {
    "name": "built-in speaker",
    "modes": ["reference", "sound"],
    "max_frames": FRAMES,
    "fixed_size": True,
    "references": [0, 1],
    "note": {
        "en": "A small model that ships with the app. It knows cartoon people: a picture on white says who, a voice "
        "moves the mouth, the prompt says where, on which side, and with which motion, or chance does.",
        "ja": "アプリに付属する小さなモデルです。描けるのは漫画風の人物だけです。白地の絵が誰かを、声が口の動きを、"
        "プロンプトが場所と位置と動きを決めます（指定がなければランダムです）。",
        "zh": "随应用附带的小模型，只会画卡通人物：白底图片决定是谁，声音带动嘴巴，提示词决定场景、位置和动作，"
        "未提及的随机决定。",
    },
    "recipe": {
        "steps": 24, "shift": 3.0, "shift_small": None, "guidance": 2.0, "audio_guidance": 2.0, "image_guidance": 3.0,
        "fps": first_world.FPS, "frames": FRAMES, "size": [first_world.SIZE, first_world.SIZE], "negative": "",
    },
}  # fmt: skip


def begin() -> None:
    """Start from the first model's VAE and transformer, which know the backdrops, places and time already."""
    for name in ("vae.pt", "dit.pt", "encoder.pt"):
        (RUNS / name).unlink(missing_ok=True)
    first_export.restore()
    (RUNS / "encoder.pt").unlink()
    for stage in ("vae", "dit"):
        known = load_state(RUNS / f"{stage}.pt")
        assert known is not None
        save_state(RUNS / f"{stage}.pt", {"step": 0, "spent": 0.0, "curve": [], "model": known["model"]})


def restore() -> None:
    """Turn the released model back into training states; see :func:`assets.tiny.export.restore`."""
    parts = ("tokenizer", "text_encoder", "audio_encoder", "audio_processor")
    first_export.restore(first_export.HERE / "speaker", HumoDiT, parts)


def hatted(rng: random.Random, styles: Sequence[str]) -> world.Person:
    """Somebody with a hat, of those that are not kept from training; hair as in ``styles``."""
    while True:
        person = replace(world.sample_person(rng), extra="hat", style=rng.choice(styles))
        if not world.held_out(person):
            return person


def paint(rng: random.Random, number: int) -> tuple[Tensor, Tensor]:
    """A speaking clip, and where face, mouth and hat are; every fifth is a person on white.

    Every other wears a hat: the hair that sticks out behind it is what the VAE loses first.
    """
    scene = world.sample_scene(rng)
    if number % 2 == 0:
        scene = replace(scene, person=hatted(rng, ("spiky", "spiky", "bun", "short")))
    where = world.path(scene)
    if number % 5 == 0:
        clip = world.reference(scene.person).expand(FRAMES, -1, -1, -1)
        where = torch.tensor([[0.0, 0.04]]).expand(FRAMES, 2)
    else:
        clip = world.render(scene, voices.mouth(voices.sample(rng, SECONDS), FRAMES))
    axis = (torch.arange(first_world.SIZE) + 0.5) / first_world.SIZE * 2 - 1
    x, y = axis[None, None, :] - where[:, 0, None, None], axis[None, :, None] - where[:, 1, None, None]
    face, hat = (x.abs() < 0.30) & (y > -0.16) & (y < 0.46), (x.abs() < 0.5) & (y > -0.72) & (y < -0.3)
    return clip, (face | hat).float()


def paint_hair(rng: random.Random, number: int) -> tuple[Tensor, Tensor]:
    """A clip as of :func:`paint`, and where hair shows above the face: most of all what sticks out behind a hat."""
    scene = world.sample_scene(rng)
    if number % 2 == 0:
        scene = replace(scene, person=hatted(rng, ("spiky", "spiky", "spiky", "bun", "short", "long")))
    person = scene.person
    other = replace(person, style="bald" if person.style != "bald" else "short")
    mouth, where = voices.mouth(voices.sample(rng, SECONDS), FRAMES), world.path(scene)
    clip, without = (world.render(replace(scene, person=p), mouth) for p in (person, other))
    if number % 4 == 3:
        clip, without = (world.reference(p).expand(FRAMES, -1, -1, -1) for p in (person, other))
        where = torch.tensor([[0.0, 0.04]]).expand(FRAMES, 2)
    axis = (torch.arange(first_world.SIZE) + 0.5) / first_world.SIZE * 2 - 1
    x, y = axis[None, None, :] - where[:, 0, None, None], axis[None, :, None] - where[:, 1, None, None]
    face = (x.abs() < 0.30) & (y > -0.16) & (y < 0.46)
    hair = ((clip.float() - without.float()).abs().amax(-1) > 24) & (y < -0.16)
    counts = 1.0 if person.extra == "hat" else 1 / 6
    return clip, torch.where(hair, counts, face / 12)


@torch.no_grad()
def make_latents(seed: int = 0, clips: int = CLIPS) -> None:
    """Render, encode and listen to the training set; resumable, one file per part."""
    vae = train_vae.build(train_vae.Z)
    vae.load_state_dict(load_state(RUNS / "encoder.pt"), strict=False)
    train_vae.use_channels_last(vae)
    extractor = WhisperFeatureExtractor.from_pretrained(RUNS / "audio_processor")
    ears = WhisperModel.from_pretrained(RUNS / "audio_encoder", dtype=torch.float32).encoder.eval()
    for part in range(-(-clips // PART)):
        path = RUNS / f"latents-{seed}-{part}.pt"
        if path.exists():
            continue
        rng = random.Random(1000 * seed + part)
        scenes, latents, people, heard, poses = [], [], [], [], []
        for _ in range(PART // TAKES):
            some = [_shown(rng) for _ in range(TAKES)]
            voice = voices.talk(rng, TAKES * SECONDS)  # listened to at once: the encoder always takes 30 seconds
            mouths = voices.mouth(voice, TAKES * FRAMES).split(FRAMES)
            shown = [world.render(s, m) for s, m in zip(some, mouths, strict=True)]
            latents.append(_encoded(vae, torch.stack(shown)))
            people.append(_encoded(vae, torch.stack([world.reference(s.person) for s in some])[:, None]))
            tracks = humo_tracks(whisper_states(torch.from_numpy(voice), extractor, ears), first_world.FPS)
            heard += tracks[: TAKES * FRAMES].split(FRAMES)
            scenes += [asdict(s) for s in some]
            poses += [_pose(s, m) for s, m in zip(some, mouths, strict=True)]
        save_state(path, {
            "scenes": scenes, "latents": torch.cat(latents), "people": torch.cat(people),
            "heard": torch.stack(heard).half(), "poses": torch.stack(poses),
        })  # fmt: skip
        log.info("latents: part %d of %d clips", part, len(scenes))


def _shown(rng: random.Random) -> world.Scene:
    """A scene to train on; a quarter more wear a hat, most of them over hair that sticks out behind it."""
    scene = world.sample_scene(rng)
    if rng.random() > HATS:
        return scene
    return replace(scene, person=hatted(rng, ("spiky", "spiky", "bun", "short", "long")))


def _encoded(vae: torch.nn.Module, clips: Tensor) -> Tensor:
    video = clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    with shortened("cpu"):
        return whole.encode(vae, video.contiguous(memory_format=torch.channels_last_3d))[:, : train_vae.Z].half()


class Rows:
    """The encoded training set, centred."""

    behind = 1  # the reference

    def __init__(self, seed: int, stats: tuple[Tensor, Tensor] | None) -> None:
        parts = [load_state(p) for p in sorted(RUNS.glob(f"latents-{seed}-*.pt"))]
        self.scenes = [_scene(s) for p in parts for s in p["scenes"]]
        raw, people = (torch.cat([p[k] for p in parts]) for k in ("latents", "people"))
        self.mean, self.std = stats or (raw[::7].float().mean((0, 2, 3, 4)), torch.ones(train_vae.Z))
        shape = (1, -1, 1, 1, 1)
        self.values, self.people = (
            ((x - self.mean.view(shape)) / self.std.view(shape)).bfloat16() for x in (raw, people)
        )
        self.heard, self.poses = (torch.cat([p[k] for p in parts]) for k in ("heard", "poses"))


def _pose(scene: world.Scene, mouth: Tensor) -> Tensor:
    """What is drawn in every latent frame: the head's centre, the mouth, the lids, (T, 5)."""
    rows = torch.cat([world.path(scene), mouth, world.lids(scene)[:, None]], 1)
    return per_latent(rows)


def _scene(data: dict) -> world.Scene:
    return world.Scene(**data | {"person": world.Person(**data["person"])})


def build() -> HumoDiT:
    """A fresh transformer: the first model's beginnings, and ears that start as nothing."""
    model = train_dit.prepare(HumoDiT(**CONFIG))
    with torch.no_grad():
        for block in model.blocks:
            block.audio_attn.to_out[0].weight.zero_()
    return model


def batches(data: Rows, reader: train_dit.Reader, rng: random.Random) -> Iterator[dict[str, Tensor]]:
    """Endless training batches."""
    size, order = train_dit.BATCH, []
    while True:
        if len(order) < size:
            order = list(range(len(data.scenes)))
            rng.shuffle(order)
        rows = [order.pop() for _ in range(size)]
        said = [captions.caption(data.scenes[i], rng, rng.choice(captions.LANGUAGES))[0] for i in rows]
        told = rng.choices(list(TOLD), list(TOLD.values()), k=size)
        text, bias = reader([s if branch.text else "" for s, branch in zip(said, told, strict=True)])
        windows = torch.stack([humo_windows(data.heard[i].float(), LATENT_FRAMES, 1) for i in rows])
        heard, shown = (torch.tensor([getattr(b, part) for b in told]) for part in ("audio", "image"))
        yield {
            "clean": data.values[rows].float(), "text": text, "bias": bias,
            "audio": windows * heard.view(-1, 1, 1, 1, 1),
            "person": data.people[rows].float() * shown.view(-1, 1, 1, 1, 1),
            "sigma": train_dit.levels(size, SHIFT), "pose": data.poses[rows],
        }  # fmt: skip


def loss_on(model: HumoDiT, batch: dict[str, Tensor], after: After) -> Tensor:
    """Velocity error over the video's latents, most of all at the mouth; the reference behind is only looked at."""
    clean, sigma = batch["clean"], batch["sigma"]
    noise = torch.randn_like(clean)
    level = sigma[:, None, None, None, None]
    noisy = torch.cat([(1 - level) * clean + level * noise, batch["person"]], dim=2)
    tokens = math.prod(n // p for n, p in zip(noisy.shape[2:], model.config["patch_size"], strict=True))
    with shortened(clean.device):
        embedded = model.embed(noisy, sigma[:, None] * 1000, (tokens,))
        context = model.context(batch["text"], bias=batch["bias"], audio=batch["audio"])
        out = model.head(model.trunk(embedded, context, after), embedded)
    error = (out.float()[:, :, :LATENT_FRAMES] - (noise - clean)).square().mean(1)  # (B, T, h, w)
    pose, grid = batch["pose"], error.shape[2:]
    weight = 1 + MOUTH_WEIGHT * _near(pose, world.MOUTH_Y, 0.3, *grid) + CROWN_WEIGHT * _near(pose, CROWN_Y, 0.5, *grid)
    return (weight * error).sum() / weight.sum()


def _near(pose: Tensor, down: float, reach: float, high: int, wide: int) -> Tensor:
    """Which latents something is drawn by, ``down`` from the head's centre. (B, T, high, wide), 0 or 1."""
    y, x = ((2 * torch.arange(n, device=pose.device) + 1) / n - 1 for n in (high, wide))
    across, away = x - pose[..., :1], y - pose[..., 1:2] - down * world.SCALE
    return ((away.abs() < 0.3)[..., :, None] & (across.abs() < reach)[..., None, :]).float()


def train(minutes: float, device: str = "cpu", seed: int = 0) -> None:
    """Train the transformer; see :func:`assets.tiny.train_dit.fit`."""
    state = load_state(RUNS / "dit.pt")
    data = Rows(seed, (state["mean"], state["std"]) if state and "mean" in state else None)
    train_dit.fit(build(), data, batches, loss_on, minutes, device, seed)


def export() -> None:
    """Write the model beside this file, in diffusers' folders."""
    to = first_export.HERE / "speaker"
    state = load_state(RUNS / "dit.pt")
    first_export.export_vae(to, state)
    if state is not None:
        model = build()
        first_export.averaged(state, model).copy_to(model)
        first_export.save(model.to(torch.bfloat16), to / "transformer")
    first_export.save(UMT5EncoderModel.from_pretrained(RUNS / "text_encoder").to(torch.bfloat16), to / "text_encoder")
    PreTrainedTokenizerFast.from_pretrained(RUNS / "tokenizer").save_pretrained(to / "tokenizer")
    first_export.save(WhisperModel.from_pretrained(RUNS / "audio_encoder").to(torch.bfloat16), to / "audio_encoder")
    WhisperFeatureExtractor.from_pretrained(RUNS / "audio_processor").save_pretrained(to / "audio_processor")
    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=RECIPE["recipe"]["shift"]
    ).save_pretrained(to / "scheduler")
    first_export.history(to)
    index = {"_class_name": "HumoPipeline", "boundary_ratio": None}
    for name, data in (("model_index.json", index), ("recipe.json", RECIPE)):
        (to / name).write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    first_vocabulary.write(vocabulary.vocabulary(), to / vocabulary.FILE.name)
