"""Plain HTTP calls leave nothing behind in Gradio's memory."""

from __future__ import annotations

import time

import gradio as gr
import httpx

from wan_core.ui.sessions import forgetful

CALLS = 20


def test_a_plain_call_leaves_no_session() -> None:
    with gr.Blocks() as page:
        word = gr.Textbox()
        word.submit(lambda said: said.upper(), word, word, api_name="loud")
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, app_kwargs={"middleware": forgetful()})
    try:
        with httpx.Client(base_url=f"{address}gradio_api", timeout=30) as http:
            for number in range(CALLS):
                event = http.post("/call/loud", json={"data": [f"a{number}"]}).json()["event_id"]
                assert f"A{number}" in http.get(f"/call/loud/{event}").text
            deadline = time.monotonic() + 30
            while page.state_holder.session_data:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            # a page's own session stays: it is come back to
            http.post("/run/loud", json={"data": ["b"], "session_hash": "mine"})
            assert list(page.state_holder.session_data) == ["mine"]
    finally:
        page.close()
