"""The code that the page offers is code, and says what the settings say."""

from __future__ import annotations

import ast
import json
import shlex
from urllib.parse import parse_qs, urlparse

import pytest

from wan_core.ui.snippet import KINDS, snippet

FIELDS = {"prompt": 'it\'s a "red" ball\n赤い', "seed": 3, "image": "/tmp/x/my photo.png", "width": None}


def test_python_parses_and_calls_the_endpoint() -> None:
    code = snippet("Python", "http://here:1/", "image", FIELDS)
    call = next(
        n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call) and ast.unparse(n.func) == "client.predict"
    )
    said = {k.arg: ast.unparse(k.value) for k in call.keywords}
    assert ast.literal_eval(said["prompt"]) == FIELDS["prompt"]
    assert said["image"] == "handle_file('my photo.png')"
    assert (said["seed"], ast.literal_eval(said["api_name"])) == ("3", "/image_to_video")
    assert "width" not in said


def test_curl_uploads_first_and_sends_json() -> None:
    upload, call, listen = snippet("curl", "http://here:1", "image", FIELDS).split("\ncurl")
    assert shlex.split(upload)[-1] == "files=@my photo.png"
    body = json.loads(shlex.split(call)[-1])
    assert body["prompt"] == FIELDS["prompt"]
    assert body["image"]["meta"] == {"_type": "gradio.FileData"}
    assert "image_to_video/EVENT_ID" in listen


def test_a_link_holds_the_recipe_without_files() -> None:
    link = urlparse(snippet("Link", "http://here:1", "image", FIELDS | {"focal_x": 0.25}))
    recipe = json.loads(parse_qs(link.query)["recipe"][0])
    assert recipe == {"mode": "image", "prompt": FIELDS["prompt"], "seed": 3, "focal_point": [0.25, 0.5]}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "Link"])
def test_reference_pictures_are_one_list(kind: str) -> None:
    fields = {"prompt": "a", "reference": "/x/a.png", "reference_2": "/x/b.png", "audio": "/x/c.wav"}
    code = snippet(kind, "http://here:1", "reference", fields)
    assert "reference_images" in code
    assert "reference_2" not in code
    assert all(name in code for name in ("a.png", "b.png", "c.wav"))
