"""One visit: how the page finds its way back after a reload, and the strip of what was made before.

The browser keeps two words: a token that only this browser knows, by which jobs are found again, and
the id of the last job. The id stands in the address too, so a job can be kept as a bookmark.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import gradio as gr

from wan_core.studio.ledger import Ledger
from wan_core.studio.recipe import recipe_in_address
from wan_core.ui import stage
from wan_core.ui.desk import Desk
from wan_core.ui.handlers import worded
from wan_core.ui.words import language_of, say

MODES = ("text", "image", "reference")  # the tabs
SHOWN = 12  # videos on the strip
#: The tabs of what takes a last frame or a video, and what is emptied for it.
WHERE = {"image": "image", "extends": "image", "reference": "reference"}
INSTEAD = {"image": ("extends",), "extends": ("image",)}

#: When the page opens: the job in the address or the last one, the browser's token, and the tab in
#: the address, ``?tab=image``, and the recipe in it, ``?recipe={...}``, whose values the tab then has.
#: ``?view=embed`` leaves out the head and the foot.
ARRIVE = """() => {
  const asked = new URLSearchParams(location.search)
  document.body.classList.toggle('embed', asked.get('view') === 'embed')
  const tab = asked.get('tab') || '', recipe = asked.get('recipe') || ''
  let job = asked.get('job') || '', visitor = ''
  try {
    job = job || (tab || recipe ? '' : localStorage.getItem('wan-job')) || ''
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
    for (const name of ['tab', 'recipe']) there.searchParams.delete(name)
    there.searchParams.set('job', new URL(link.href).searchParams.get('job'))
    location.assign(there)
  })
  return [job, visitor, tab, recipe]
}"""

#: When a job begins: note it for the next time.
REMEMBER = """(job) => {
  if (!job) return
  const address = new URL(location)
  for (const name of ['tab', 'recipe']) address.searchParams.delete(name)
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
            picture = stage.data_uri(poster.read_bytes())
            links.append(f'<a href="?job={card.id}" title="{prompt}"><img src="{picture}" alt="{prompt}"></a>')
    return f'<nav class="history" aria-label="{say(language, "Your videos")}">{"".join(links)}</nav>' if links else ""


class Visit:
    """What the page knows of its visitor: a token, the job to come back to, the strip of videos."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.token = gr.Textbox(visible="hidden", label="visitor")
        self.asked = gr.Textbox(visible="hidden", label="job")
        self.tab = gr.Textbox(visible="hidden", label="tab")
        self.recipe = gr.Textbox(visible="hidden", label="recipe")
        self.strip = gr.HTML(render=False)
        self.lines: list[tuple[gr.HTML, Callable[[str], str]]] = []  # markup that waits for the visitor's language
        self.stages: list[tuple[str, gr.HTML]] = []  # every tab's
        self.returns: list[tuple[Any, list[Any]]] = []  # a handler and outputs per tab
        self.onward: list[tuple[gr.Button, gr.Textbox, str]] = []  # buttons, the jobs they go on from, and where to
        self.takers: dict[str, tuple[Any, Any]] = {}  # what takes a last frame or a video, and its tab's prompt
        self.fills: list[tuple[Any, list[Any]]] = []  # a handler of the recipe in the address, and a tab's inputs
        self.prices: list[tuple[Any, list[Any], Any]] = []  # a handler, inputs and the plan's line

    def arrive(self, page: gr.Blocks, tabs: gr.Tabs) -> None:
        """When the page opens, go back to where the visitor was.

        Gradio's page spends time on every question and on every output that has been asked for so far,
        so what most visitors need is one question, and a job or a recipe is asked for where there is one.
        """
        self.strip.render()
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        address = [self.asked, self.token, self.tab, self.recipe]
        here = page.load(None, None, address, js=ARRIVE, api_visibility="private")
        words = [line for line, _ in self.lines] + [view for _, view in self.stages]
        here.then(self._greet, address, [tabs, self.strip, *words], **quiet)
        for fill, inputs in self.fills:
            self.recipe.change(fill, self.recipe, inputs, **quiet)
        for handler, outputs in self.returns:
            self.recall(self.asked.change(handler, self.asked, outputs, **quiet))
        for priced in self.prices:
            here.then(*priced, **quiet)
        for button, job, taker in self.onward:
            if taker in self.takers:
                into, prompt = self.takers[taker]
                other = [self.takers[name][0] for name in INSTEAD.get(taker, ())]
                button.click(self._to(taker), [job, prompt], [tabs, into, prompt, *other], **quiet)

    def _to(self, taker: str) -> Callable[..., Any]:
        """Take a finished video, or its last frame, and its prompt where there is none yet."""

        async def go_on(job: str, prompt: str, request: gr.Request) -> tuple[Any, ...]:
            path = await worded(self.desk.hand_out(job, "video.mp4" if taker == "extends" else "last.png"), request)
            card = await self.desk.card(job)
            words = gr.skip() if prompt or card is None or taker == "reference" else card.prompt
            return gr.Tabs(selected=WHERE[taker]), str(path), words, *(None for _ in INSTEAD.get(taker, ()))

        return go_on

    def recall(self, event: Any) -> None:
        """After an event, show the strip anew."""
        event.then(self._strip, self.token, self.strip, show_progress="hidden", api_visibility="private")

    async def _strip(self, token: str, request: gr.Request) -> str:
        return await self.desk.aside(strip, self.desk.ledger, token, language_of(request))

    async def _greet(self, job: str, token: str, tab: str, recipe: str, request: gr.Request) -> list[Any]:
        """The tab to open, the strip, and words in the visitor's language; a stage that shows a job is left alone."""
        card, language = await self.desk.card(job), language_of(request)
        place = (tab or recipe_in_address(recipe).get("mode", "")) if card is None else card.mode
        opened = gr.Tabs(selected=place) if place in MODES else gr.skip()
        lines = [words(language) for _, words in self.lines]
        shows = None if card is None else card.mode
        stages = [gr.skip() if mode == shows else stage.empty(language) for mode, _ in self.stages]
        return [opened, await self._strip(token, request), *lines, *stages]
