"""Train the built-in reference model: ``python -m assets.tiny.speaker.train STAGE --minutes M``.

Stages, in order: hearing, text, begin, vae, refine, latents, dit, export. ``begin`` takes over the
first model's VAE, which has seen the same backdrops; the rest is as for the first model, with
states in ``runs/speaker`` (or ``$WAN_TINY_RUNS``). ``restore`` makes such states from the released weights.
"""

from __future__ import annotations

import argparse
import logging
import os

import torch

STAGES = ("hearing", "text", "begin", "vae", "refine", "latents", "dit", "export", "restore")


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(prog="python -m assets.tiny.speaker.train", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.environ.setdefault("WAN_TINY_RUNS", "runs/speaker")  # read when the stages are imported
    from assets.tiny import train_text, train_vae
    from assets.tiny.speaker import hearing, stages

    if args.stage == "hearing":
        hearing.train(args.seed)
    elif args.stage == "text":
        train_text.train(args.seed, stages.TEXT_STEPS, stages.SPEECH)
    elif args.stage == "begin":
        stages.begin()
    elif args.stage == "vae":
        train_vae.train(args.minutes, args.device, args.seed, paint=stages.paint)
    elif args.stage == "refine":
        train_vae.refine(args.minutes, args.device, args.seed, stages.paint_hair, stages.HAIR_WEIGHT)
    elif args.stage == "restore":
        stages.restore()
    elif args.stage == "latents":
        stages.make_latents(args.seed)
    elif args.stage == "dit":
        stages.train(args.minutes, args.device, args.seed)
    else:
        stages.export()


if __name__ == "__main__":
    main()
