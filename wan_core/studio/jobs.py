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
here what is left to do. All of them together are the ledger's business (``ledger.py``).
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.numpy import load, save

from wan_core.errors import Cancelled, EarlyError, MediaError, OutputError, RequestError, WanError
from wan_core.types import Request, asdict_shallow

log = logging.getLogger(__name__)

VERSION = 1
ENDED = ("done", "failed", "stopped")
DAMAGED = "What was known of this video can no longer be read; make it again."
_FILES = ("image", "last_image", "extends", "audio", "video", "mask")
_MEDIA = (*_FILES, "reference_images")
#: The names that their copies get.
_MEDIA_STEMS = ("image", "last_image", "extends", "audio", "given-", "mask", "reference-")
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Status:
    """How far a job is.

    Attributes:
        phase: "queued", "encode", "compile", "denoise", "decode", or how it ended: "done", "failed", "stopped".
        step: of the phase.
        of: steps in the phase.
        share: of the whole job, 0 to 1.
        seconds_left: an estimate once denoising is under way, or None.
        previews: how many pictures there have been; the last one is in preview.webp.
        message: why it failed, or a line on what was made.
        error: the same for programs, see :meth:`wan_core.errors.WanError.details`; None if it has not failed.
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
    error: dict[str, Any] | None = None
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
        rank: jobs are done in the order of their ranks; see ``ledger.py``.
        mode: "text", "image" or "reference".
        prompt: what was asked for.
        model: the name of what makes it.
        flops: what it costs; 0 where that is not known.
        revision: the model's weights.
        mark: what it shares with requests that its video answers too, see ``recipe.fingerprint``.
        tier: "exact", "fast" or "scheduled".
    """

    id: str
    created: float
    visitor: str
    rank: float
    mode: str
    prompt: str
    model: str
    flops: float
    revision: str = ""
    mark: str = ""
    tier: str = "exact"


def failed(status: Status, why: WanError) -> Status:
    """A status that says why there is no video."""
    phase = "stopped" if isinstance(why, Cancelled) else "failed"
    return replace(status, phase=phase, message=str(why), error=why.details(), seconds_left=None)


def is_id(name: str) -> bool:
    """Whether a name could be a job's."""
    return _ID.fullmatch(name) is not None


class Jobs:
    """Jobs one at a time, by their ids.

    Args:
        root: the folder of all of them; made when it is first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, job: str) -> Path:
        """A job's folder.

        Raises:
            RequestError: there is no such job.
        """
        if not is_id(job) or not (self.root / job / "recipe.json").exists():
            raise RequestError("job", job, "is not known here", "it may have been swept; make it again")
        return self.root / job

    def create(self, request: Request, visitor: str = "", rank: float | None = None, **facts: Any) -> str:
        """Write a new job; its folder appears under its name only once it is whole.

        Args:
            request: what to make; pictures and sound are copied into the folder.
            visitor: whose it is.
            rank: its place among others; None puts it behind those that are there.
            facts: of its card: ``model``, ``flops``, ``revision`` and ``mark``.

        Returns:
            The job's id.

        Raises:
            MediaError: a picture or the sound cannot be copied.
            OutputError: there is no room.
        """
        job, now = uuid.uuid4().hex, time.time()
        draft = self.root / f".{job}"
        card = {"version": VERSION, "created": now, "visitor": visitor, "rank": now if rank is None else rank}
        card |= {"mode": request.mode, "tier": request.tier or "exact", "model": "", "flops": 0.0} | facts
        try:
            draft.mkdir(parents=True)
            recipe = card | {"request": _copied(request, draft)}
            replaced(draft / "recipe.json", json.dumps(recipe, ensure_ascii=False).encode(), lasting=True)
            draft.rename(self.root / job)
        except OSError as error:
            raise OutputError("the job could not be written: there is no room for it, or no right to") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return job

    def remove(self, job: str) -> None:
        """Take a job away; under a hidden name first, so that nobody meets half of it."""
        with suppress(OSError):
            (self.root / job).rename(self.root / f".{job}")
        shutil.rmtree(self.root / f".{job}", ignore_errors=True)

    def card(self, job: str) -> Card:
        """What stands on a job's recipe.

        Raises:
            RequestError: there is no such job, or its recipe is damaged.
        """
        recipe = self._recipe(job)
        try:
            known = {f.name: recipe[f.name] for f in fields(Card) if f.name in recipe}
            return Card(id=job, prompt=recipe["request"]["prompt"], **known)
        except (KeyError, TypeError) as error:
            raise RequestError("job", job, "is damaged", "make it again") from error

    def request(self, job: str) -> Request:
        """What a job is to make, its pictures and sound as paths."""
        folder, given = self.folder(job), dict(self._recipe(job)["request"])
        for name in _MEDIA:
            if isinstance(given.get(name), str):
                given[name] = folder / given[name]
            elif given.get(name):
                given[name] = tuple(folder / part for part in given[name])
        if "focal_point" in given:
            given["focal_point"] = tuple(given["focal_point"])
        return Request(**given)

    def _recipe(self, job: str) -> dict[str, Any]:
        try:
            return json.loads((self.folder(job) / "recipe.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RequestError("job", job, "is damaged", "make it again") from error

    # --- status -------------------------------------------------------------------------------

    def status(self, job: str) -> Status:
        """How far a job is; one whose status cannot be read has failed."""
        try:
            stored = json.loads((self.folder(job) / "status.json").read_text(encoding="utf-8"))
            return Status(**{f.name: stored[f.name] for f in fields(Status) if f.name in stored})
        except FileNotFoundError:
            return Status()
        except (OSError, ValueError, TypeError) as error:
            log.warning("job %s: its status cannot be read (%s)", job, error)
            return failed(Status(), OutputError(DAMAGED))

    def report(self, job: str, status: Status) -> None:
        """Write how far a job is; readers see the old status or the new one, never half of it."""
        content = json.dumps(asdict(status), ensure_ascii=False).encode()
        replaced(self.folder(job) / "status.json", content, lasting=status.ended)

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
                self.report(job, failed(status, Cancelled("stopped before it began")))

    def cancelled(self, job: str) -> Callable[[], bool]:
        """A check of whether somebody wants a job stopped."""
        return (self.folder(job) / "cancel").exists

    def again(self, job: str) -> None:
        """Put a job that failed or was stopped back to where it can be run; what it kept is used.

        Raises:
            RequestError: it has not ended so, or not quite.
        """
        try:
            with self.claim(job):
                status = self.status(job)
                if status.phase not in ("failed", "stopped"):
                    raise RequestError("job", job, f"is {status.phase}", "only one that failed can be tried again")
                (self.folder(job) / "cancel").unlink(missing_ok=True)
                self.report(job, Status())
        except Timeout as error:
            raise EarlyError("job", job, "is only just ending", "try again in a moment") from error

    def inherit(self, job: str, twin: str) -> bool:
        """End a new job with the video that another one of the same mark has made.

        Args:
            job: nobody has begun it.
            twin: a finished job.

        Returns:
            Whether it could be done; if not, the job is still to be made.
        """
        here = self.folder(job)
        try:
            there, status = self.folder(twin), self.status(twin)
            linked(there / "video.mp4", here / "video.mp4")
            for name in ("poster.webp", "last.png"):  # a job can do without
                if (there / name).exists():
                    linked(there / name, here / name)
            # tries of 0: how long it took says nothing about this machine once more
            self.report(job, replace(status, tries=0, previews=0))
        except (OSError, RequestError) as error:  # swept this moment: it is made anew
            log.info("job %s: no video of another (%s)", job, error)
            for name in ("video.mp4", "poster.webp", "last.png"):
                (here / name).unlink(missing_ok=True)
            return False
        for path in here.iterdir():  # nobody will look at what came with it
            if path.stem.startswith(_MEDIA_STEMS):
                path.unlink(missing_ok=True)
        return True

    # --- finished latents -----------------------------------------------------------------------

    def keep(self, job: str, clip: int, latents: np.ndarray) -> None:
        """Keep one clip's finished latents until the video stands.

        Raises:
            OSError: there is no room.
        """
        content = save({"latents": np.ascontiguousarray(latents)})
        replaced(self.folder(job) / f"latents-{clip}.safetensors", content, lasting=True)

    def kept(self, job: str) -> dict[int, np.ndarray]:
        """Finished latents of an earlier try, by clip; what cannot be read is made anew."""
        found = {}
        for path in self.folder(job).glob("latents-*.safetensors"):
            try:
                found[int(path.stem.removeprefix("latents-"))] = load(path.read_bytes())["latents"]
            except (OSError, SafetensorError, KeyError, ValueError) as error:
                log.warning("job %s: %s cannot be read (%s)", job, path.name, error)
        return found

    def drop_latents(self, job: str) -> None:
        """The video stands: its latents are no longer needed."""
        for path in self.folder(job).glob("latents-*"):
            path.unlink(missing_ok=True)


def replaced(path: Path, content: bytes, *, lasting: bool = False) -> None:
    """Write a file by rename: whoever reads it sees the old one or the new one.

    Args:
        path: the file.
        content: all of it.
        lasting: see to it that not even a power cut leaves an empty one.

    Raises:
        OSError: there is no room.
    """
    part = path.with_name(f".{path.name}.{threading.get_ident()}")
    try:
        with part.open("wb") as file:
            file.write(content)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def linked(source: Path, place: Path) -> None:
    """One file in two places; a copy where there are no links, or on another disk.

    Raises:
        OSError: there is no room, or no such file.
    """
    try:
        os.link(source, place)
    except FileExistsError:
        pass  # somebody was there at the same moment
    except OSError:
        part = place.with_name(f".{threading.get_ident()}.{place.name}")
        shutil.copyfile(source, part)
        part.replace(place)


def _copied(request: Request, folder: Path) -> dict[str, Any]:
    """A request's fields as JSON, with its files copied into the folder under names of ours."""
    given = {k: v for k, v in asdict_shallow(request).items() if v is not None}
    for name in _FILES:
        if name in given:  # video.mp4 is what is made
            given[name] = _copy(given[name], folder, "given-video" if name == "video" else name)
    pictures = given.pop("reference_images", ())
    if pictures:
        given["reference_images"] = [_copy(p, folder, f"reference-{i}") for i, p in enumerate(pictures)]
    return given


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
