"""A Space on ZeroGPU, emulated: a job inside its visitor's request, in a forked process."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client

from tests.app.conftest import start, stop
from tests.app.test_api import read, video_of
from tests.app.test_jobs import LIMIT, LONG, connect, ended, handed_in


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Its address, and the file of seconds that it asked for."""
    folder = tmp_path_factory.mktemp("space")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process, address = start(
        folder, script=("-m", "tests.app.zerogpu", str(folder / "asked")), SPACES_ZERO_GPU="true", WAN_DEVICE="cpu",
        SPACES_ZERO_DEVICE_API_URL=f"http://127.0.0.1:{port}", ZEROGPU_OFFLOAD_DIR=str(folder / "offload"),
        OMP_NUM_THREADS="1",
    )  # fmt: skip
    yield address, folder / "asked"
    stop(process)


@pytest.fixture
def client(space: tuple[str, Path], tmp_path: Path) -> Client:
    return connect(space[0], tmp_path)


def test_a_video_and_the_seconds_asked_for_it(client: Client, space: tuple[str, Path]) -> None:
    video, recipe, _ = client.predict(prompt="a red ball", num_inference_steps=4, seed=11, api_name="/text_to_video")
    assert recipe["seed"] == 11
    assert read(video_of(video))[1].shape == (33, 128, 128, 3)
    assert space[1].read_text().split() == ["30"]  # a small model costs next to nothing on a GPU


def test_progress_and_cancel_cross_the_fork(client: Client) -> None:
    job = handed_in(client, num_inference_steps=LONG)
    deadline = time.monotonic() + LIMIT
    while client.predict(job, api_name="/status")["step"] < 2:
        assert time.monotonic() < deadline
    client.predict(job, api_name="/cancel")
    status = ended(client, job)
    assert status["phase"] == "stopped"
    assert 2 <= status["step"] < LONG
