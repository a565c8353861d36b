"""What a run costs before it is made: pictures, disk, downloads, memory, time; and the machine that it is not for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vhs.checkpoints.sizes import SIZES, download_size, total
from vhs.checkpoints.source import RELEASE_FILES, Source
from vhs.commands import main
from vhs.config.run import RunConfig, load_config
from vhs.config.yamlfile import build
from vhs.errors import ConfigError, PromptError, VHSError
from vhs.measure.counted import weights
from vhs.measure.needs import Method, method_of, needs, shipped
from vhs.measure.shipped import methods
from vhs.resolve import ResolvedRun, resolve, wants_gpu
from vhs.runs import price
from vhs.runs.estimate import Estimate, estimate
from vhs.runs.folder import RunFolder
from vhs.runs.runner import run

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "configs" / "paper" / "main_1100_vhs.yaml"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_pictures_and_disk_follow_from_mode_seeds_and_size(run_keys) -> None:
    config = build(RunConfig, {**run_keys, "num_samples": 4, "generation_mode": "prod"})
    dev, seeds = config.changed(generation_mode="dev"), config.changed(seeds=[1, 2])
    assert [price.judged_pictures(one, 3) for one in (config, dev, seeds)] == [3, 12, 6]
    assert price.disk(config, 3) == (3 + 3) * 64 * 64 * 2 + 12 * price.ROW_BYTES
    assert price.disk(seeds, 3) == 2 * price.disk(config, 3)


def test_the_disk_of_a_run_is_of_the_order_that_was_told(run_keys) -> None:
    config = build(RunConfig, {**run_keys, "num_samples": 2, "generation_mode": "dev"})
    run(config, say=lambda line: None, bar=False)
    pictures = RunFolder(config).pictures
    written = sum(file.stat().st_size for file in pictures.rglob("*") if file.is_file())
    assert 0.3 < written / price.disk(config, 3) < 3


def test_downloads_count_once_and_name_what_is_not_known(tmp_path: Path) -> None:
    known, other = next(iter(SIZES)), Source("ckpt", "some/body", None, "some/body")
    twice = [Source("ckpt", known, None, known), Source("network_ckpt", known, None, known)]
    assert total([*twice, other]) == (SIZES[known].bytes, ["some/body"])
    assert download_size(Source("ckpt", "here", tmp_path)).bytes == 0
    detector = Source("segmentation_ckpt_path", "ckpts/m-c9d0c4f2.pth", None, RELEASE_FILES, (), "dataset")
    assert download_size(detector).bytes == 275_000_000
    said = price.downloads([*twice, other])
    assert said == "9.7 GB to be fetched, and some/body, whose size is not known here"


def test_every_repository_that_a_shipped_configuration_names_has_a_size(offline) -> None:
    for file in (ROOT / "configs").glob("*.yaml"):
        try:
            found = resolve(load_config(file), fetch="nothing")
        except VHSError:  # weights that are the user's own
            continue
        # a folder of the user's own that is not made yet looks like owner/name
        sources = [one for one in found.downloads if one.repository and not one.repository.startswith("outputs/")]
        assert total(sources)[1] == [], file.name


def test_the_weights_that_are_counted_are_those_that_are_loaded(run_keys) -> None:
    resolved = resolve(build(RunConfig, run_keys))
    generator, verifier, _ = resolved.models.load()
    loaded = sum(weights(generator, verifier).values())
    found = needs(resolved, "float32")
    assert found.weights == pytest.approx(loaded, rel=0.01) and 0 < found.tensors < found.peak


def test_the_memory_of_the_shipped_configurations_is_known(offline, no_gpu) -> None:
    assert [name for name, method in methods(["configs"]) if method.key not in shipped()] == []


def test_what_was_counted_is_what_is_counted() -> None:
    method = method_of(resolve(load_config(ROOT / "configs" / "tiny.yaml"), fetch="nothing"), "float32")
    counted, known = method.count(), shipped()[method.key]
    assert counted.weights == known.weights
    assert {name: list(stage) for name, stage in counted.stages.items()} == known.stages


def test_a_key_that_changes_memory_is_not_looked_up_but_counted(monkeypatch) -> None:
    def found(*words: str) -> str:
        return price.memory(resolve(load_config(ROOT / "configs" / "tiny.yaml", words), fetch="nothing"))

    known = found()
    assert found("num_samples=100", "seed=3", "name=other") == known
    monkeypatch.setattr(Method, "count", lambda self: pytest.fail(f"counted: {self.config.max_sequence_length}"))
    with pytest.raises(pytest.fail.Exception, match="counted: 17"):
        found("max_sequence_length=17")


def test_a_dry_run_and_help_import_no_torch() -> None:
    """What makes them answer in under a second; on a machine with a GPU torch is asked for it."""
    script = (
        "import sys; from vhs import device; from vhs.commands import main; device.DRIVERS = ()\n"
        "codes = [main(['run', '--dry-run', '--config', f'configs/{name}.yaml']) for name in ('tiny', 'sana_sprint')]\n"
        "assert codes == [0, 0]\n"
        "try: main(['run', '--help'])\n"
        "except SystemExit: pass\n"
        "print({'torch', 'numpy', 'transformers', 'PIL', 'open_clip'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


@pytest.mark.slow
def test_the_memory_of_the_published_models_is_counted(offline, no_gpu) -> None:
    """In bfloat16, as `vhs benchmark memory` counts them; a verifier that reads pictures decodes every candidate."""
    from vhs.measure.published import report

    resolved = resolve(load_config(PAPER, ["num_samples=32", "micro_batch=8"]), fetch="nothing")
    found = needs(resolved, "bfloat16")
    assert found.peak / 2**30 == pytest.approx(report(32, 8, "bfloat16")["peak"]["none"], abs=0.02)
    clip = resolve(load_config(PAPER.with_name("main_1100_clip.yaml")), fetch="nothing")
    assert needs(clip, "bfloat16").stage == "decode" and needs(clip, "bfloat16").peak > found.peak


def test_memory_is_not_guessed_for_models_that_the_count_does_not_know(offline, no_gpu) -> None:
    resolved = resolve(load_config(ROOT / "configs" / "flux_schnell.yaml"), fetch="nothing")
    assert needs(resolved, "bfloat16") is None
    assert price.memory(resolved) == "not counted for these models; --estimate measures it on a GPU"


def test_a_dry_run_prices_the_paper_s_row_on_a_laptop(offline, no_gpu, monkeypatch, capsys) -> None:
    monkeypatch.setattr("vhs.runs.price.memory", lambda run: "11 GiB")
    assert main(["run", "--config", str(PAPER), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "candidates: 24885 (9 per prompt, 5 seeds)" in said and "pictures: 2765 saved" in said
    assert "downloads: 12.7 GB to be fetched\n" in said and "memory: 11 GiB" in said
    assert "refused here: device: auto found no GPU, and Efficient-Large-Model/" in said
    assert "to be downloaded: 9.7 GB, counted from the architecture)" in said
    assert said.count("main_1100_vhs_seed_4") == 5


def refusal(found: ResolvedRun) -> str | None:
    return wants_gpu(found.config, found.models.device, found.models.generator)


def test_a_large_network_does_not_land_on_a_cpu_unless_told_to(offline, no_gpu, monkeypatch) -> None:
    found = resolve(load_config(PAPER), fetch="nothing")
    assert re.search(r"has about 1\.6 billion parameters, .* or insist with device=cpu", refusal(found))
    assert refusal(resolve(load_config(PAPER, ["device=cpu"]), fetch="nothing")) is None
    assert refusal(resolve(load_config(ROOT / "configs" / "tiny.yaml", ["device=auto"]), fetch="nothing")) is None


def test_the_refusal_comes_before_anything_is_loaded(run_keys, no_gpu, monkeypatch, capsys) -> None:
    monkeypatch.setattr("vhs.resolve.LARGE_ON_CPU", 0)
    monkeypatch.setattr("vhs.generators.spec.GeneratorSpec.load", lambda self: pytest.fail("a model was loaded"))
    with pytest.raises(ConfigError, match="insist with device=cpu"):
        run(build(RunConfig, {**run_keys, "device": "auto"}), say=lambda line: None, bar=False)


def test_an_estimate_times_two_prompts_and_leaves_nothing(run_keys) -> None:
    config = build(RunConfig, {**run_keys, "num_samples": 2, "seeds": [1, 2]})
    found = estimate(config, say=lambda line: None)
    assert len(found.seconds) == 2 and min(found.seconds) > 0 and found.prompts == 6 and found.peak is None
    assert not Path(config.output_path).exists()
    whole = Estimate((1.0, 3.0), 553 * 5, 2, None)
    assert whole.hours == pytest.approx(2 * 553 * 5 / 2 / 3600)
    assert whole.text() == "time: 46 min in 2 processes, from two prompts of 1.00 s and 3.00 s (loading is not in it)"
    assert Estimate((9.0, 9.0), 2765, 1, 2**31).text().splitlines() == [
        "time: 6.9 h, from two prompts of 9.00 s and 9.00 s (loading is not in it)",
        "memory: 2.00 GiB at the peak, measured",
    ]


def test_too_few_prompts_for_an_estimate_are_one_line(run_keys, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("a photo of a cat\n")
    with pytest.raises(PromptError, match=r"one.txt: 1 prompts; --estimate times two after a warm-up"):
        estimate(build(RunConfig, {**run_keys, "annotation": str(tmp_path / "one.txt")}), say=lambda line: None)
