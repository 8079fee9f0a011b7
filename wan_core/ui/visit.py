"""One visit: how the page finds its way back after a reload, and the strip of what was made before.

The browser keeps two words: a token that only this browser knows, by which jobs are found again, and
the id of the last job. The id stands in the address too, so a job can be kept as a bookmark.
"""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from wan_core.studio.ledger import Ledger
from wan_core.ui.desk import Desk
from wan_core.ui.handlers import worded
from wan_core.ui.stage import data_uri
from wan_core.ui.words import language_of, say

MODES = ("text", "image", "reference")  # the tabs
SHOWN = 12  # videos on the strip

#: When the page opens: the job in the address or the last one, the browser's token, and the tab in
#: the address, ``?tab=image``. ``?view=embed`` leaves out the head and the foot.
ARRIVE = """() => {
  const asked = new URLSearchParams(location.search)
  document.body.classList.toggle('embed', asked.get('view') === 'embed')
  const tab = asked.get('tab') || ''
  let job = asked.get('job') || '', visitor = ''
  try {
    job = job || (tab ? '' : localStorage.getItem('wan-job')) || ''
    visitor = localStorage.getItem('wan-visitor') || ''
    if (!visitor) {
      visitor = Array.from(crypto.getRandomValues(new Uint8Array(16)), b => b.toString(16).padStart(2, '0')).join('')
      localStorage.setItem('wan-visitor', visitor)
    }
  } catch { /* storage is forbidden in some frames: the page then forgets */ }
  document.addEventListener('click', (event) => {
    const link = event.target.closest('.history a')
    if (!link) return
    event.preventDefault()
    const there = new URL(location)
    there.searchParams.delete('tab')
    there.searchParams.set('job', new URL(link.href).searchParams.get('job'))
    location.assign(there)
  })
  return [job, visitor, tab]
}"""

#: When a job begins: note it for the next time.
REMEMBER = """(job) => {
  if (!job) return
  const address = new URL(location)
  address.searchParams.delete('tab')
  address.searchParams.set('job', job)
  history.replaceState(null, '', address)
  try { localStorage.setItem('wan-job', job) } catch { /* as above */ }
}"""


def strip(ledger: Ledger, visitor: str, language: str) -> str:
    """A visitor's last videos as links to their jobs.

    Args:
        ledger: of all jobs.
        visitor: the browser's token.
        language: of the strip's name.
    """
    links = []
    for card in ledger.of(visitor, SHOWN):
        poster = ledger.jobs.root / card.id / "poster.webp"
        prompt = html.escape(card.prompt, quote=True)
        if poster.exists():
            picture = data_uri(poster.read_bytes())
            links.append(f'<a href="?job={card.id}" title="{prompt}"><img src="{picture}" alt="{prompt}"></a>')
    return f'<nav class="history" aria-label="{say(language, "Your videos")}">{"".join(links)}</nav>' if links else ""


class Visit:
    """What the page knows of its visitor: a token, the job to come back to, the strip of videos."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.token = gr.Textbox(visible="hidden", label="visitor")
        self.asked = gr.Textbox(visible="hidden", label="job")
        self.tab = gr.Textbox(visible="hidden", label="tab")
        self.strip = gr.HTML(render=False)
        self.returns: list[tuple[Any, list[Any]]] = []  # a handler and outputs per tab
        self.onward: list[tuple[gr.Button, gr.Textbox]] = []  # buttons and the jobs that they go on from
        self.first_frame: gr.Image | None = None  # the Image tab's
        self.prices: list[tuple[Any, list[Any], Any]] = []  # a handler, inputs and the plan's line

    def arrive(self, page: gr.Blocks, tabs: gr.Tabs) -> None:
        """When the page opens, go back to where the visitor was."""
        self.strip.render()
        here = page.load(None, None, [self.asked, self.token, self.tab], js=ARRIVE, api_visibility="private")
        here.then(self._place, [self.asked, self.tab], tabs, show_progress="hidden", api_visibility="private")
        self.recall(here)
        for handler, outputs in self.returns:
            shown = here.then(handler, self.asked, outputs, show_progress="hidden", api_visibility="private")
            self.recall(shown)
        for priced in self.prices:
            here.then(*priced, show_progress="hidden", api_visibility="private")
        if self.first_frame is not None:
            for button, job in self.onward:
                button.click(
                    self._go_on, job, [tabs, self.first_frame], show_progress="hidden", api_visibility="private"
                )

    async def _go_on(self, job: str) -> tuple[gr.Tabs, str]:
        return gr.Tabs(selected="image"), str(await worded(self.desk.hand_out(job, "last.png")))

    def recall(self, event: Any) -> None:
        """After an event, show the strip anew."""
        event.then(self._strip, self.token, self.strip, show_progress="hidden", api_visibility="private")

    async def _strip(self, token: str, request: gr.Request) -> str:
        return await self.desk.aside(strip, self.desk.ledger, token, language_of(request))

    async def _place(self, job: str, tab: str) -> Any:
        card = await self.desk.card(job)
        place = tab if card is None else card.mode
        return gr.Tabs(selected=place) if place in MODES else gr.skip()
