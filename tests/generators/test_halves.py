"""The transformer as two functions: equal to the hook's path bit for bit, and one line where nothing compiles them."""

import shutil

import pytest
import torch

from tests.conftest import GOLDEN_D
from vhs.compiled import require_compiler
from vhs.errors import ConfigError
from vhs.generators.halves import Halves
from vhs.generators.sana_sprint import SanaSprint


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("block", [0, 7, 9])
def test_both_functions_equal_the_hook_to_the_last_bit(steps, block, monkeypatch):
    generator = SanaSprint.from_pretrained(
        GOLDEN_D / "sana-sprint-tiny", image_width=64, image_height=64, num_inference_steps=steps, micro_batch=2
    )
    text, noise = generator.encode(["a photo of a red ring"])[0], generator.noise([1, 2, 3])
    prefix = generator.prefix(noise, text, block)
    hooked = prefix.hidden, generator.finish(prefix), generator.generate(noise, text)
    monkeypatch.setattr(generator, "_halves", Halves(generator.transformer, compiled=False))
    prefix = generator.prefix(noise, text, block)
    assert torch.equal(prefix.hidden, hooked[0])
    assert torch.equal(generator.finish(prefix), hooked[1]) and torch.equal(generator.generate(noise, text), hooked[2])
    states, _ = generator.hidden_states(noise, text, [0, block])
    assert torch.equal(states[block], hooked[0]) and generator._halves is not None


def test_a_prompt_s_text_is_projected_once_for_all_candidates():
    generator = SanaSprint.from_pretrained(GOLDEN_D / "sana-sprint-tiny", image_width=64, image_height=64)
    text, noise = generator.encode(["a photo of a red ring"])[0], generator.noise([1, 2, 3])
    rows = []
    block = generator.transformer.transformer_blocks[0]
    for module in (generator.transformer.caption_projection.linear_1, block.attn2.to_q):
        module.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    generator.prefix(noise, text, 0)
    assert rows == [1, 3]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_nothing_to_compile_with_is_one_line(device, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"compile: true needs .*; install it, or set compile: false"):
        require_compiler(device)
