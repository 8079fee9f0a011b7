"""Where a model's files are: a local folder, or a repository that is downloaded once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wan_core.errors import CheckpointError
from wan_core.specs import SPECS
from wan_core.weights.places import Root, is_model

CACHE = Path.home() / ".cache" / "wan-atelier"  # for what need not be computed twice
BUILT_IN = Path(__file__).resolve().parents[2] / "assets" / "tiny"
SPEAKER = BUILT_IN / "speaker"  # the built-in model of reference mode

#: What a repository holds besides weights in other formats and demo media.
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.pth"]
_WORDS = ["*.json", "*.txt"]  # of these, what tells which model it is
_FILES = (".safetensors", ".gguf", ".pth")
SPARE = 2**30  # bytes of the disk that a download leaves alone
ENDPOINT: str | None = None  # of the hub; None for the library's own, or HF_ENDPOINT
Watch = Callable[[int, int], None]  # is told bytes that have come, and how many there are


def split(model: str | Path) -> tuple[str | None, str | Path]:
    """A model's name as (family, where): "phantom-1.3b=/some/folder" says what tensors cannot.

    Raises:
        CheckpointError: there is no such family.
    """
    family, equals, where = str(model).partition("=")
    if not equals or "/" in family or Path(model).exists():
        return None, model
    if family not in SPECS:
        raise CheckpointError(f"{family}: there is no such family; there are {', '.join(sorted(SPECS))}")
    return family, where


def find(model: str | Path, whole: bool = True, watch: Watch | None = None) -> Root:
    """Where a model is.

    Args:
        model: a folder, a repository id such as "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", perhaps with a revision
            ("OWNER/NAME@COMMIT"), or a transformer's single file; with two experts
            "HIGH.safetensors+LOW.safetensors".
        whole: whether a repository's weights are needed, or only what tells which model it is.
        watch: is told how a download is coming on.

    Returns:
        A folder in diffusers' layout or the official one, or the transformers' files.

    Raises:
        CheckpointError: there is no such folder, the repository cannot be reached, or the disk is too full for it.
    """
    files = tuple(Path(part.strip()) for part in str(model).split("+"))
    if all(file.suffix in _FILES and file.is_file() for file in files):
        return Root(files[0].parent, files)
    path = Path(model)
    if path.is_dir():
        if not is_model(path):
            raise CheckpointError(f"{path.name}: neither model_index.json nor an official Wan or HuMo checkpoint here")
        return Root(path)
    if missing := next((f for f in files if f.suffix in _FILES and not f.is_file()), None):
        raise CheckpointError(f"{missing.name}: there is no such file")
    if path.is_absolute() or str(model).count("/") != 1 or str(model).startswith("."):
        raise CheckpointError(f"{path.name}: there is no such folder")
    folder = _fetched(str(model), _WANTED if whole else _WORDS, watch or (lambda _done, _of: None))
    if not is_model(folder):
        raise CheckpointError(f"{model}: this repository holds no Wan model in a layout that is known")
    return Root(folder)


def _fetched(model: str, patterns: list[str], watch: Watch) -> Path:
    """A repository's snapshot; what an earlier download left unfinished is gone on with."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        DryRunError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    repo, _, revision = model.partition("@")
    asked: dict[str, Any] = {"repo_id": repo, "revision": revision or None, "allow_patterns": patterns,
                             "endpoint": ENDPOINT, "cache_dir": constants.HF_HUB_CACHE}  # fmt: skip
    try:
        try:
            files = snapshot_download(**asked, dry_run=True)
        except DryRunError as error:  # no network, or no such repository: what is here may do
            try:
                return Path(snapshot_download(**asked, local_files_only=True))
            except LocalEntryNotFoundError:
                raise error.__cause__ if isinstance(error.__cause__, HfHubHTTPError) else error from None
        total = sum(file.file_size or 0 for file in files if file.will_download)
        _check_room(model, total, Path(constants.HF_HUB_CACHE))
        return Path(snapshot_download(**asked, tqdm_class=_bar(watch, total)))
    except (RepositoryNotFoundError, GatedRepoError) as error:
        raise CheckpointError(f"{model}: there is no such repository, or it asks for a token (HF_TOKEN)") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise CheckpointError(
            f"{model}: it is not on this machine and cannot be downloaded now; "
            "give a local folder, or try again with a network"
        ) from error


def _check_room(model: str, total: int, cache: Path) -> None:
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if total > 0 and total + SPARE > free:
        raise CheckpointError(
            f"{model}: {total / 1e9:.1f} GB are to be downloaded and {free / 1e9:.1f} GB are free on the disk; "
            "free some, or set HF_HOME to a folder on a larger one"
        )


def _bar(watch: Watch, total: int) -> type:
    """The library's progress bar, which also tells somebody else; where it is not shown, it does not count itself."""
    from huggingface_hub.utils import tqdm

    most = [0]

    class Bar(tqdm):
        def __init__(self, *given: Any, **named: Any) -> None:
            self._bytes, self._came = named.get("unit") == "B", 0
            super().__init__(*given, **named)

        def update(self, n: float | None = 1) -> bool | None:
            self._came += int(n or 0)
            if self._bytes and self._came > most[0]:
                most[0] = self._came
                watch(most[0], total)
            return super().update(n)

    return Bar
