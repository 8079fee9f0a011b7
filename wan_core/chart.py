"""The benchmark's figures as a picture: one bar a way, as long as its share of the time that it is measured against."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

LINE, LEFT, SCALE, EDGE = 24, 230, 300, 104  # pixels: a row, its words, a ratio of 1, and room behind a bar
OURS, OTHERS, WORDS = "#2f7bd9", "#9aa3ad", "#1d2733"
STYLE = "font:13px system-ui,sans-serif"


def read(path: Path) -> list[dict[str, str]]:
    """The latest figures of every case and way, of the last row's machine and type, in a table of ``bench``."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    of = [{k: row[k] for k in ("machine", "type")} for row in rows]
    latest = {(row["case"], row["way"]): row for row, about in zip(rows, of, strict=True) if about == of[-1]}
    return sorted(latest.values(), key=lambda row: list(dict.fromkeys(r["case"] for r in rows)).index(row["case"]))


def draw(rows: Sequence[Mapping[str, str]]) -> str:
    """An SVG document.

    Args:
        rows: of ``bench``'s table, each with case, way, seconds, ratio and machine.
    """
    longest = max(float(row["ratio"]) for row in rows)
    width, parts, y, case = round(LEFT + SCALE * max(1.0, longest) + EDGE), [], LINE + 6, ""
    for row in rows:
        if row["case"] != case:
            case, y = row["case"], y + LINE
            parts.append(_text(12, y, case, "font-weight:600"))
        ratio = float(row["ratio"])
        colour = OURS if row["way"].startswith("ours") or row["way"] in ("fast", "scheduled", "image") else OTHERS
        parts += [
            _text(LEFT - 10, y, row["way"], "text-anchor:end"),
            f'<rect x="{LEFT}" y="{y - 13}" width="{SCALE * ratio:.0f}" height="17" rx="3" fill="{colour}"/>',
            _text(LEFT + SCALE * ratio + 8, y, f"{ratio:.2f}  ({float(row['seconds']):.2f} s)"),
        ]
        y += LINE
    about = ", ".join(dict.fromkeys(f"{row['machine']}, {row['type']}" for row in rows))
    title = _text(12, LINE, f"Time as a share of what it is measured against. {about}", "font-weight:600")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}" role="img">'
    card = f'<rect width="{width}" height="{y}" rx="8" fill="#f6f8fa"/>'
    one = f'<path d="M{LEFT + SCALE} {LINE + 12}V{y - 8}" stroke="{WORDS}" stroke-dasharray="3 4" opacity="0.5"/>'
    return "\n".join([head, card, one, title, *parts, "</svg>\n"])


def _text(x: float, y: float, words: str, style: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{WORDS}" style="{STYLE};{style}">{escape(words)}</text>'
