"""A job is a folder: its request written first, its status by rename, its video at last.

    outputs/<id>/recipe.json          who asked for what, and when
                 image.png, ...       the pictures and the sound that came with it
                 status.json          phase, step, error; always whole
                 preview.webp         the latents so far
                 latents-0.safetensors   until the video stands
                 poster.webp, last.png   a frame for the strip, and the last one to go on from
                 video.mp4
                 cancel               there once somebody wants it stopped

The folders are the truth: whatever queue runs them only carries ids, and a restarted server finds
here what is left to do.
"""

from __future__ import annotations

import json
import shutil
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors.numpy import load_file, save_file

from wan_core.errors import MediaError, OutputError, RequestError
from wan_core.types import Request, asdict_shallow

VERSION = 1
RECENT = 9  # jobs that tell how fast a machine is
ENDED = ("done", "failed", "stopped")
_MEDIA = ("image", "last_image", "audio", "references")


@dataclass(frozen=True)
class Status:
    """How far a job is.

    Attributes:
        phase: "queued", "encode", "denoise", "decode", or how it ended: "done", "failed", "stopped".
        step: of the phase.
        of: steps in the phase.
        share: of the whole job, 0 to 1.
        seconds_left: an estimate while denoising, or None.
        previews: how many pictures there have been; the last one is in preview.webp.
        message: why it failed, or a line on what was made.
        seed: of the noise, once the job is done.
        seconds: that making it took.
        tries: how often work on it began.
    """

    phase: str = "queued"
    step: int = 0
    of: int = 0
    share: float = 0.0
    seconds_left: float | None = None
    previews: int = 0
    message: str = ""
    seed: int = 0
    seconds: float = 0.0
    tries: int = 0

    @property
    def ended(self) -> bool:
        """Nothing more will happen by itself."""
        return self.phase in ENDED


@dataclass(frozen=True)
class Card:
    """What stands on a job's recipe.

    Attributes:
        id: the folder's name, which nobody can guess.
        created: seconds since 1970.
        visitor: who asked, as far as their browser tells; only its owner knows the token.
        turn: how many unfinished jobs the visitor had before this one.
        mode: "text", "image" or "reference".
        prompt: what was asked for.
        model: the name of what makes it.
        flops: what it costs; 0 where that is not known.
    """

    id: str
    created: float
    visitor: str
    turn: int
    mode: str
    prompt: str
    model: str
    flops: float


class Jobs:
    """All jobs under one folder.

    Args:
        root: made when it is first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._cards: dict[str, Card] = {}  # recipes never change
        self._ended: set[str] = set()
        self._entering = threading.Lock()  # turns are counted and taken one at a time

    def folder(self, job: str) -> Path:
        """A job's folder.

        Raises:
            RequestError: there is no such job.
        """
        known = len(job) == 32 and all(c in "0123456789abcdef" for c in job)
        if not known or not (self.root / job / "recipe.json").exists():
            raise RequestError("job", job, "is not known here", "it may have been swept; make it again")
        return self.root / job

    def create(self, request: Request, visitor: str = "", model: str = "", flops: float = 0.0) -> str:
        """Write a new job; its folder appears under its name only once it is whole.

        Args:
            request: what to make; pictures and sound are copied into the folder.
            visitor: whose turn it takes.
            model: the name of what will make it.
            flops: what it will cost.

        Returns:
            The job's id.

        Raises:
            MediaError: a picture or the sound cannot be copied.
            OutputError: there is no room.
        """
        job = uuid.uuid4().hex
        draft = self.root / f".{job}"
        try:
            draft.mkdir(parents=True)
            fields = _copied(request, draft)
            with self._entering:
                turn = sum(card.visitor == visitor for card in self.unfinished()) if visitor else 0
                card = {"version": VERSION, "created": time.time(), "visitor": visitor, "turn": turn}
                card |= {"model": model, "flops": flops}
                recipe = card | {"mode": request.mode, "request": fields}
                (draft / "recipe.json").write_text(json.dumps(recipe, ensure_ascii=False), encoding="utf-8")
                draft.rename(self.root / job)
        except OSError as error:
            raise OutputError("the job could not be written: there is no room for it, or no right to") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return job

    def card(self, job: str) -> Card:
        """What stands on a job's recipe."""
        self.folder(job)
        return self._cards.setdefault(job, self._read_card(job))

    def _read_card(self, job: str) -> Card:
        recipe = self._recipe(job)
        facts = {name: recipe[name] for name in ("created", "visitor", "turn", "mode", "model", "flops")}
        return Card(id=job, prompt=recipe["request"]["prompt"], **facts)

    def request(self, job: str) -> Request:
        """What a job is to make, its pictures and sound as paths."""
        folder, fields = self.folder(job), dict(self._recipe(job)["request"])
        for name in _MEDIA:
            if isinstance(fields.get(name), str):
                fields[name] = folder / fields[name]
            elif fields.get(name):
                fields[name] = tuple(folder / part for part in fields[name])
        for name in ("references", "focal_point"):
            if name in fields:
                fields[name] = tuple(fields[name])
        return Request(**fields)

    def _recipe(self, job: str) -> dict[str, Any]:
        return json.loads((self.folder(job) / "recipe.json").read_text(encoding="utf-8"))

    # --- status -------------------------------------------------------------------------------

    def status(self, job: str) -> Status:
        """How far a job is."""
        path = self.folder(job) / "status.json"
        return Status(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else Status()

    def report(self, job: str, status: Status) -> None:
        """Write how far a job is; readers see the old status or the new one, never half of it."""
        replaced(self.folder(job) / "status.json", json.dumps(asdict(status), ensure_ascii=False).encode())

    def claim(self, job: str) -> FileLock:
        """What whoever works on a job holds; it falls to the next one when its holder is killed."""
        return FileLock(self.folder(job) / ".lock", timeout=0)

    def cancel(self, job: str) -> None:
        """Ask for a job to be stopped; nothing happens to one that has ended."""
        if self.status(job).ended:
            return
        (self.folder(job) / "cancel").touch()
        with suppress(Timeout), self.claim(job):  # nobody is at it yet, so it ends here
            status = self.status(job)
            if not status.ended:
                self.report(job, replace(status, phase="stopped", message="stopped before it began"))

    def again(self, job: str) -> None:
        """Put a job that failed or was stopped back to where it can be run; what it kept is used."""
        with self.claim(job):
            status = self.status(job)
            if status.phase not in ("failed", "stopped"):
                raise RequestError("job", job, f"is {status.phase}", "only one that failed can be tried again")
            (self.folder(job) / "cancel").unlink(missing_ok=True)
            self._ended.discard(job)
            self.report(job, Status(tries=status.tries))

    def cancelled(self, job: str) -> Callable[[], bool]:
        """A check of whether somebody wants a job stopped."""
        return (self.folder(job) / "cancel").exists

    # --- finished latents -----------------------------------------------------------------------

    def keep(self, job: str, clip: int, latents: np.ndarray) -> None:
        """Keep one clip's finished latents until the video stands.

        Raises:
            OSError: there is no room.
        """
        path = self.folder(job) / f"latents-{clip}.safetensors"
        part = path.with_suffix(".part")
        try:
            save_file({"latents": np.ascontiguousarray(latents)}, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def kept(self, job: str) -> dict[int, np.ndarray]:
        """Finished latents of an earlier try, by clip."""
        paths = self.folder(job).glob("latents-*.safetensors")
        return {int(path.stem.removeprefix("latents-")): load_file(path)["latents"] for path in paths}

    def drop_latents(self, job: str) -> None:
        """The video stands: its latents are no longer needed."""
        for path in self.folder(job).glob("latents-*"):
            path.unlink()

    # --- all of them ------------------------------------------------------------------------------

    def cards(self) -> list[Card]:
        """All jobs, oldest first."""
        there = {path.parent.name for path in self.root.glob("[0-9a-f]*/recipe.json")}
        for job in there - self._cards.keys():
            self._cards[job] = self._read_card(job)
        return sorted((self._cards[job] for job in there), key=lambda card: card.created)

    def unfinished(self) -> list[Card]:
        """What is left to do, in the order in which it will be done: visitors take turns."""
        left = (card for card in self.cards() if not self._has_ended(card.id))
        return sorted(left, key=lambda card: (card.turn, card.created))

    def _has_ended(self, job: str) -> bool:
        if job not in self._ended and self.status(job).ended:
            self._ended.add(job)
        return job in self._ended

    def ahead(self, job: str) -> int:
        """How many jobs come before a queued one, the one under way among them."""
        cards = self.unfinished()
        waiting = [card.id for card in cards if self.status(card.id).phase == "queued"]
        return waiting.index(job) + len(cards) - len(waiting) if job in waiting else 0

    def of(self, visitor: str) -> list[Card]:
        """A visitor's finished jobs, newest first."""
        mine = (card for card in self.cards() if visitor and card.visitor == visitor)
        return [card for card in mine if self._has_ended(card.id) and self.status(card.id).phase == "done"][::-1]

    def pace(self, model: str) -> float | None:
        """FLOPs a second of a model's last jobs on this machine, their median; None before the first."""
        paces = []
        for card in reversed(self.cards()):
            if card.model == model and card.flops and self._has_ended(card.id):
                status = self.status(card.id)
                if status.phase == "done" and status.tries == 1 and status.seconds:
                    paces.append(card.flops / status.seconds)
            if len(paces) == RECENT:
                break
        return statistics.median(paces) if paces else None

    def sweep(self, days: float, gigabytes: float) -> None:
        """Remove ended jobs that are too old, and the oldest of them while there is too much.

        Args:
            days: the age at which a job goes.
            gigabytes: what all jobs together may take.
        """
        ended = [card for card in self.cards() if self.status(card.id).ended]
        sizes = {card.id: _size(self.root / card.id) for card in self.cards()}
        total, oldest = sum(sizes.values()), time.time() - days * 86400
        for card in ended:
            if card.created < oldest or total > gigabytes * 1e9:
                total -= sizes[card.id]
                shutil.rmtree(self.root / card.id, ignore_errors=True)
        for draft in self.root.glob(".[0-9a-f]*"):  # a server was killed while it wrote one
            if draft.is_dir() and time.time() - draft.stat().st_mtime > 3600:
                shutil.rmtree(draft, ignore_errors=True)


def replaced(path: Path, content: bytes) -> None:
    """Write a file by rename: whoever reads it sees the old one or the new one."""
    part = path.with_name(f".{path.name}.{threading.get_ident()}")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _copied(request: Request, folder: Path) -> dict[str, Any]:
    """A request's fields as JSON, with its files copied into the folder under names of ours."""
    fields = {k: v for k, v in asdict_shallow(request).items() if v is not None}
    for name in ("image", "last_image", "audio"):
        if name in fields:
            fields[name] = _copy(fields[name], folder, name)
    pictures = fields.pop("references", ())
    if pictures:
        fields["references"] = [_copy(p, folder, f"reference-{i}") for i, p in enumerate(pictures)]
    return fields


def _copy(source: Any, folder: Path, name: str) -> str:
    if not isinstance(source, str | Path):
        raise MediaError(name, type(source).__name__, "a job takes files", "give a path")
    suffix = Path(source).suffix.lower()
    plain = suffix if len(suffix) <= 6 and suffix[1:].isalnum() and suffix.isascii() else ""
    try:
        shutil.copyfile(source, folder / (name + plain))
    except FileNotFoundError as error:
        raise MediaError(name, Path(source).name, "there is no such file", "give it again") from error
    return name + plain


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
