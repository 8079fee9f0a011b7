"""Starting the app: light until the page stands, and honest about a model that cannot be loaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.app.conftest import ROOT, served
from wan_core import BUILT_IN


def test_the_page_needs_nothing_heavy() -> None:
    """Importing torch and the libraries on it takes longer than everything else together."""
    code = "import sys, app; sys.exit(bool({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_damaged_model_is_told_to_whoever_asks_for_a_video(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(BUILT_IN, model, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shard = next((model / "transformer").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:100_000])
    with served(tmp_path, WAN_MODEL=str(model)) as address:
        client = Client(address, verbose=False, analytics_enabled=False)
        with pytest.raises(AppError, match="damaged or cut short"):
            client.predict(prompt="a red ball", api_name="/text_to_video")


@pytest.mark.parametrize(("file", "content", "words"), [
    (None, None, "there is no such folder"),
    ("model_index.json", "{", "not valid JSON"),
    ("transformer/config.json", "{}", "not a Wan transformer"),
])  # fmt: skip
def test_what_is_no_model_stops_the_app_with_a_sentence(
    tmp_path: Path, file: str | None, content: str | None, words: str
) -> None:
    model = tmp_path / "model"
    if file is not None and content is not None:
        (model / "transformer").mkdir(parents=True)
        (model / "model_index.json").write_text("{}")
        (model / file).write_text(content)
    refused(words, WAN_MODEL=str(model))


def test_attention_by_nobody_stops_the_app_with_a_sentence() -> None:
    refused("attention is by cudnn, flash3, sage", WAN_ATTENTION="slow")


def refused(words: str, **settings: str) -> None:
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
