"""The Reference tab's endpoint, on a small random HuMo, through the running app."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.app.conftest import served
from tests.app.test_api import video_of
from tests.core.test_audio import wav
from tests.core.test_reference import checkpoint, probe


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("humo")
    model = checkpoint(folder / "model", "humo1")
    with served(folder, WAN_MODEL=str(model), WAN_DTYPE="float32") as address:
        yield Client(address, verbose=False, download_files=str(folder), analytics_enabled=False)


def test_a_picture_and_a_voice_make_a_video_with_sound(client: Client, photo: Path, tmp_path: Path) -> None:
    voice = wav(tmp_path / "voice.wav", 22050, 2, 0.6)
    video, seed = client.predict(
        prompt="a red star", reference=handle_file(str(photo)), audio=handle_file(str(voice)), width=64, height=64,
        num_inference_steps=2, seed=4, api_name="/reference_to_video",
    )  # fmt: skip
    frames, seconds = probe(video_of(video))
    assert seed == 4
    assert frames == round(0.6 * 25)
    assert abs(seconds - frames / 25) <= 1 / 25


def test_what_is_no_sound_is_told(client: Client, photo: Path, tmp_path: Path) -> None:
    text = tmp_path / "voice.wav"
    text.write_text("not a sound")
    with pytest.raises(AppError, match="no sound that can be read"):
        client.predict(prompt="a red star", audio=handle_file(str(text)), api_name="/reference_to_video")


def test_neither_picture_nor_voice_is_told(client: Client) -> None:
    with pytest.raises(AppError, match="needs a picture or a voice"):
        client.predict(prompt="a red star", api_name="/reference_to_video")
