"""What only a CUDA device can show: the method's numbers there, compiled and not. `python -m pytest -m cuda`."""

import pytest
import torch

from tests.conftest import GOLDEN_D
from vhs import BestOfN
from vhs.config.run import RunConfig
from vhs.fitting import MOST
from vhs.generators.sana_sprint import SanaSprint
from vhs.resolve import resolve_models

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
FOLDER = GOLDEN_D / "sana-sprint-tiny"


def latents(device: str, compile: bool = False) -> torch.Tensor:
    generator = SanaSprint.from_pretrained(FOLDER, image_width=64, image_height=64, device=device, compile=compile)
    text, noise = generator.encode(["a photo of a red ring"])[0], generator.noise([1, 2, 3])
    return generator.finish(generator.prefix(noise, text, 7)).cpu()


def test_a_gpu_computes_what_the_cpu_does() -> None:
    assert torch.allclose(latents("cuda"), latents("cpu"), atol=1e-3)


def test_compiled_it_is_the_same_but_for_rounding() -> None:
    assert torch.allclose(latents("cuda", compile=True), latents("cuda"), atol=1e-3)


def test_micro_batch_auto_is_settled_on_the_gpu(run_keys) -> None:
    config = RunConfig(**{**run_keys, "device": "cuda", "dtype": "float32", "micro_batch": "auto"})
    generator, verifier, _ = resolve_models(config).load()
    assert 1 <= generator.micro_batch == verifier.micro_batch <= MOST
    method = BestOfN.of(config, generator, verifier)
    fitted = method("a photo of a red ring", num_samples=5)
    generator.micro_batch = verifier.micro_batch = 2
    assert method("a photo of a red ring", num_samples=5).scores == pytest.approx(fitted.scores, abs=1e-3)


def test_graphs_of_compiled_layers_choose_what_the_others_do(run_keys) -> None:
    """Two prompts, whose questions differ in length, twice each: a graph is recorded, and replayed."""
    prompts = ["a photo of a red ring", "a photo of a red ring left of a blue star and a green cross"] * 2
    scores = []
    for compile in (False, True):
        keys = {**run_keys, "device": "cuda", "dtype": "float32", "micro_batch": 2, "compile": compile}
        config = RunConfig(**keys)
        method = BestOfN.of(config, *resolve_models(config).load()[:2])
        scores.append([method(prompt, num_samples=4).scores for prompt in prompts])
    plain, compiled = torch.tensor(scores)
    assert torch.allclose(compiled[:2], compiled[2:], rtol=0, atol=1e-6)
    assert torch.allclose(compiled, plain, rtol=0, atol=1e-3)
