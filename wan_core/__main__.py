"""The command line: ``python -m wan_core text|image|reference "PROMPT" --out FILE.mp4``, and ``verify FILE``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from wan_core import BUILT_IN, CACHE, SPEAKER, Request, WanError
from wan_core.plan import GUIDANCE, SAMPLERS, TIERS
from wan_core.specs import ATTENTION
from wan_core.types import Done, Progress

WIDTH = 32


def parser() -> argparse.ArgumentParser:
    """The options; names are diffusers' own where it has one."""
    top = argparse.ArgumentParser(prog="python -m wan_core", description="Make a video with a Wan model.")
    modes = top.add_subparsers(dest="mode", required=True)
    for mode, what in (
        ("text", "from a prompt"),
        ("image", "from a first frame and a prompt"),
        ("reference", "of someone in a picture, speaking with a voice"),
    ):
        sub = modes.add_parser(mode, help=f"make a video {what}")
        sub.add_argument("prompt", help="what to show")
        if mode == "image":
            first = sub.add_mutually_exclusive_group(required=True)
            first.add_argument("--image", metavar="FILE", help="the first frame")
            first.add_argument("--extends", metavar="FILE.mp4", help="a video to go on from; it stands in front")
            sub.add_argument("--last-image", metavar="FILE", help="the last frame, for models that take one")
            sub.add_argument("--image-fit", choices=("crop", "pad"), default="crop")
            sub.add_argument("--focal-point", type=float, nargs=2, metavar=("X", "Y"), default=(0.5, 0.5))
        if mode == "reference":
            who = "who or what the video shows; up to three times"
            sub.add_argument("--image", action="append", default=[], dest="reference_images", metavar="FILE", help=who)
            sub.add_argument("--audio", metavar="FILE", help="what is said; the video lasts as long")
            sub.add_argument("--video", metavar="FILE", help="what is followed or changed, for models that take it")
            sub.add_argument("--mask", metavar="FILE", help="where that is changed: white; a video or a picture")
            sub.add_argument("--image-fit", choices=("crop", "pad"), default="crop")
            sub.add_argument("--conditioning", dest="conditioning_scale", type=float, metavar="S")
            sub.add_argument("--audio-guidance", dest="audio_guidance_scale", type=float, metavar="G")
            sub.add_argument("--image-guidance", dest="image_guidance_scale", type=float, metavar="G")
        own = SPEAKER if mode == "reference" else BUILT_IN
        sub.add_argument("--model", default=str(own), metavar="DIR_OR_REPO", help="default: the built-in model")
        sub.add_argument("--lora", default="", metavar="FILE[:STRENGTH][@high|@low]", help="several with commas")
        sub.add_argument("--negative-prompt", metavar="TEXT")
        sub.add_argument("--width", type=int, metavar="W")
        sub.add_argument("--height", type=int, metavar="H")
        sub.add_argument("--frames", dest="num_frames", type=int, metavar="N", help="4n+1")
        sub.add_argument("--seconds", dest="duration_seconds", type=float, metavar="S")
        sub.add_argument("--steps", dest="num_inference_steps", type=int, metavar="N")
        sub.add_argument("--guidance", dest="guidance_scale", type=float, metavar="G")
        sub.add_argument("--guidance-2", dest="guidance_scale_2", type=float, metavar="G")
        sub.add_argument("--guidance-method", choices=GUIDANCE, help="zero_star: CFG-Zero*")
        sub.add_argument("--guidance-start", type=float, metavar="SHARE", help="of the steps, 0 to 1")
        sub.add_argument("--guidance-stop", type=float, metavar="SHARE")
        sub.add_argument("--shift", dest="flow_shift", type=float, metavar="S")
        sub.add_argument("--sampler", choices=SAMPLERS)
        skips = "fast leaves out steps that would change little, scheduled fixed ones"
        sub.add_argument("--tier", choices=TIERS, help=skips)
        sub.add_argument("--seed", type=int, metavar="N")
        sub.add_argument("--compile", action="store_true", help="compile first: worth it for a large model")
        ahead = "blocks that python -m wan_core.artifact compiled"
        sub.add_argument("--artifacts", type=Path, metavar="DIR", help=ahead)
        sub.add_argument("--attention", default="", choices=ATTENTION, help="on a GPU; default: torch's own choice")
        kept = "keeps embedded prompts and heard voices"
        sub.add_argument("--cache", type=Path, metavar="DIR", default=os.environ.get("WAN_CACHE") or CACHE, help=kept)
        sub.add_argument("--out", required=True, type=Path, metavar="FILE.mp4")
    check = modes.add_parser("verify", help="tell what a video says about its own making")
    check.add_argument("file", type=Path, metavar="FILE.mp4")
    return top


def bar(progress: Progress, out: Path) -> None:
    """Redraw the progress bar on the terminal's last line."""
    share, filled = progress.share, round(WIDTH * progress.share)
    text = f"{progress.phase} {progress.step}/{progress.of}"
    sys.stderr.write(f"\r{'█' * filled}{'·' * (WIDTH - filled)} {100 * share:3.0f} %  {text:<18} {out.name}")
    sys.stderr.flush()


def tell(file: Path) -> int:
    """Print what a video says about itself, as JSON."""
    from wan_core.studio.provenance import verify

    try:
        said = verify(file)
    except WanError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(said), indent=2, ensure_ascii=False) + "\n")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 when the file stands, 1 for an error that is the user's to mend."""
    options = vars(parser().parse_args(argv))
    if options["mode"] == "verify":
        return tell(options["file"])
    out, model, cache, loras = (options.pop(name) for name in ("out", "model", "cache", "lora"))
    compiled, attention, ahead = (options.pop(name) for name in ("compile", "attention", "artifacts"))
    options.pop("mode")
    options |= {k: tuple(options[k]) for k in ("focal_point", "reference_images") if k in options}
    try:
        from wan_core.assembly import attend, load
        from wan_core.studio.credentials import configured
        from wan_core.studio.media import check_output
        from wan_core.studio.produce import produce

        check_output(out)
        request, done = Request(**options), None
        signing = configured(os.environ)
        attend(attention)
        pipe = load(model, cache=cache, loras=loras, compiled=ahead or compiled)
        for event in produce(pipe, request, out, signing=signing):
            if isinstance(event, Progress):
                bar(event, out)
            elif isinstance(event, Done):
                done = event
    except WanError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; nothing was written\n")
        return 130
    if done is not None:
        sync = f", {done.sync}" if done.sync else ""
        read = f", read as: {done.settled.read_as}" if done.settled.read_as else ""
        sys.stderr.write(f"\n{out}: seed {done.settled.seed}, {done.seconds:.1f} s{sync}{read}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
