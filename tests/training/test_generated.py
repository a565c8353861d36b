"""Features made beside the training are those that collecting stores: the loss curve is the same, bit for bit."""

import json
from pathlib import Path

import pytest
import torch

from tests.training.curves import curve
from vhs.config.yamlfile import load
from vhs.errors import ConfigError
from vhs.training.config import Generated, TrainConfig
from vhs.training.data.commands import run_collect
from vhs.training.data.generated import open_source
from vhs.training.data.store import CollectedSet
from vhs.training.data.tasks import CollectConfig

CONFIGS = Path(__file__).parents[2] / "configs" / "train"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict:
    """The tiny world's candidates of six prompts, stored, with captions and verdicts; and the overrides that name them.

    One candidate a pass: what a matrix product rounds to depends on how many rows it has."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "prompts.txt").write_text("".join(f"a photo of a {c} star\n" for c in ["red", "blue", "green", "pink"]))
    keys = [
        f"annotation={folder / 'prompts.txt'}", f"output={folder / 'set'}", "candidates=3", "micro_batch=1",
        "pictures=null", "require_records=false", "dtype=bfloat16",
    ]  # fmt: skip
    run_collect(load(CollectConfig, CONFIGS / "collect_tiny.yaml", keys), print)
    samples = [(prompt, candidate) for prompt in range(4) for candidate in range(3)]
    for name, values in (("captions", "caption"), ("labels", "correct")):
        rows = [
            {"prompt_id": p, "candidate": c, values: f"{['red', 'blue', 'green', 'pink'][p]} star" if c else "a ring"}
            if values == "caption" else {"prompt_id": p, "candidate": c, values: bool((p + c) % 2)}
            for p, c in samples
        ]  # fmt: skip
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "set" / f"{name}.jsonl").write_bytes((folder / f"{name}.jsonl").read_bytes())
    return {"folder": folder, "keys": keys}


def named(made: dict, **files: str) -> dict:
    return {"generate": str(CONFIGS / "collect_tiny.yaml"), "overrides": made["keys"], **files}


@pytest.mark.parametrize("stage", ["align", "finetune"])
def test_the_loss_curve_is_that_of_the_stored_set(made, tmp_path, stage):
    file = {"align": "captions", "finetune": "labels"}[stage]
    changes = [
        "batch_size=4", "micro_batch=2", "eval_fraction=0", "epochs=2", "precision=float32", f"output_path={tmp_path}",
        "init=ckpts/tiny/language_model",
        *(f"normalization_{m}_path=ckpts/tiny/normalization/block_7_{m}_bf16.pt" for m in ("mean", "variance")),
    ]  # fmt: skip
    stored = load(TrainConfig, CONFIGS / f"{stage}_tiny.yaml", [*changes, f"data=[{made['folder'] / 'set'}]"])
    beside = named(made, **{file: str(made["folder"] / f"{file}.jsonl")})
    generated = load(TrainConfig, CONFIGS / f"{stage}_tiny.yaml", [*changes, f"data={json.dumps(beside)}"])
    assert generated.data == [Generated(**beside)]
    losses = curve(generated)
    assert losses == curve(stored) and len(losses) == 6
    assert sum(losses[3:]) < sum(losses[:3]), "the second epoch's"


def test_several_prompts_go_through_the_network_together(made):
    data = open_source(Generated(**{**named(made), "overrides": [*made["keys"], "micro_batch=8"]}))
    passes = []
    data._generator.transformer.transformer_blocks[0].register_forward_hook(lambda m, i, out: passes.append(len(out)))
    found = data.gather("hidden_7", [0, 4, 8, 11])
    assert passes == [4] and found.dtype == torch.bfloat16
    kept = CollectedSet(made["folder"] / "set").gather("hidden_7", [0, 4, 8, 11])
    torch.testing.assert_close(found.float(), kept.float(), rtol=0.02, atol=0.02)
    assert data.fingerprint() == open_source(Generated(**named(made))).fingerprint(), "how fast it runs is not in it"


def test_mistakes_are_one_line(made):
    with pytest.raises(ConfigError, match="c.yaml:1: data: .*mappings with generate \\(texts generate, overrides"):
        load_text("data: {genrate: x}")
    with pytest.raises(ConfigError, match=r"no feature 'hidden_5'; there is hidden_7"):
        open_source(Generated(**named(made))).require("hidden_5")
    with pytest.raises(ConfigError, match="of 8 bits are not made beside a training; collect them"):
        open_source(Generated(**{**named(made), "overrides": [*made["keys"], "dtype=int8"]}))


def load_text(text: str) -> TrainConfig:
    from vhs.config.yamlfile import build

    key, _, value = text.partition(": ")
    import yaml

    values = {"stage": "align", "name": "a", "init": "x", key: yaml.safe_load(value)}
    return build(TrainConfig, values, {"data": "c.yaml:1"})
