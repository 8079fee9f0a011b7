"""The strip of what a visitor made before, and how the page finds its way back after a reload.

The browser keeps two words: a token that only this browser knows, by which jobs are found again, and
the id of the last job. The id stands in the address too, so a job can be kept as a bookmark.
"""

from __future__ import annotations

import html

from wan_core.studio.jobs import Jobs
from wan_core.ui.stage import data_uri

SHOWN = 12  # videos on the strip

#: When the page opens: the job in the address or the last one, and the browser's token.
ARRIVE = """() => {
  let job = new URLSearchParams(location.search).get('job') || '', visitor = ''
  try {
    job = job || localStorage.getItem('wan-job') || ''
    visitor = localStorage.getItem('wan-visitor') || ''
    if (!visitor) {
      visitor = Array.from(crypto.getRandomValues(new Uint8Array(16)), b => b.toString(16).padStart(2, '0')).join('')
      localStorage.setItem('wan-visitor', visitor)
    }
  } catch { /* storage is forbidden in some frames: the page then forgets */ }
  return [job, visitor]
}"""

#: When a job begins: note it for the next time.
REMEMBER = """(job) => {
  if (!job) return
  const address = new URL(location)
  address.searchParams.set('job', job)
  history.replaceState(null, '', address)
  try { localStorage.setItem('wan-job', job) } catch { /* as above */ }
}"""


def strip(jobs: Jobs, visitor: str) -> str:
    """A visitor's last videos as links to their jobs.

    Args:
        jobs: all of them.
        visitor: the browser's token.
    """
    links = []
    for card in jobs.of(visitor)[:SHOWN]:
        poster = jobs.folder(card.id) / "poster.webp"
        prompt = html.escape(card.prompt, quote=True)
        if poster.exists():
            picture = data_uri(poster.read_bytes())
            links.append(f'<a href="?job={card.id}" title="{prompt}"><img src="{picture}" alt="{prompt}"></a>')
    return f'<nav class="history" aria-label="Your videos">{"".join(links)}</nav>' if links else ""
