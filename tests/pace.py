"""How fast and how steady the page and its server are: ``python -m tests.pace [page] [status] [jobs [COUNT]]``.

The real app in a process of its own, with its built-in model. ``page``: seconds until Generate can be pressed,
in a Chromium that has just been started. ``status``: answers of ``/status`` while a job denoises. ``jobs``:
memory, threads, file handles and files left behind over many real jobs. An idle machine, please.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
from gradio_client import Client
from playwright.sync_api import expect, sync_playwright

from tests.app.conftest import FLAGS, start, stop

ROUNDS = 7
SMALL = {"prompt": "a small red star bouncing on green grass", "num_frames": 5, "num_inference_steps": 2}
LONG = SMALL | {"num_frames": 33, "num_inference_steps": 100, "seed": 1}
REAL = {"prompt": SMALL["prompt"]}
FINISHED = ("done", "failed", "stopped")


def page(address: str) -> None:
    """Open the page in a fresh browser, again and again."""
    pressed, filled = [], []
    path = shutil.which("chromium")
    with sync_playwright() as driver:
        for _ in range(ROUNDS):
            browser = driver.chromium.launch(executable_path=path, args=FLAGS)
            opened = browser.new_page()
            begin = time.perf_counter()
            opened.goto(address)
            opened.get_by_role("button", name="Generate").click(trial=True)
            pressed.append(time.perf_counter() - begin)
            expect(opened.get_by_label("Prompt").first).not_to_have_value("")
            filled.append(time.perf_counter() - begin)
            browser.close()
    _tell("Generate can be pressed after", pressed, "s")
    _tell("the prompt is filled in after", filled, "s")


def status(address: str) -> None:
    """Ask how a job is coming on, over plain HTTP and by gradio_client."""
    client = Client(address, verbose=False)
    job = client.predict(recipe=LONG, api_name="/submit")
    while client.predict(job, api_name="/status")["phase"] != "denoise":
        time.sleep(0.05)

    def plain() -> None:
        call = f"{address}/gradio_api/call/status"
        event = http.post(call, json={"data": [job]}).json()["event_id"]
        assert "complete" in http.get(f"{call}/{event}").text

    with httpx.Client(timeout=30) as http:
        for name, ask in (
            ("plain HTTP", plain), ("gradio_client", lambda: client.predict(job, api_name="/status")),
        ):  # fmt: skip
            _tell(f"/status by {name}", [_timed(ask) * 1000 for _ in range(6 * ROUNDS)], "ms")
    assert client.predict(job, api_name="/status")["phase"] == "denoise", "the job ended too early"
    client.predict(job, api_name="/cancel")


def jobs(address: str, server: int, folder: Path, count: int) -> None:
    """Make videos, small ones and every tenth a real one, and watch what the server holds."""
    client, process = Client(address, verbose=False), psutil.Process(server)
    begin = time.perf_counter()
    for number in range(count + 1):
        if number in (1, 5, 20) or number % 50 == 0:
            held = process.memory_info().rss / 2**20, process.num_threads(), process.num_fds()
            left = sum(1 for path in (folder / "cache").rglob("*") if path.is_file())
            print(f"after {number:4} jobs: {held[0]:6.0f} MiB  {held[1]:3} threads  {held[2]:3} handles  {left} files")
        if number < count:
            recipe = (SMALL if number % 10 else REAL) | {"seed": number}
            job = client.predict(recipe=recipe, api_name="/submit")
            while (phase := client.predict(job, api_name="/status")["phase"]) not in FINISHED:
                time.sleep(0.02)
            assert phase == "done", phase
    print(f"{count} jobs in {time.perf_counter() - begin:.0f} s")


def _timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _tell(what: str, seen: list[float], unit: str) -> None:
    low, middle, high = min(seen), statistics.median(seen), max(seen)
    print(f"{what}: {middle:.3g} {unit} (median of {len(seen)}; {low:.3g} to {high:.3g})")


def main(wanted: list[str]) -> None:
    """Start the app and do what is wanted."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin = time.perf_counter()
        process, address = start(folder)
        print(f"served after {time.perf_counter() - begin:.1f} s")
        try:
            client = Client(address, verbose=False)
            first = _timed(lambda: client.predict(prompt=SMALL["prompt"], seed=1, api_name="/text_to_video"))
            print(f"first video after {first:.1f} s")
            if "page" in wanted:
                page(address)
            if "status" in wanted:
                status(address)
            if "jobs" in wanted:
                count = wanted[wanted.index("jobs") + 1 :]
                jobs(address, process.pid, folder, int(count[0]) if count else 300)
        finally:
            stop(process)


if __name__ == "__main__":
    main(sys.argv[1:] or ["page", "status", "jobs"])
