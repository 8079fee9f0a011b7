"""The running app through gradio_client, as other programs use it."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError


@pytest.fixture
def client(app: str, tmp_path: Path) -> Client:
    return Client(app, verbose=False, download_files=str(tmp_path), analytics_enabled=False)


def video_of(result) -> Path:
    value = result["video"] if isinstance(result, dict) else result
    return Path(value)


def read(path: Path) -> tuple[dict, np.ndarray]:
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    frames = [np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in reader]
    return meta, np.stack(frames)


def test_text_to_video(client: Client) -> None:
    video, seed, _ = client.predict(prompt="a red ball", num_inference_steps=4, seed=11, api_name="/text_to_video")
    meta, frames = read(video_of(video))
    assert seed == 11
    assert (meta["codec"], meta["size"], meta["fps"]) == ("h264", (128, 128), 16.0)
    assert "yuv420p" in meta["pix_fmt"]
    assert frames.shape == (33, 128, 128, 3)


def test_a_video_tells_how_to_make_it_again(client: Client, tmp_path: Path) -> None:
    made, *_ = client.predict(prompt="a blue ring circling", num_inference_steps=3, seed=5, api_name="/text_to_video")
    recipe = client.predict(file=handle_file(str(video_of(made))), api_name="/restore")
    assert recipe["api_name"] == "/text_to_video"
    assert recipe["differs"] == []
    again, seed, _ = client.predict(**recipe["fields"], api_name=recipe["api_name"])
    assert seed == 5
    assert video_of(again).read_bytes() == video_of(made).read_bytes()
    text = tmp_path / "x.mp4"
    text.write_text("not a video")
    with pytest.raises(AppError, match="not an mp4"):
        client.predict(file=handle_file(str(text)), api_name="/restore")


def test_image_to_video_starts_on_the_image(client: Client, photo: Path) -> None:
    video, *_ = client.predict(
        prompt="moving right", image=handle_file(photo), num_inference_steps=4, seed=1, api_name="/image_to_video"
    )
    _, frames = read(video_of(video))
    first = frames[0].astype(int)
    assert first[64, 64, 0] > first[64, 64, 2] + 60  # the red ball
    assert first[10, 10, 2] > first[10, 10, 0] + 30  # the blue ground


@pytest.mark.parametrize(("fields", "said"), [
    ({"prompt": ""}, "prompt"),
    ({"prompt": "x" * 10_000}, "shorten it by 8,000"),
    ({"prompt": "a ball", "width": 130}, "only makes 128x128"),
    ({"prompt": "a ball", "seed": -4}, "seed"),
    ({"prompt": "a ball", "num_frames": 32}, "try 29 or 33"),
    ({"prompt": "a ball", "flow_shift": -1}, "flow_shift"),
])  # fmt: skip
def test_bad_input_is_answered_in_words(client: Client, fields: dict, said: str) -> None:
    with pytest.raises(AppError, match=said) as caught:
        client.predict(**fields, api_name="/text_to_video")
    assert "/" not in str(caught.value).replace("and/or", "")


def test_a_text_file_named_png(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("words")
    with pytest.raises(AppError, match="not a picture"):
        client.predict(prompt="a ball", image=handle_file(path), api_name="/image_to_video")


def test_the_same_seed_gives_the_same_file(client: Client) -> None:
    runs = [
        client.predict(prompt="a blue star", num_inference_steps=3, seed=5, api_name="/text_to_video")[0]
        for _ in range(2)
    ]
    first, second = (read(video_of(r))[1] for r in runs)
    assert np.array_equal(first, second)


def test_what_is_public(client: Client) -> None:
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {
        "/text_to_video",
        "/image_to_video",
        "/reference_to_video",
        "/status",
        "/result",
        "/cancel",
        "/retry",
        "/verify",
        "/restore",
    }


def test_verify_tells_what_a_video_says_of_itself(client: Client, tmp_path: Path) -> None:
    video, seed, _ = client.predict(prompt="a red ball", num_inference_steps=2, num_frames=5, api_name="/text_to_video")
    said = client.predict(file=handle_file(str(video_of(video))), api_name="/verify")
    assert said["ai_generated"]
    assert said["recipe"]["seed"] == seed
    other = tmp_path / "other.mp4"
    other.write_bytes(b"no video")
    with pytest.raises(AppError, match="not an mp4"):
        client.predict(file=handle_file(str(other)), api_name="/verify")
