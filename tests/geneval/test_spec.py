"""Where the judge's settings come from, and what is refused before a model loads."""

from __future__ import annotations

import json

import pytest

from vhs.config.run import load_config
from vhs.errors import VHSError
from vhs.geneval.spec import JudgeConfig, judge_config, resolve_judge


def test_without_anything_it_is_genevals_own_detector(tmp_path):
    config = judge_config(tmp_path)
    assert config.segmentation_ckpt_path.endswith("20220504_001756-c9d0c4f2.pth")
    assert (config.detector_size, config.color_classifier) == ((1333, 800), "ViT-L-14")


def test_a_run_is_judged_by_its_own_settings_and_overrides_win(tmp_path):
    run = load_config("configs/tiny.yaml").model_dump(mode="json")
    (tmp_path / "run.json").write_text(json.dumps({"config": run}))
    config = judge_config(tmp_path, overrides=["device=cpu", "detector_size=[96, 96]"])
    assert config == JudgeConfig(
        segmentation_ckpt_path="ckpts/tiny/detector",
        object_names="data/tiny_object_names.txt",
        detector_size=(96, 96),
        color_classifier="local-dir:ckpts/tiny/color_clip",
        device="cpu",
    )
    assert judge_config(tmp_path / "absent", "configs/tiny.yaml", ["device=cpu"]).detector_size == (64, 64)


def test_a_run_without_a_detector_gets_genevals(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"config": {"segmentation_ckpt_path": None, "seed": 3}}))
    assert judge_config(tmp_path) == JudgeConfig()


def test_every_key_means_what_it_means_in_a_run():
    run = load_config("configs/tiny.yaml")
    assert JudgeConfig.model_fields.keys() <= type(run).model_fields.keys()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["detectr=mmdet"], "command line: detectr: unknown key; did you mean detector"),
        (["detector=detectron"], "'detectron' is not a choice"),
        (["segmentation_ckpt_path=/absent.pth"], "segmentation_ckpt_path: /absent.pth is missing"),
        (["color_classifier=local-dir:/absent"], "color_classifier: /absent is missing"),
        (["detector=mmdet"], "mmdet is not installed here"),
    ],
)
def test_what_cannot_be_is_refused_at_once(tmp_path, overrides, message):
    if message.startswith("mmdet"):
        pytest.importorskip("diffusers", reason="holds where mmdet is not: not in .venv-mmdet")
    with pytest.raises(VHSError, match=message):
        resolve_judge(judge_config(tmp_path, "configs/tiny.yaml", overrides), "cpu").fetched()
