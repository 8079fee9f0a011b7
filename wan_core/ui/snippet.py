"""The current settings as code: what a program would say to get the same video."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from wan_core.ui.inputs import PICTURES

KINDS = ("Python", "JavaScript", "curl", "Link")
FILES = ("image", "last_image", "extends", "audio", "video", "mask", "reference_images")


def snippet(kind: str, address: str, mode: str, fields: Mapping[str, Any]) -> str:
    """Write the code.

    Args:
        kind: one of ``KINDS``.
        address: of the running page.
        mode: the tab's.
        fields: what differs from the defaults, files as paths.
    """
    given = {k: v for k, v in fields.items() if v is not None and k not in PICTURES}
    if pictures := [fields[name] for name in PICTURES if fields.get(name)]:
        given["reference_images"] = pictures
    write = {"Python": _python, "JavaScript": _javascript, "curl": _curl, "Link": _link}[kind]
    return write(address.rstrip("/"), f"{mode}_to_video", given)


def _python(address: str, endpoint: str, given: dict[str, Any]) -> str:
    files = any(name in given for name in FILES)
    said = [f"    {name}={_of_file(name, value, repr)}," for name, value in given.items()]
    return "\n".join([
        f"from gradio_client import Client{', handle_file' if files else ''}", "", f'client = Client("{address}")',
        "video, recipe, job = client.predict(", *said, f'    api_name="/{endpoint}",', ")",
    ])  # fmt: skip


def _javascript(address: str, endpoint: str, given: dict[str, Any]) -> str:
    files = any(name in given for name in FILES)
    said = [f"  {name}: {_of_file(name, value, _json)}," for name, value in given.items()]
    return "\n".join([
        f'import {{ Client{", handle_file" if files else ""} }} from "@gradio/client"', "",
        f'const client = await Client.connect("{address}")',
        f'const {{ data: [video, recipe, job] }} = await client.predict("/{endpoint}", {{', *said, "})",
    ])  # fmt: skip


def _of_file(name: str, value: Any, write: Any) -> str:
    if name not in FILES:
        return write(value)
    if isinstance(value, list):
        return "[" + ", ".join(_of_file(name, one, write) for one in value) + "]"
    return f"handle_file({write(Path(value).name)})"


def _curl(address: str, endpoint: str, given: dict[str, Any]) -> str:
    """Files are uploaded first; where each then lies stands in the answer."""
    lines, body = [], {}
    for name, value in given.items():
        if name not in FILES:
            body[name] = value
            continue
        several = isinstance(value, list)
        for path in value if several else [value]:
            lines.append(f"curl -s {address}/gradio_api/upload -F files=@{_quoted(Path(path).name)}")
        file = {"path": "WHAT THE UPLOAD ANSWERED", "meta": {"_type": "gradio.FileData"}}
        body[name] = [file] * len(value) if several else file
    lines.append(
        f"curl -s {address}/gradio_api/call/v2/{endpoint} -H 'content-type: application/json' -d {_quoted(_json(body))}"
    )
    lines.append(f"curl -sN {address}/gradio_api/call/{endpoint}/EVENT_ID")
    return "\n".join(lines)


def _link(address: str, endpoint: str, given: dict[str, Any]) -> str:
    """An address that opens the page with these settings; files cannot be in it."""
    recipe = {"mode": endpoint.removesuffix("_to_video")} | {k: v for k, v in given.items() if k not in FILES}
    if focal := [recipe.pop(name, 0.5) for name in ("focal_x", "focal_y")]:
        recipe |= {"focal_point": focal} if focal != [0.5, 0.5] else {}
    return f"{address}/?{urlencode({'recipe': _json(recipe)})}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
