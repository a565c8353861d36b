"""The verifiers, each in two stages: connector alignment, then connector and LLM.

    python -m vhs.tinyworld.verifier                        # the first world's, of block 7
    python -m vhs.tinyworld.verifier --reads clip           # of CLIP features of the picture; `latent`: of the latent
    python -m vhs.tinyworld.verifier --world pixart --reads hidden_5

The configurations are `configs/tiny_ablations/shipped_align.yaml` and `configs/tiny_ablations/shipped.yaml`, under
further `key=value`; the result is copied to `ckpts/tiny/`. Each stage goes on from its last saved state.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from vhs.config.yamlfile import load
from vhs.tinyworld import candidates, recipe
from vhs.tinyworld.worlds import SANA, WORLDS, World
from vhs.training.commands import run_train
from vhs.training.config import TrainConfig
from vhs.training.data.commands import run_normalize
from vhs.training.data.normalization import statistics_paths
from vhs.training.data.tasks import NormalizeConfig
from vhs.verifiers.feature_names import blocks_in

STAGE = "verifier"


def measured(world: World) -> Path:
    """Where the hidden states' statistics are written, from where those of a shipped verifier are copied."""
    return recipe.WORK / world.stage(STAGE) / "normalization"


def changes(world: World, feature: str) -> list[str]:
    """What differs from the two configurations, which are the first world's for block 7."""
    mean = variance = folder = "null"
    if len(blocks_in(feature)) > 1:
        folder = str(measured(world))
    elif blocks_in(feature):
        mean, variance = map(str, statistics_paths(measured(world), feature))
    keys = [
        f"data={candidates.sets(world)}", f"output_path={recipe.WORK / world.stage(STAGE)}", f"feature={feature}",
        f"normalization_mean_path={mean}", f"normalization_variance_path={variance}", f"normalization={folder}",
        "cont=true", "eval_every=400", "save_every=400",
    ]  # fmt: skip
    if feature == "clip":
        keys.append(f"vision_tower={candidates.CLIP}")
    return keys


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vhs.tinyworld.verifier")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--world", choices=list(WORLDS), default=SANA.name, help="default: %(default)s")
    parser.add_argument("--reads", help="hidden_<block>, hidden_5+7, latent or clip (default: the world's block)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="further keys of both trainings")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    world = WORLDS[args.world]
    feature = args.reads or f"hidden_{world.block}"
    if blocks_in(feature):
        data = candidates.sets(world)
        statistics = NormalizeConfig(data=data, output=str(measured(world)), feature=feature)
        print(run_normalize(statistics, print).line())
    init = None
    for stage in ("shipped_align", "shipped"):
        keys = [f"name={feature}_{stage}", *changes(world, feature), *args.overrides]
        keys += [f"init={init}"] if init else []
        result = run_train(load(TrainConfig, Path("configs/tiny_ablations") / f"{stage}.yaml", keys), print)
        print(result.line())
        init = result.checkpoint
    shutil.copytree(init, world.verifier(feature), dirs_exist_ok=True)
    for block in blocks_in(feature):
        for file in statistics_paths(measured(world), f"hidden_{block}"):
            shutil.copy(file, world.statistics / file.name)


if __name__ == "__main__":
    recipe.command(main)
