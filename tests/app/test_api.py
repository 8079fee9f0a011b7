"""The running app through gradio_client, as other programs use it."""

from __future__ import annotations

import html
import json
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from wan_core import BUILT_IN, SPEAKER, Request
from wan_core.plan import Plan
from wan_core.studio.jobs import Jobs
from wan_core.studio.ledger import Ledger
from wan_core.studio.queue import Queue
from wan_core.ui.desk import Desk
from wan_core.ui.page import build
from wan_core.weights.describe import describe

SNAPSHOT = Path(__file__).with_name("api.json")
LIMIT = 120


@pytest.fixture
def client(app: str, tmp_path: Path) -> Client:
    return Client(app, verbose=False, download_files=str(tmp_path), analytics_enabled=False)


def ended(client: Client, job: str) -> dict:
    """Wait for a job; its last status."""
    deadline = time.monotonic() + LIMIT
    while (status := client.predict(job, api_name="/status"))["phase"] not in ("done", "failed", "stopped"):
        assert time.monotonic() < deadline, status
        time.sleep(0.05)
    return status


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
    asked = {"prompt": "a red ball", "num_inference_steps": 4, "seed": 11}
    video, recipe, job = client.predict(**asked, api_name="/text_to_video")
    meta, frames = read(video_of(video))
    assert (recipe["seed"], recipe["prompt"], recipe["num_inference_steps"]) == (11, "a red ball", 4)
    assert (meta["codec"], meta["size"], meta["fps"]) == ("h264", (128, 128), 16.0)
    assert "yuv420p" in meta["pix_fmt"]
    assert recipe["read_as"].startswith("one red ball ")  # what the prompt leaves open is drawn, and told
    assert client.predict(job, api_name="/status")["message"].endswith("read as: " + recipe["read_as"])
    assert frames.shape == (33, 128, 128, 3)


def test_a_video_tells_how_to_make_it_again(client: Client, tmp_path: Path) -> None:
    made, *_ = client.predict(prompt="a blue ring circling", num_inference_steps=3, seed=5, api_name="/text_to_video")
    recipe = client.predict(file=handle_file(str(video_of(made))), api_name="/restore")
    assert recipe["api_name"] == "/text_to_video"
    job = client.predict(recipe=recipe["recipe"], api_name="/submit")
    assert client.predict(job, api_name="/result")[1]["prompt"] == "a blue ring circling"
    assert recipe["differs"] == []
    again, *_ = client.predict(**recipe["fields"], api_name=recipe["api_name"])
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


def test_what_was_made_before_is_not_made_again(client: Client, app: str, tmp_path: Path) -> None:
    wish = {"prompt": "a blue star", "num_inference_steps": 3, "num_frames": 9}
    made, recipe, job = client.predict(**wish, api_name="/text_to_video")  # a seed is drawn
    stranger = Client(app, verbose=False, download_files=str(tmp_path / "there"), analytics_enabled=False)
    again, _, other = stranger.predict(**wish, seed=recipe["seed"], api_name="/text_to_video")
    assert video_of(again).read_bytes() == video_of(made).read_bytes()
    assert other != job
    status = stranger.predict(other, api_name="/status")
    assert (status["phase"], status["tries"]) == ("done", 0)  # nobody worked on it
    *_, fresh = stranger.predict(**wish, seed=recipe["seed"] + 1, api_name="/text_to_video")
    assert stranger.predict(fresh, api_name="/status")["tries"] == 1


def test_a_plan_is_a_recipe_that_can_be_handed_in(client: Client) -> None:
    plan = client.predict(recipe={"prompt": "a red ball", "duration_seconds": 0.5, "seed": 3}, api_name="/plan")
    assert plan["recipe"]["num_frames"] == 9
    assert plan["video_seconds"] == 9 / 16
    assert plan["flops"] > 0
    job = client.predict(recipe=plan["recipe"] | {"num_inference_steps": 2}, api_name="/submit")
    ended(client, job)
    video, recipe = client.predict(job, api_name="/result")
    assert read(video_of(video))[1].shape == (9, 128, 128, 3)
    assert recipe["seed"] == 3


def test_a_recipe_with_a_picture(client: Client, photo: Path) -> None:
    wish = {"prompt": "moving right", "num_frames": 5, "num_inference_steps": 2, "mode": "image", "focal_point": [0, 1]}
    job = client.predict(recipe=wish, image=handle_file(photo), api_name="/submit")
    ended(client, job)
    _, recipe = client.predict(job, api_name="/result")
    assert (recipe["mode"], recipe["focal_point"]) == ("image", [0.0, 1.0])


@pytest.mark.parametrize(("recipe", "field", "fix"), [
    ({"prompt": "a ball", "num_frames": 32}, "num_frames", "try 29 or 33"),
    ({"prompt": "a ball", "num_frame": 33}, "num_frame", "try num_frames"),
    ({"prompt": "a ball", "mode": "image"}, "mode", "this would be text"),
    ({"prompt": "a ball", "model": "wan2.1-t2v-14b"}, "model",
     "this would be built-in: leave model out if that will do"),
    ({}, "prompt", 'try "a red ball bouncing on grass"'),
    ("a ball", "recipe", 'try {"prompt": "a red ball"}'),
])  # fmt: skip
@pytest.mark.parametrize("endpoint", ["/plan", "/submit"])
def test_errors_say_to_programs_what_would_help(
    client: Client, endpoint: str, recipe: object, field: str, fix: str
) -> None:
    with pytest.raises(AppError) as caught:
        client.predict(recipe=recipe, api_name=endpoint)
    said = json.loads(caught.value.title)
    assert (said["code"], said["field"], said["fix"], said["retry_after"]) == ("request", field, fix, None)
    assert said["message"] == html.unescape(str(caught.value))


def test_endpoints_stay_as_they_are() -> None:
    """Programs out there rely on them; after a change that is meant, ``python -m tests.app.test_api`` writes anew."""
    assert described() == json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def test_every_parameter_has_a_json_schema(client: Client) -> None:
    """An MCP client refuses the whole tool otherwise."""
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    kinds = {p["type"].get("type", "object") for e in endpoints.values() for p in e["parameters"]}
    assert kinds <= {"string", "number", "object", "array"}


def described() -> dict:
    """Every public endpoint of the app as it starts: its words, parameters and results."""

    def check(request: Request) -> Plan:
        raise AssertionError(request)

    ledger = Ledger(Jobs(Path("nowhere")))
    page = build([describe(str(m)) for m in (BUILT_IN, SPEAKER)], lambda: "", Desk(ledger, Queue(ledger, print), check))
    return {
        name: {
            "description": endpoint["description"],
            "parameters": {
                p["parameter_name"]: {"of": p["component"], "default": p["parameter_default"], "says": p["label"]}
                | {"required": not p["parameter_has_default"]}
                for p in endpoint["parameters"]
            },
            "returns": {r["label"]: r["component"] for r in endpoint["returns"]},
        }
        for name, endpoint in page.get_api_info()["named_endpoints"].items()
    }


def test_verify_tells_what_a_video_says_of_itself(client: Client, tmp_path: Path) -> None:
    video, recipe, _ = client.predict(
        prompt="a red ball", num_inference_steps=2, num_frames=5, api_name="/text_to_video"
    )
    said = client.predict(file=handle_file(str(video_of(video))), api_name="/verify")
    assert said["ai_generated"]
    assert said["recipe"] == recipe
    other = tmp_path / "other.mp4"
    other.write_bytes(b"no video")
    with pytest.raises(AppError, match="not an mp4"):
        client.predict(file=handle_file(str(other)), api_name="/verify")


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(described(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
