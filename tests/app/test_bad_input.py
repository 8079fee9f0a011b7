"""Bad input over the API, raw HTTP and the page: each is answered in words, and nothing is left behind."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.app.conftest import start, stop
from tests.app.test_jobs import connect

TEXT, IMAGE = "/text_to_video", "/image_to_video"
BALL = {"prompt": "a ball"}
SHORT = BALL | {"num_frames": 1, "num_inference_steps": 1}


class Place(NamedTuple):
    """A server: its address, folder and process, and the memory it held before anything bad came in."""

    address: str
    folder: Path
    process: int
    memory: int


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server of its own that has made a video."""
    folder = tmp_path_factory.mktemp("bad")
    process, address = start(folder)
    try:
        connect(address, folder).predict(**SHORT, api_name=TEXT)
        yield Place(address, folder, process.pid, held(process.pid))
        # what the page logs of its own faults; Gradio's, with requests that name no function, are not ours
        assert "a request failed" not in (folder / "log.txt").read_text()
    finally:
        stop(process)


def held(process: int) -> int:
    """Bytes of memory that a process holds."""
    return psutil.Process(process).memory_info().rss


def made(place: Place) -> set[str]:
    """The ids of all jobs."""
    return {path.name for path in (place.folder / "outputs").iterdir() if path.is_dir()}


@pytest.fixture(scope="module")
def client(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return connect(place.address, tmp_path_factory.mktemp("client"))


@pytest.mark.parametrize(("fields", "said"), [
    ({"prompt": ""}, "must say what to show"),
    ({"prompt": " \n\t "}, "must say what to show"),
    ({"prompt": "\u3000"}, "must say what to show"),
    ({"prompt": "x" * 10_000}, "shorten it by 8,000"),
    ({"prompt": "猫" * 2001}, "shorten it by 1"),
    (BALL | {"negative_prompt": "x" * 10_000}, "at most 2,000"),
    (BALL | {"num_frames": -5}, "1 to 33"),
    (BALL | {"num_frames": 0}, "1 to 33"),
    (BALL | {"num_frames": 2}, "try 1 or 5"),
    (BALL | {"num_frames": 32}, "try 29 or 33"),
    (BALL | {"num_frames": 80}, "1 to 33"),
    (BALL | {"num_frames": 4.5}, "whole number"),
    (BALL | {"num_frames": 1e30}, "1 to 33"),
    (BALL | {"num_inference_steps": 0}, "1 to 100"),
    (BALL | {"num_inference_steps": -1}, "1 to 100"),
    (BALL | {"num_inference_steps": 101}, "1 to 100"),
    (BALL | {"num_inference_steps": 2.5}, "whole number"),
    (BALL | {"guidance_scale": 0}, "1 to 20"),
    (BALL | {"guidance_scale": -3}, "1 to 20"),
    (BALL | {"guidance_scale": 1000}, "1 to 20"),
    (BALL | {"guidance_method": "cfg"}, "must be one of plain, zero_star"),
    (BALL | {"guidance_method": "zero_star", "sampler": "renoise"}, "stands still"),
    (BALL | {"guidance_start": 0.6, "guidance_stop": 0.5}, "0.6 to 1"),
    (BALL | {"width": 130}, "only makes 128x128"),
    (BALL | {"width": -128}, "only makes 128x128"),
    (BALL | {"height": 127}, "only makes 128x128"),
    (BALL | {"height": 1e9}, "only makes 128x128"),
    (BALL | {"width": 1_000_000, "height": 1_000_000}, "only makes 128x128"),
    (BALL | {"flow_shift": -1}, "0.1 to 50"),
    (BALL | {"flow_shift": 100}, "0.1 to 50"),
    (BALL | {"flow_shift": 1e-9}, "0.1 to 50"),
    (BALL | {"sampler": "ddim"}, "must be one of unipc, euler"),
    (BALL | {"sampler": ""}, "must be one of unipc, euler"),
    (BALL | {"seed": -4}, "try 4"),
    (BALL | {"seed": 2**53}, "2..53"),
    (BALL | {"seed": 1e300}, "seed|whole"),
])  # fmt: skip
def test_numbers_and_words(client: Client, fields: dict, said: str) -> None:
    with pytest.raises(AppError, match=said):
        client.predict(**fields, api_name=TEXT)


def png(width: int, height: int) -> bytes:
    """A valid header of a picture of any size, and nothing behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(64))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def photo() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(out, "PNG")
    return out.getvalue()


def sound() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(800))
    return out.getvalue()


PICTURES = {
    "words.png": b"not a picture", "empty.png": b"", "cut.png": photo()[:200], "zeros.jpg": bytes(5000),
    "huge.png": png(20_000, 20_000), "wide.png": png(2**31 - 1, 1), "nothing.png": png(0, 0),
    "page.html": b"<html><script>alert(1)</script></html>", "voice.wav": sound(),
    "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "flipped.png": photo()[:60] + b"\x00\xff" * 40 + photo()[140:], "archive.png": b"PK\x03\x04" + bytes(400),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_files_that_are_no_pictures(client: Client, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(PICTURES[name])
    with pytest.raises(AppError) as caught:
        client.predict(**BALL, image=handle_file(path), api_name=IMAGE)
    assert "image" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(("endpoint", "fields", "said"), [
    (IMAGE, BALL, "needs a first frame"),
    ("/verify", {"file": None}, "no video to look at"),
    ("/restore", {"file": None}, "no video to look at"),
    ("/status", {"job": "../../etc/passwd"}, "not known here"),
    ("/result", {"job": "0" * 32}, "not known here"),
])  # fmt: skip
def test_what_is_missing_or_unknown(client: Client, endpoint: str, fields: dict, said: str) -> None:
    with pytest.raises(AppError, match=said):
        client.predict(**fields, api_name=endpoint)


@pytest.mark.parametrize(("fields", "said"), [
    ({"image_fit": "stretch"}, "must be one of crop, pad"),
    ({"focal_x": 2}, "must be 0 to 1"),
    ({"focal_y": -1}, "must be 0 to 1"),
    ({"width": 64}, "only makes 128x128"),
])  # fmt: skip
def test_how_a_picture_cannot_be_used(client: Client, tmp_path: Path, fields: dict, said: str) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(photo())
    with pytest.raises(AppError, match=said):
        client.predict(**BALL, **fields, image=handle_file(path), api_name=IMAGE)


@pytest.mark.parametrize("endpoint", ["/verify", "/restore"])
@pytest.mark.parametrize("name", ["words.png", "empty.png", "voice.wav", "zeros.jpg"])
def test_files_that_are_no_videos_of_ours(client: Client, tmp_path: Path, endpoint: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(PICTURES[name])
    with pytest.raises(AppError, match="mp4"):
        client.predict(file=handle_file(path), api_name=endpoint)


@pytest.mark.parametrize(("path", "content", "codes"), [
    ("call/text_to_video", b"{", {400, 422, 500}),
    ("call/text_to_video", b"[]", {400, 422}),
    ("call/text_to_video", b"{}", {400, 422, 500}),
    ("call/nothing_like_it", b'{"data": []}', {404, 500}),
    ("run/text_to_video", b'{"data": []}', {404}),
    ("queue/join", b'{"fn_index": 99999, "session_hash": "x", "data": []}', {400, 404, 422, 500}),
    ("upload", b"no form", {400, 422}),
])  # fmt: skip
def test_raw_requests(place: Place, path: str, content: bytes, codes: set[int]) -> None:
    kind = {"content-type": "application/json"}
    answer = httpx.post(f"{place.address}/gradio_api/{path}", content=content, headers=kind)
    assert answer.status_code in codes
    assert "/root" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../../etc/passwd", "app.py", "outputs/queue.db", "requirements.txt"]
)
def test_files_of_the_server_stay_there(place: Place, path: str) -> None:
    answer = httpx.get(f"{place.address}/gradio_api/file={path}")
    assert answer.status_code in (403, 404)


@pytest.mark.parametrize("path", ["file=https://example.com/", "file=HTTP://127.0.0.1/", "proxy=https://example.com/x"])
def test_nothing_is_relayed(place: Place, path: str) -> None:
    assert httpx.get(f"{place.address}/gradio_api/{path}").status_code == 403


def test_addresses_are_not_fetched_in_place_of_files(client: Client) -> None:
    with pytest.raises(AppError, match="not its address"):
        client.predict(**BALL, image=handle_file("https://example.com/x.png"), api_name=IMAGE)


def test_too_large_an_upload(place: Place) -> None:
    files = {"files": ("big.png", bytes(51 * 1024 * 1024))}
    assert httpx.post(f"{place.address}/gradio_api/upload", files=files, timeout=60).status_code == 413


def test_afterwards_all_is_as_before(place: Place, client: Client) -> None:
    before = made(place)
    assert len(before) == 1
    *_, job = client.predict(**SHORT, api_name=TEXT)
    assert client.predict(job, api_name="/status")["phase"] == "done"
    assert made(place) == before | {job}
    assert held(place.process) < place.memory + 200 * 2**20  # a single 100-megapixel picture would take more
