"""A world's recipe, stage after stage: `python -m vhs.tinyworld.build pixart [--start student]`.

Each stage runs in a process of its own and goes on from its last saved state, so that the same command finishes what
was interrupted. The first world's stages can share two cores instead: docs/tiny_world.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from vhs.tinyworld.worlds import SANA, WORLDS, World

COMMON = ("shape_detector", "color_classifier", "language_model", "clip_vision")
"""Stages of the first world that both use, shipped."""

PARTS = 8
"""Of the training candidates: a half of them is what the ablations take (configs/tiny_ablations)."""


def stages(world: World) -> list[list[str]]:
    """Each stage's module and arguments, in their order."""
    own = ["--world", world.name]
    first = [["latent_probe"], ["teacher"]] if world is SANA else []
    return [
        *([[name] for name in COMMON] if world is SANA else []),
        ["autoencoder", *own],
        ["text_encoder", *own],
        *first,
        ["student", *own],
        *(["candidates", *own, "--part", str(part), "--parts", str(PARTS)] for part in range(PARTS)),
        ["candidates", *own, "--held-out"],
        *(["verifier", *own, "--reads", feature] for feature in (f"hidden_{world.block}", "latent", "clip")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vhs.tinyworld.build", description=__doc__.splitlines()[0])
    parser.add_argument("world", choices=list(WORLDS))
    parser.add_argument("--start", default="", help="first stage to run (default: the first of all)")
    parser.add_argument("--stop", default="", help="stage not to run any more (default: none)")
    args = parser.parse_args()
    todo = stages(WORLDS[args.world])
    names = [stage[0] for stage in todo]
    for name in (args.start, args.stop):
        if name and name not in names:
            parser.error(f"{name}: no such stage; there are {', '.join(dict.fromkeys(names))}")
    end = names.index(args.stop) if args.stop else len(todo)
    for module, *arguments in todo[names.index(args.start) if args.start else 0 : end]:
        print(f"{module} {' '.join(arguments)}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"vhs.tinyworld.{module}", *arguments], check=False)
        if done.returncode:
            sys.exit(done.returncode)


if __name__ == "__main__":
    main()
