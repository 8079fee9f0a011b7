"""Where a model's files are: a local folder, or a repository that is downloaded once."""

from __future__ import annotations

from pathlib import Path

from wan_core.errors import CheckpointError

BUILT_IN = Path(__file__).resolve().parents[2] / "assets" / "tiny"

#: What a diffusers repository holds besides weights in other formats and demo media.
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt"]


def find(model: str | Path) -> Path:
    """The folder of a model.

    Args:
        model: a folder, or a repository id such as "Wan-AI/Wan2.1-T2V-1.3B-Diffusers".

    Returns:
        A folder in diffusers' layout.

    Raises:
        CheckpointError: there is no such folder, or the repository cannot be reached.
    """
    path = Path(model)
    if path.is_dir():
        if not (path / "model_index.json").exists():
            raise CheckpointError(f"{path.name}: no model_index.json here; this is not a diffusers folder")
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
