"""`generator: diffusers` in a whole run: the tiny world's trained models, and pipelines of other families."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.generators.pipelines import save
from vhs import BestOfN
from vhs.config.run import load_config
from vhs.errors import ConfigError
from vhs.resolve import resolve_models
from vhs.seeding import candidate_seed
from vhs.tinyworld import teacher_pipeline
from vhs.training.data.commands import run_collect
from vhs.training.data.store import CollectedSet
from vhs.training.data.tasks import CollectConfig

TINY = "configs/tiny.yaml"
PROMPT = "a photo of a red circle and a blue star"


def refusal(**keys: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve_models(load_config(TINY, {"generator": "diffusers", **keys}))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_tiny_world_gives_the_same_winners_by_either_generator() -> None:
    results = [
        BestOfN.from_config(TINY, {"num_samples": 4, "generator": generator})(PROMPT)
        for generator in ("Sana-Sprint", "diffusers")
    ]
    assert results[0].scores == results[1].scores and results[0].best_index == results[1].best_index
    assert np.array_equal(*(np.asarray(result.image) for result in results))


@pytest.mark.parametrize("generator", ["Sana-Sprint", "diffusers"])
def test_an_exit_before_the_last_step_picks_and_makes_the_same_winner_in_prod(generator: str) -> None:
    keys = {"generator": generator, "num_samples": 4, "num_inference_steps": 4, "hidden_step": 1}
    prod, dev = (BestOfN.from_config(TINY, {**keys, "generation_mode": mode})(PROMPT) for mode in ("prod", "dev"))
    assert len(prod.images) == 1 and len(dev.images) == 4
    assert prod.scores == dev.scores and prod.best_index == dev.best_index
    apart = np.asarray(prod.image, np.int16) - np.asarray(dev.images[dev.best_index], np.int16)
    assert np.abs(apart).max() <= 1


def test_a_verifier_of_another_block_or_generator_is_refused(tmp_path: Path) -> None:
    assert refusal(block="transformer_blocks.3") == (
        "block: names transformer_blocks.3, the verifier reads hidden_7 (transformer_blocks.7)"
    )
    verifier = Path(shutil.copytree("ckpts/tiny/verifier_hidden_7", tmp_path / "verifier"))
    config = json.loads((verifier / "config.json").read_text())
    keys = {"latent_verifier_name": None, "latent_verifier_path": str(verifier)}
    record = {"pipeline": "SanaSprintPipeline", "block": "transformer_blocks.7", "tokens": 64, "width": 96}
    for apart, differ in (
        ({}, ""),
        ({"pipeline": "FluxPipeline"}, "pipeline FluxPipeline against SanaSprintPipeline"),
        ({"tokens": 1024}, "tokens 1024 against 64"),
        ({"block": "single_transformer_blocks.7"}, "block single_transformer_blocks.7 against transformer_blocks.7"),
    ):
        (verifier / "config.json").write_text(json.dumps({**config, "vhs_generator": {**record, **apart}}))
        if not apart:
            resolve_models(load_config(TINY, {"generator": "diffusers", **keys}))
            continue
        line = refusal(**keys)
        assert line.startswith(f"latent_verifier: was trained on another generator: {differ}; it recorded {{")
        assert line.endswith("; cross_generator: true reads this one all the same") == ("tokens" not in apart)
        if "tokens" in apart:
            assert "tokens 1024 against 64" in refusal(cross_generator=True, **keys)
        else:
            resolve_models(load_config(TINY, {"generator": "diffusers", "cross_generator": True, **keys}))


def test_the_students_verifier_scores_in_every_step_of_the_teacher(tmp_path: Path) -> None:
    """As docs/generators.md says of configs/tiny_teacher.yaml: trained on the student, read on the teacher."""
    folder = teacher_pipeline.write(tmp_path / "teacher")
    scores = [
        BestOfN.from_config("configs/tiny_teacher.yaml", {"ckpt": str(folder), "hidden_step": step})(PROMPT).scores
        for step in (1, 4)
    ]
    assert len(scores[0]) == 4 and scores[0] != scores[1]


def test_sana_sprints_own_class_has_none_of_the_pipelines_keys() -> None:
    for key, value in (("block", "transformer_blocks.7"), ("timesteps", [1.0]), ("pipeline_arguments", {"eta": 0.0})):
        with pytest.raises(ConfigError, match=f"{key}: is read with generator: diffusers only"):
            load_config(TINY, {key: value})
    with pytest.raises(ConfigError, match="num_inference_steps: 9 is not one of 1 to 8"):
        load_config(TINY, {"num_inference_steps": 9})
    assert load_config(
        TINY, {"generator": "diffusers", "num_inference_steps": 20, "timesteps": [400, 20]}
    ).timesteps == (
        400,
        20,
    )


def test_collecting_two_lists_of_blocks_records_what_they_are(tmp_path: Path) -> None:
    """Blocks 1 and 2 of this FLUX are the last double and the first single one."""
    flux = save("flux_schnell", tmp_path / "flux")
    run = tmp_path / "run.yaml"
    run.write_text(
        f"generator: diffusers\nckpt: {flux}\nimage_width: 24\nimage_height: 16\nlatent_verifier: false\n"
        "num_samples: 1\nnum_inference_steps: 2\ndevice: cpu\n"
    )
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red star\ntwo dogs\n")
    output = tmp_path / "set"
    config = CollectConfig(
        run=str(run),
        annotation=str(prompts),
        output=str(output),
        candidates=2,
        blocks=[1, 2],
        latent=True,
        dtype="float32",
    )
    assert run_collect(config, lambda line: None).samples == 4
    data = CollectedSet(output)
    assert data.require("hidden_2") == (24, 16) and data.require("latent") == (4, 8, 12)
    record = data.layout.generator_record("hidden_2")
    assert record == {
        "pipeline": "FluxPipeline",
        "ckpt": str(flux),
        "block": "single_transformer_blocks.0",
        "tokens": 24,
        "width": 16,
        "step": 2,
        "steps": 2,
    }
    generator = resolve_models(load_config(run)).load_generator()
    noise = generator.noise([candidate_seed(config.seed, 0, candidate) for candidate in range(2)])
    [text] = generator.encode(["a red star"])
    expected = generator.prefix(noise, text, 2)
    torch.testing.assert_close(data.gather("hidden_2", [0, 1]), expected.hidden, rtol=0, atol=1e-6)
    torch.testing.assert_close(data.gather("latent", [0, 1]), generator.finish(expected), rtol=0, atol=1e-6)
