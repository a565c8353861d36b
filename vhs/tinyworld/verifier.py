"""Stage 10: block 7's statistics, then the verifier in two stages: connector alignment, then connector and LLM.

The configurations are `configs/tiny_ablations/shipped_align.yaml` and `configs/tiny_ablations/shipped.yaml`; the result
is copied to `ckpts/tiny/verifier_hidden_7`. Each stage goes on from its last saved state.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from vhs.config.yamlfile import load
from vhs.tinyworld import candidates, recipe
from vhs.training.commands import run_normalize, run_train
from vhs.training.config import TrainConfig
from vhs.training.data.tasks import NormalizeConfig

STAGE = "verifier"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vhs.tinyworld.verifier")
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    data = f"data={candidates.sets()}"
    statistics = NormalizeConfig(data=candidates.sets(), output=str(recipe.CKPTS / "normalization"))
    print(run_normalize(statistics, print).line())
    folder = f"output_path={recipe.WORK / STAGE}"
    init = None
    for stage in ("shipped_align", "shipped"):
        overrides = [data, folder, "cont=true", "eval_every=400", "save_every=400"] + ([f"init={init}"] if init else [])
        overrides += [] if recipe.has_bfloat16("cpu") else ["precision=float32"]
        config = load(TrainConfig, Path("configs/tiny_ablations") / f"{stage}.yaml", overrides)
        result = run_train(config, print)
        print(result.line())
        init = result.checkpoint
    shutil.copytree(init, recipe.CKPTS / "verifier_hidden_7", dirs_exist_ok=True)


if __name__ == "__main__":
    main()
