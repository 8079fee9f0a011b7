"""Where a model's files are: a local folder, or a repository that is downloaded once."""

from __future__ import annotations

from pathlib import Path

from wan_core.errors import CheckpointError
from wan_core.weights.places import is_model

CACHE = Path.home() / ".cache" / "wan-atelier"  # for what need not be computed twice
BUILT_IN = Path(__file__).resolve().parents[2] / "assets" / "tiny"
SPEAKER = BUILT_IN / "speaker"  # the built-in model of reference mode

#: What a repository holds besides weights in other formats and demo media.
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.pth"]


def find(model: str | Path) -> Path:
    """The folder of a model.

    Args:
        model: a folder, or a repository id such as "Wan-AI/Wan2.1-T2V-1.3B-Diffusers".

    Returns:
        A folder in diffusers' layout or the official one.

    Raises:
        CheckpointError: there is no such folder, or the repository cannot be reached.
    """
    path = Path(model)
    if path.is_dir():
        if not is_model(path):
            raise CheckpointError(f"{path.name}: neither model_index.json nor an official Wan or HuMo checkpoint here")
        return path
    if path.is_absolute() or str(model).count("/") != 1 or str(model).startswith("."):
        raise CheckpointError(f"{path.name}: there is no such folder")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(model), allow_patterns=_WANTED))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f"{model}: it is not on this machine and cannot be downloaded now; "
            "give a local folder, or try again with a network"
        ) from error
