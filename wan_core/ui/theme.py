"""Gradio's base theme in the page's own colours; the rest of the look is ``assets/style.css``."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

STYLE = Path(__file__).resolve().parents[2] / "assets" / "style.css"


def theme() -> gr.themes.Base:
    """Paper and ink, one accent, one sans face from the visitor's own system."""
    sans = ["system-ui", "Segoe UI", "Noto Sans", "Noto Sans CJK JP", "sans-serif"]
    ground, card, ink, quiet, line = "#f7f6f2", "#ffffff", "#1d2126", "#5f646c", "#e4e2da"
    dark_ground, dark_card, dark_ink, dark_quiet, dark_line = "#0f1114", "#171a1f", "#eceae4", "#9aa0a8", "#2a2e35"
    return gr.themes.Base(font=sans, font_mono=["ui-monospace", "monospace"]).set(
        body_background_fill=ground, body_background_fill_dark=dark_ground,
        body_text_color=ink, body_text_color_dark=dark_ink,
        body_text_color_subdued=quiet, body_text_color_subdued_dark=dark_quiet,
        background_fill_primary=card, background_fill_primary_dark=dark_card,
        background_fill_secondary=ground, background_fill_secondary_dark=dark_ground,
        block_background_fill=card, block_background_fill_dark=dark_card,
        block_label_text_color=quiet, block_label_text_color_dark=dark_quiet,
        block_title_text_color=quiet, block_title_text_color_dark=dark_quiet,
        block_title_text_weight="400", block_label_text_weight="400",
        border_color_primary=line, border_color_primary_dark=dark_line,
        input_background_fill=ground, input_background_fill_dark=dark_ground,
        input_border_color=line, input_border_color_dark=dark_line,
        slider_color=ink, slider_color_dark=dark_ink,
        checkbox_label_background_fill=card, checkbox_label_background_fill_dark=dark_card,
        checkbox_label_background_fill_selected=ink, checkbox_label_background_fill_selected_dark=dark_ink,
        checkbox_label_text_color_selected=card, checkbox_label_text_color_selected_dark=dark_ground,
        color_accent_soft="#efede6", color_accent_soft_dark="#23272e",
        link_text_color=ink, link_text_color_dark=dark_ink,
    )  # fmt: skip
