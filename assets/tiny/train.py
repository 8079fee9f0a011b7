"""Train the built-in model: ``python -m assets.tiny.train STAGE --minutes M``.

Stages, in order: vae, narrow, text, latents, dit, export. Every stage keeps its state in ``runs/tiny`` (or
``$WAN_TINY_RUNS``) and goes on from it; ``--minutes`` counts all sessions of a stage together.
``restore`` makes such states from the released weights, to train on where nothing else is left;
``refine`` trains a finished VAE on, before latents are made anew; ``decoder`` trains its decoder alone, and
only ``export`` has to follow; ``adopt`` begins a transformer for a new VAE's latents from the trunk of the
released one.
"""

from __future__ import annotations

import argparse
import logging

import torch

STAGES = ("vae", "narrow", "refine", "decoder", "text", "latents", "dit", "export", "restore", "adopt")


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(prog="python -m assets.tiny.train", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    from assets.tiny import export, latents, train_decoder, train_dit, train_text, train_vae

    if args.stage == "vae":
        train_vae.train(args.minutes, args.device, args.seed)
    elif args.stage == "refine":
        train_vae.refine(args.minutes, args.device, args.seed)
    elif args.stage == "decoder":
        train_decoder.train(args.minutes, args.device, args.seed)
    elif args.stage == "narrow":
        train_vae.narrow(args.seed)
    elif args.stage == "text":
        train_text.train(args.seed)
    elif args.stage == "latents":
        latents.make_latents(args.seed)
    elif args.stage == "export":
        export.export()
    elif args.stage == "restore":
        export.restore()
    elif args.stage == "adopt":
        export.adopt()
    else:
        train_dit.train(args.minutes, args.device, args.seed)


if __name__ == "__main__":
    main()
