"""Picking a model: on the page, by a recipe's name, and one that turns out to be damaged."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, expect

from tests.app.conftest import plays, quiet, served
from tests.core import test_pipeline as checkpoints
from tests.core import test_vace

MINUTE = 60_000
pytestmark = pytest.mark.browser


def small(peer: Any, folder: Path, steps: int) -> str:
    peer.save_pretrained(folder)
    recipe = {"recipe": {"size": [64, 32], "steps": steps, "frames": 9}}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return str(folder)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The built-in models, three to pick, of which one is damaged, and one that is not there."""
    folder = tmp_path_factory.mktemp("models")
    models = [
        small(test_vace.checkpoint(), folder / "vace", 2), small(checkpoints.checkpoint("t2v"), folder / "t2v", 3),
        small(checkpoints.checkpoint("ti2v"), folder / "ti2v", 2), str(folder / "nothing"),
    ]  # fmt: skip
    shard = folder / "ti2v" / "transformer" / "diffusion_pytorch_model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-500])
    with served(folder, WAN_MODELS=",".join(models), WAN_DTYPE="float32") as address:
        yield address
        assert "nothing: there is no such folder; it cannot be picked" in (folder / "log.txt").read_text()


def test_a_picked_model_has_a_page_with_its_own_recipe(app: str, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 1400})
    page = context.new_page()
    with closing(context), quiet(page):
        page.goto(app)
        picker = page.locator("details.models:visible")
        expect(picker).to_contain_text("Model: built-in", timeout=MINUTE)
        picker.locator("summary").click()
        expect(picker.get_by_role("listitem")).to_have_count(4)
        expect(picker).to_contain_text("15.7 GB · Apache-2.0")
        picker.get_by_role("link", name="wan2.1-vace-1.3b").click()
        expect(page).to_have_url(f"{app}/wan2.1-vace-1.3b?tab=text", timeout=MINUTE)
        expect(page.locator("details.models:visible")).to_contain_text("Model: wan2.1-vace-1.3b", timeout=MINUTE)
        expect(page.get_by_text("64x32").locator("visible=true").first).to_be_visible(timeout=MINUTE)
        page.locator("button.make:visible").click()
        plays(page, 9 / 16, size=(64, 32))
        expect(page.locator("#head .badge")).to_contain_text("wan2.1-vace-1.3b", timeout=MINUTE)
        page.locator("details.models:visible summary").click()
        page.locator("details.models:visible").get_by_role("link", name="built-in", exact=True).click()
        expect(page.get_by_text("128x128").locator("visible=true").first).to_be_visible(timeout=MINUTE)
        page.locator("button.make:visible").click()
        plays(page, 33 / 16)


def test_a_tab_that_the_picked_model_lacks_is_served_as_before(app: str, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    with closing(context), quiet(page):
        page.goto(f"{app}/wan2.1-t2v-1.3b?tab=image")
        expect(page.get_by_text("does not serve this tab").locator("visible=true")).to_contain_text(
            "wan2.1-t2v-1.3b", timeout=MINUTE
        )


def made(client: Client, recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a video that was asked for by a recipe."""
    job = client.predict(recipe={"prompt": "a red star", "seed": 3} | recipe, api_name="/submit")
    deadline = time.monotonic() + 120
    while client.predict(job=job, api_name="/status")["phase"] not in ("done", "failed"):
        assert time.monotonic() < deadline
    return client.predict(job=job, api_name="/result")[1]


def test_a_recipe_names_its_model(app: str) -> None:
    client = Client(app, verbose=False, analytics_enabled=False)
    other = made(client, {"model": "wan2.1-t2v-1.3b"})
    assert (other["model"], other["num_inference_steps"], other["width"]) == ("wan2.1-t2v-1.3b", 3, 64)
    usual = made(client, {"num_inference_steps": 1, "num_frames": 5})
    assert usual["model"] == "built-in"
    assert usual["width"] == 128
    assert made(client, other) == other
    with pytest.raises(AppError, match="is not what is loaded for this"):
        made(client, {"model": "wan3"})


def test_a_damaged_model_says_so_and_the_others_go_on(app: str) -> None:
    client = Client(app, verbose=False, analytics_enabled=False)
    for _ in range(2):
        with pytest.raises(AppError, match="damaged or cut short"):
            made(client, {"model": "wan2.2-ti2v-5b"})
        assert made(client, {"num_inference_steps": 1, "num_frames": 5})["width"] == 128
