"""Pictures and sounds as they go wrong in life: each is refused by name, before any work, without a path."""

from __future__ import annotations

import io
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from wan_core.condition import open_picture, open_sound
from wan_core.errors import MediaError


def picture(form: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((200, 200), 80).convert("RGB").save(out, form, **options)
    return out.getvalue()


def ffmpeg(path: Path, *words: str) -> bytes:
    """A file that ffmpeg makes."""
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *words, str(path)], check=True)
    return path.read_bytes()


def tone(folder: Path, name: str, *words: str) -> bytes:
    return ffmpeg(folder / f"whole-{name}", "-f", "lavfi", "-i", "sine=d=2", *words)


def zipped(_: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("cat.png", "not even one")
    return out.getvalue()


def swapped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes(b ^ 0xFF for b in data[place : place + 64]) + data[place + 64 :]


BAD_WAV = (
    b"RIFF" + (36 + 64).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    + b"\x03\x00\x01\x00" + (16000).to_bytes(4, "little") + (64000).to_bytes(4, "little") + b"\x04\x00\x20\x00"
    + b"data" + (64).to_bytes(4, "little") + np.full(16, np.nan, np.float32).tobytes()
)  # fmt: skip

PICTURES: dict[str, Callable[[Path], bytes]] = {
    "empty.png": lambda _: b"",
    "text.png": lambda _: b"I am not a picture",
    "page.jpg": lambda _: b"<!doctype html><title>404</title>",
    "drawing.png": lambda _: b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "zip.png": zipped,
    "header.png": lambda _: picture("PNG")[:33],
    "cut.png": lambda _: picture("PNG")[:5000],
    "spoiled.png": lambda _: swapped(picture("PNG"), 20_000),
    "cut.jpg": lambda _: picture("JPEG")[:3000],
    "cut.webp": lambda _: picture("WEBP")[:1500],
    "cut.gif": lambda _: picture("GIF")[:400],
    "noise.jpg": lambda _: np.random.default_rng(0).bytes(4096),
    "sound.png": lambda folder: tone(folder, "x.wav"),
}
SOUNDS: dict[str, Callable[[Path], bytes]] = {
    "empty.wav": lambda _: b"",
    "text.mp3": lambda _: b"I am not a sound",
    "page.ogg": lambda _: b"<!doctype html><title>404</title>",
    "zip.m4a": zipped,
    "header.wav": lambda folder: tone(folder, "x.wav")[:44],
    "nan.wav": lambda _: BAD_WAV,
    "cut.m4a": lambda folder: tone(folder, "x.m4a")[:3000],  # its index stands at the end
    "cut.flac": lambda folder: tone(folder, "x.flac")[:60],
    "noise.mp3": lambda _: np.random.default_rng(1).bytes(2048),
    "picture.wav": lambda _: picture("PNG"),
    "silent film.mp4": lambda folder: ffmpeg(
        folder / "whole-film.mp4", "-f", "lavfi", "-i", "testsrc=d=1:s=64x64", "-pix_fmt", "yuv420p"
    ),
    "an hour.flac": lambda folder: ffmpeg(
        folder / "whole-hour.flac", "-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "3600"
    ),
    "list.m3u8": lambda _: b"#EXTM3U\n#EXTINF:9,\n/etc/hostname\n#EXT-X-ENDLIST\n",
    "list.wav": lambda _: b"ffconcat version 1.0\nfile /etc/hostname\n",
}


@pytest.mark.parametrize("name", list(PICTURES))
def test_a_broken_picture(name: str, tmp_path: Path) -> None:
    refused(tmp_path, name, PICTURES[name], open_picture, "reference_images")


@pytest.mark.parametrize("name", list(SOUNDS))
def test_a_broken_sound(name: str, tmp_path: Path) -> None:
    refused(tmp_path, name, SOUNDS[name], open_sound, "audio")


def refused(
    folder: Path, name: str, make: Callable[[Path], bytes], read: Callable[[Path, str], object], field: str
) -> None:
    path = folder / name
    path.write_bytes(make(folder))
    there = sorted(folder.iterdir())
    with pytest.raises(MediaError) as caught:
        read(path, field)
    words = str(caught.value)
    assert words.startswith(f"{field} {name!r}")
    assert str(folder) not in words
    assert "hostname" not in words
    assert sorted(folder.iterdir()) == there


def test_a_folder_is_neither(tmp_path: Path) -> None:
    for read, field in ((open_picture, "reference_images"), (open_sound, "audio")):
        with pytest.raises(MediaError):
            read(tmp_path, field)
