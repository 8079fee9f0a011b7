"""One request to one file: frames go into the encoder as they are decoded."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from wan_core.studio.credentials import Signing
from wan_core.studio.media import VideoWriter, check_output
from wan_core.studio.recipe import recipe_of
from wan_core.studio.sync import SyncMeter
from wan_core.types import CancelCheck, Done, Event, Frames, Kept, Request, Rerouted, Started, never


class Runner(Protocol):
    """What a job needs of a pipeline."""

    def run(self, request: Request, cancelled: CancelCheck = never, kept: Kept | None = None) -> Iterator[Event]:
        """Make one video."""
        ...


def produce(
    pipe: Runner,
    request: Request,
    path: Path,
    cancelled: CancelCheck = never,
    kept: Kept | None = None,
    signing: Signing | None = None,
) -> Generator[Event, None, None]:
    """Make one video and write it.

    Args:
        pipe: a loaded pipeline.
        request: what to make.
        path: the mp4 to write; it exists when ``Done`` is yielded, and never half-written.
        cancelled: asked between steps and between decoded groups of frames.
        kept: finished latents of an earlier try.
        signing: who signs the video; None leaves it unsigned.

    Yields:
        Every event of the pipeline, frames after they were written; ``Done`` tells how well the
        picture follows the sound.

    Raises:
        WanError: bad input, cancellation, or no room for the file.
    """
    check_output(path)
    started: Started | None = None
    writer: VideoWriter | None = None
    meter: SyncMeter | None = None
    with ExitStack() as open_files:  # an error or a close in the middle discards the file
        for event in pipe.run(request, cancelled, kept):
            match event:
                case Started():
                    started = event
                    if event.sound is not None:
                        meter = SyncMeter(event.sound, event.settled.fps)
                case Rerouted(backend):
                    assert started is not None
                    started = replace(started, backend=backend)
                case Frames(pixels):
                    assert started is not None
                    if writer is None:
                        writer = open_files.enter_context(_writer(path, started, signing))
                    writer.write(pixels)
                    if meter is not None:
                        meter.add(pixels)
                case Done():
                    open_files.close()
                    if meter is not None:
                        event = replace(event, sync=meter.measure())
            yield event


def _writer(path: Path, started: Started, signing: Signing | None) -> VideoWriter:
    settled = started.settled
    recipe = recipe_of(started)
    return VideoWriter(path, settled.width, settled.height, settled.fps, recipe, started.sound, signing)
