"""Jobs through the running app: reloads, lost clients, cancel, a killed server."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Page, expect

from tests.app.conftest import plays, start, stop
from tests.app.test_api import ended, read, video_of

MINUTE = 60_000
LIMIT = 180
LONG = 100  # steps: long enough to be interrupted


def connect(address: str, folder: Path) -> Client:
    return Client(address, verbose=False, download_files=str(folder), analytics_enabled=False)


@pytest.fixture
def client(app: str, tmp_path: Path) -> Client:
    return connect(app, tmp_path)


def handed_in(client: Client, **fields) -> str:
    """The id of a new job, told before it is done."""
    job = client.submit(**{"prompt": "a red ball"} | fields, api_name="/text_to_video")
    deadline = time.monotonic() + LIMIT
    while not job.outputs():
        assert time.monotonic() < deadline
        assert not job.done()
        time.sleep(0.02)
    return job.outputs()[0][2]


def test_a_lost_client_loses_nothing(app: str, client: Client, tmp_path: Path) -> None:
    lost = connect(app, tmp_path)
    job = handed_in(lost, num_inference_steps=20, seed=3)
    lost.close()
    assert ended(client, job)["seed"] == 3
    video, recipe = client.predict(job, api_name="/result")
    assert recipe["seed"] == 3
    assert read(video_of(video))[1].shape == (33, 128, 128, 3)


def test_cancel_from_anywhere_and_try_again(client: Client) -> None:
    job = handed_in(client, num_inference_steps=LONG)
    client.predict(job, api_name="/cancel")
    status = ended(client, job)
    assert status["phase"] == "stopped"
    assert status["step"] < LONG
    with pytest.raises(AppError, match="stopped"):
        client.predict(job, api_name="/result")
    client.predict(job, api_name="/retry")
    client.predict(job, api_name="/cancel")
    assert ended(client, job)["phase"] == "stopped"


@pytest.mark.parametrize("endpoint", ["/status", "/result", "/cancel", "/retry"])
@pytest.mark.parametrize("job", ["", "0" * 32, "../../etc/passwd", "x" * 10_000])
def test_unknown_jobs_are_told(client: Client, endpoint: str, job: str) -> None:
    with pytest.raises(AppError, match="not known here"):
        client.predict(job, api_name=endpoint)


def test_ten_clients_hand_in_four_videos_each(app: str, tmp_path: Path) -> None:
    def work(number: int) -> list[tuple[str, int]]:
        client = connect(app, tmp_path / str(number))
        jobs = [
            client.submit(prompt="a red ball", num_frames=1, num_inference_steps=1, seed=10 * number + i,
                          api_name="/text_to_video")
            for i in range(4)
        ]  # fmt: skip
        return [(job.result(LIMIT)[2], job.result()[1]["seed"]) for job in jobs]

    with ThreadPoolExecutor(10) as pool:
        made = [pair for pairs in pool.map(work, range(10)) for pair in pairs]
    assert sorted(seed for _, seed in made) == [10 * n + i for n in range(10) for i in range(4)]
    assert Counter(job for job, _ in made).most_common(1)[0][1] == 1
    client = connect(app, tmp_path)
    assert all(client.predict(job, api_name="/status")["tries"] == 1 for job, _ in made)


def test_a_killed_server_finishes_every_job_when_it_is_back(app: str, tmp_path: Path) -> None:
    process, address = start(tmp_path)
    try:
        client = connect(address, tmp_path)
        jobs = [handed_in(client, num_inference_steps=40, seed=i) for i in range(2)]
        whole = handed_in(client, num_inference_steps=4, seed=7)
        deadline = time.monotonic() + LIMIT
        while client.predict(jobs[0], api_name="/status")["step"] < 2:
            assert time.monotonic() < deadline
    finally:
        process.kill()  # in the middle of denoising
        process.wait()
    process, address = start(tmp_path)
    try:
        client = connect(address, tmp_path)
        said = [ended(client, job) for job in (*jobs, whole)]
        assert [status["phase"] for status in said] == ["done"] * 3
        assert [status["seed"] for status in said] == [0, 1, 7]
        elsewhere = connect(app, tmp_path / "elsewhere")
        again, *_ = elsewhere.predict(prompt="a red ball", num_inference_steps=4, seed=7, api_name="/text_to_video")
        before, _ = client.predict(whole, api_name="/result")
        assert video_of(again).read_bytes() == video_of(before).read_bytes()
    finally:
        stop(process)


# --- the page ---------------------------------------------------------------------------------


def begin_long(page: Page) -> None:
    """Start a job that is long enough to be interrupted, and see it work."""
    page.get_by_text("Advanced").first.click()
    steps = page.get_by_label("number input for Steps").first
    steps.fill(str(LONG))
    steps.press("Tab")
    page.get_by_role("button", name="Generate").first.click()
    expect(page.get_by_text(f"of {LONG}").first).to_be_visible(timeout=MINUTE)


@pytest.mark.browser
def test_a_reload_brings_progress_and_then_the_video(page: Page) -> None:
    page.get_by_label("Prompt", exact=True).first.fill("a blue square spinning")
    begin_long(page)
    page.reload()
    expect(page.get_by_text(f"of {LONG}").first).to_be_visible(timeout=MINUTE)
    expect(page.locator(".stage video").first).to_be_visible(timeout=2 * MINUTE)
    expect(page.locator(".history a")).to_have_count(1, timeout=MINUTE)
    assert "job=" in page.url
    page.reload()
    expect(page.locator(".stage video").first).to_be_visible(timeout=MINUTE)


@pytest.mark.browser
def test_the_strip_holds_what_this_browser_made_and_nobody_elses(page: Page, app: str, browser: Browser) -> None:
    for number, prompt in enumerate(("a red star", "a green ring")):
        page.get_by_label("Prompt", exact=True).first.fill(prompt)
        page.get_by_role("button", name="Generate").first.click()
        expect(page.locator(".history a")).to_have_count(number + 1, timeout=2 * MINUTE)
    newest = page.locator(".history a").first
    expect(newest).to_have_attribute("title", "a green ring")
    address = page.locator(".history a").last.get_attribute("href")
    page.locator(".history a").last.click()
    expect(page.locator(".stage video").first).to_be_visible(timeout=MINUTE)
    assert address is not None
    assert page.url.endswith(address)
    other = browser.new_context()
    stranger = other.new_page()
    stranger.goto(app)
    expect(stranger.locator("#head .badge")).to_contain_text("CPU", timeout=MINUTE)
    expect(stranger.locator(".history a")).to_have_count(0)
    other.close()


@pytest.mark.browser
def test_a_last_frame_is_the_next_first_one(page: Page) -> None:
    expect(page.get_by_text("128x128 · 2.1 s").first).to_be_visible(timeout=MINUTE)  # the plan
    page.get_by_label("Prompt", exact=True).first.fill("a red star moving left")
    page.get_by_role("button", name="Generate").first.click()
    page.get_by_role("button", name="Go on from the last frame").first.click(timeout=MINUTE)
    expect(page.get_by_role("tab", name="Image")).to_have_attribute("aria-selected", "true", timeout=MINUTE)
    expect(page.locator("img[alt]:visible").first).to_be_visible(timeout=MINUTE)
    page.get_by_label("Prompt", exact=True).last.fill("moving right")
    page.get_by_role("button", name="Generate").last.click()
    expect(page.locator(".stage video").last).to_be_visible(timeout=2 * MINUTE)


@pytest.mark.browser
def test_a_video_is_extended(page: Page) -> None:
    page.get_by_label("Prompt", exact=True).first.fill("a red star moving left")
    page.get_by_role("button", name="Generate").first.click()
    page.get_by_role("button", name="Extend", exact=True).first.click(timeout=MINUTE)
    expect(page.get_by_role("tab", name="Image")).to_have_attribute("aria-selected", "true", timeout=MINUTE)
    expect(page.get_by_label("Prompt", exact=True).last).to_have_value("a red star moving left", timeout=MINUTE)
    page.get_by_role("button", name="Generate").last.click()
    plays(page, (33 + 32) / 16)


@pytest.mark.browser
def test_a_new_job_takes_the_stage_from_the_one_before(page: Page, client: Client) -> None:
    # somebody else's jobs keep the device busy for as long as this takes, on any machine
    others = [handed_in(client, num_inference_steps=LONG, seed=100 + i) for i in range(10)]
    page.get_by_role("button", name="Generate").first.click()
    expect(page.get_by_text("before yours").first).to_be_visible(timeout=MINUTE)
    page.wait_for_function("location.href.includes('job=')", timeout=MINUTE)
    first = page.url
    page.reload()
    expect(page.get_by_text("before yours").first).to_be_visible(timeout=MINUTE)
    page.get_by_role("button", name="Generate").first.click()
    page.wait_for_function("(first) => location.href !== first", arg=first, timeout=MINUTE)
    expect(page.get_by_text("before yours").first).to_be_visible(timeout=MINUTE)
    page.get_by_role("button", name="Cancel").first.click()
    expect(page.get_by_text("Stopped").first).to_be_visible(timeout=MINUTE)
    for job in others:
        client.predict(job, api_name="/cancel")
    page.goto(first)  # the one before was not touched
    expect(page.locator(".stage video").first).to_be_visible(timeout=2 * MINUTE)
