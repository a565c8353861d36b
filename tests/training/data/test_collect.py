"""Collecting with golden D's generator: what is stored is what the generator gives, whole shards, resumable."""

import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vhs.errors import ConfigError, RunError
from vhs.generators.sana_sprint import SanaSprint
from vhs.pictures import encode
from vhs.processes import Process
from vhs.records import Prompt
from vhs.seeding import candidate_seed
from vhs.training.data.collect import bytes_per_sample, check_disk, collect, plan
from vhs.training.data.layout import Layout
from vhs.training.data.store import CollectedSet, begin, shard_path
from vhs.training.data.tasks import CollectConfig

GENERATOR = Path(__file__).parents[2] / "goldens" / "D" / "sana-sprint-tiny"
PROMPTS = [Prompt(i, text, None) for i, text in enumerate(["a photo of a red ring", "a photo of two stars", "a moon"])]


@pytest.fixture(scope="module")
def generator() -> SanaSprint:
    return SanaSprint.from_pretrained(
        GENERATOR, image_width=64, image_height=64, max_sequence_length=32, complex_human_instruction=False
    )


def settings(folder: Path, **changes) -> CollectConfig:
    values = {
        "run": "x.yaml",
        "annotation": "x.txt",
        "output": str(folder),
        "candidates": 3,
        "blocks": [7, 1],
        "latent": True,
        "pictures": "png",
        "dtype": "float32",
        "prompts_per_shard": 2,
        "seed": 5,
        "reserve_gib": 0,
    }
    return CollectConfig(**(values | changes))


def run(generator, folder: Path, prompts=PROMPTS, process=Process(), **changes) -> CollectedSet:
    config = settings(folder, **changes)
    report = collect(generator, prompts, config, plan(generator.info, len(prompts), config, {}), process=process)
    assert 0 < report.generator_share <= 1
    return CollectedSet(folder)


def test_samples_are_what_the_generator_gives(generator, tmp_path):
    """Also where a set of blocks is watched in one pass, cut into micro-batches."""
    data = run(generator, tmp_path, micro_batch=2)
    assert len(data) == 9 and data.name(4).endswith("prompt 00001 candidate 1")
    assert len({file.stat().st_mode for file in data.folder.rglob("*.*")}) == 1, "who reads the index reads the shards"
    index, (text,) = 4, generator.encode([PROMPTS[1].text])
    noise = generator.noise([candidate_seed(5, 1, 1)])
    for block in (1, 7):
        torch.testing.assert_close(
            data.gather(f"hidden_{block}", [index]), generator.prefix(noise, text, block).hidden, rtol=0, atol=1e-5
        )
    latents = generator.generate(noise, text)
    torch.testing.assert_close(data.gather("latent", [index]), latents, rtol=0, atol=1e-5)
    ours, theirs = data.picture(index), generator.decode(latents)[0]
    difference = [abs(a - b) for a, b in zip(ours.tobytes(), theirs.tobytes(), strict=True)]
    assert ours.size == (64, 64) and max(difference) <= 1


def test_blocks_of_a_later_step_are_that_steps(tmp_path):
    """With two steps and micro-batches a watched block runs four times: the second step's outputs are kept."""
    two = SanaSprint.from_pretrained(
        GENERATOR,
        image_width=64,
        image_height=64,
        num_inference_steps=2,
        max_sequence_length=32,
        complex_human_instruction=False,
    )
    data = run(two, tmp_path, prompts=PROMPTS[:1], micro_batch=2, latent=False, pictures=None)
    text = two.encode([PROMPTS[0].text])[0]
    noise = two.noise([candidate_seed(5, 0, c) for c in range(3)])
    torch.testing.assert_close(data.gather("hidden_1", range(3)), two.prefix(noise, text, 1).hidden, rtol=0, atol=1e-5)


def test_shards_processes_and_order_change_nothing(generator, tmp_path):
    whole = run(generator, tmp_path / "whole", prompts_per_shard=3)
    for rank in (1, 0):
        config = settings(tmp_path / "cut", prompts_per_shard=1)
        layout = plan(generator.info, 3, config, {})
        begin(tmp_path / "cut", layout, PROMPTS)
        collect(generator, PROMPTS, config, layout, process=Process(rank, 2, rank))
    cut = CollectedSet(tmp_path / "cut")
    for feature in ("hidden_1", "hidden_7", "latent"):
        assert torch.equal(whole.gather(feature, range(9)), cut.gather(feature, range(9)))
    assert whole.picture(8).tobytes() == cut.picture(8).tobytes()


def test_an_interrupted_set_is_finished_and_equal(generator, tmp_path):
    whole = run(generator, tmp_path / "whole", prompts_per_shard=1)
    folder = tmp_path / "cut"
    run(generator, folder, prompts_per_shard=1)
    shard_path(folder, 1).unlink()
    with pytest.raises(ConfigError, match="1 of 3 shards are missing, first shard_00001.safetensors"):
        CollectedSet(folder)
    kept = shard_path(folder, 0).stat().st_mtime_ns
    run(generator, folder, prompts_per_shard=1)
    assert shard_path(folder, 0).stat().st_mtime_ns == kept
    for shard in range(3):
        ours, theirs = (load_file(shard_path(f, shard)) for f in (whole.folder, folder))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert not list(folder.rglob("*.tmp"))


def test_another_run_in_the_folder_is_refused(generator, tmp_path):
    run(generator, tmp_path, prompts=PROMPTS[:1])
    with pytest.raises(RunError, match="candidates: 3, now 4"):
        run(generator, tmp_path, prompts=PROMPTS[:1], candidates=4)
    with pytest.raises(RunError, match="seed: 5, now 6"):
        run(generator, tmp_path, prompts=PROMPTS[:1], seed=6)
    with pytest.raises(RunError, match="other prompts"):
        run(generator, tmp_path, prompts=PROMPTS[1:2])


def test_estimate_and_a_full_disk(generator, tmp_path):
    config = settings(tmp_path, dtype="bfloat16")
    layout = plan(generator.info, 3, config, {})
    assert bytes_per_sample(layout, (64, 64)) == 2 * (2 * 64 * 48 + 8 * 8 * 8) + 2 * 64 * 64
    assert check_disk(tmp_path, layout, (64, 64), 0).startswith("9 samples of 21.0 KiB are 189.0 KiB; ")
    with pytest.raises(RunError, match="20000000000 samples of 4.4 MiB are 83446.5 TiB"):
        check_disk(tmp_path, Layout({"hidden_7": (1024, 2240)}, "bfloat16", 10**9, 20, 10**8), (64, 64), 5)
    assert not list(tmp_path.iterdir())


def test_features_that_cannot_be_stored_stop_the_run(generator, tmp_path, monkeypatch):
    original = generator.hidden_states

    def scaled(value):
        def hidden_states(*arguments):
            states, prefix = original(*arguments)
            states[7][1, 3, 4] = value
            return states, prefix

        return hidden_states

    for value, dtype, message in (
        (float("nan"), "float32", "is NaN or infinite"),
        (1e6, "float16", "out of float16's range"),
    ):
        monkeypatch.setattr(generator, "hidden_states", scaled(value))
        with pytest.raises(
            RunError, match=f"prompt 00000 candidate 1: hidden_7 {'is ' if 'out' in message else ''}{message}"
        ):
            run(generator, tmp_path / dtype, dtype=dtype, latent=False, pictures=None)


def test_a_block_that_does_not_exist(generator, tmp_path):
    with pytest.raises(ConfigError, match="blocks: block 10 is out of range; the generator has 10 blocks, 0 to 9"):
        run(generator, tmp_path, blocks=[10])
    assert not list(tmp_path.iterdir())


def test_a_damaged_shard_is_named(generator, tmp_path):
    data = run(generator, tmp_path)
    path = shard_path(data.folder, 0)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="shard_00000.safetensors: truncated or corrupt"):
        CollectedSet(tmp_path).gather("hidden_7", [0])
    (tmp_path / "index.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ConfigError, match="not an index of format 1"):
        CollectedSet(tmp_path)


def test_candidates_of_several_prompts_share_a_pass_and_keep_their_values(generator, tmp_path):
    """Text and noise are a candidate's own; only rounding depends on who else is in the pass."""
    passes = []
    hook = generator.transformer.transformer_blocks[0].register_forward_hook(lambda m, i, out: passes.append(len(out)))
    alone = run(generator, tmp_path / "alone", candidates=1, prompts_per_shard=3)
    size, generator.micro_batch = generator.micro_batch, 2
    assert passes == [1, 1, 1] or size != 1
    passes.clear()
    together = run(generator, tmp_path / "together", candidates=1, prompts_per_shard=3)
    generator.micro_batch = size
    hook.remove()
    assert passes[:2] == [2, 1]
    for feature in ("hidden_1", "hidden_7", "latent"):
        torch.testing.assert_close(
            together.gather(feature, range(3)), alone.gather(feature, range(3)), rtol=0, atol=1e-5
        )


def test_pictures_are_encoded_beside_the_generator(generator, tmp_path, monkeypatch):
    """In threads of their own: the next prompt does not wait for PNG or JPEG."""
    threads = set()

    def noted(picture, form):
        threads.add(threading.current_thread())
        return encode(picture, form)

    monkeypatch.setattr("vhs.training.data.collect.encode", noted)
    data = run(generator, tmp_path, blocks=[], latent=False)
    assert threads and threading.main_thread() not in threads
    assert [data.picture(index).size for index in range(9)] == [(64, 64)] * 9


def test_shards_are_as_large_as_memory_allows(generator, monkeypatch):
    def prompts(**changes) -> int:
        return plan(generator.info, 100, settings(Path("x"), prompts_per_shard=None, **changes), {}).prompts_per_shard

    assert prompts() == 50
    monkeypatch.setattr("vhs.training.data.collect.SHARD_BYTES", 10 * 3 * (64 * 48 * 2 + 4 * 8 * 8) * 4)
    assert prompts(candidates=1000) == 1
    assert prompts() < prompts(blocks=[7]) and prompts() < prompts(dtype="bfloat16") < prompts(dtype="int8")


@pytest.mark.parametrize(("dtype", "error"), [("int8", 1 / 254), ("float8", 1 / 16)])
def test_eight_bits_keep_a_channel_to_its_own_scale(generator, tmp_path, dtype, error):
    """int8: half a step of a 127th of a channel's largest value; float8: half a unit of its three bits."""
    whole = run(generator, tmp_path / "whole", pictures=None)
    small = run(generator, tmp_path / "small", pictures=None, dtype=dtype)
    for feature, axis in (("hidden_7", 1), ("latent", (2, 3))):
        ours, theirs = small.gather(feature, range(9)), whole.gather(feature, range(9))
        largest = theirs.abs().amax(dim=axis, keepdim=True)
        assert ours.dtype == torch.float32 and not torch.equal(ours, theirs)
        assert ((ours - theirs).abs() <= error * 1.01 * largest).all()
    tensors = load_file(shard_path(small.folder, 0))
    assert tensors["hidden_7"].element_size() == 1 and tensors["hidden_7.scale"].shape[1] == 1
