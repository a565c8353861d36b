"""The published sizes on the meta device: a shape error cannot wait for a GPU."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from vhs.verifiers.architectures import load_architecture
from vhs.verifiers.clip import ClipTower
from vhs.verifiers.connector import build_connector
from vhs.verifiers.conversation import IMAGE_INDEX
from vhs.verifiers.hidden import HiddenReader, Statistics
from vhs.verifiers.latent import LatentReader
from vhs.verifiers.llava import build_llm, embed_inputs, next_token_logits

TEXT = [*range(55), IMAGE_INDEX, *range(55)]
"""110 text tokens around a picture: the published question about a short prompt with Qwen2.5's tokenizer."""


def parts(name):
    raw = load_architecture(name)
    with torch.device("meta"):
        connector = build_connector(raw["mm_projector_type"], raw["mm_hidden_size"], raw["hidden_size"])
    return raw, build_llm(raw).bfloat16(), connector.bfloat16()


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_hidden_states_of_1024_tokens_of_2240():
    raw, llm, connector = parts("hidden_7_qwen2.5-0.5b")
    assert parameters(llm) == 494_032_768
    statistics = Statistics(*(torch.ones(1, 2240, dtype=torch.bfloat16) for _ in range(2)), "statistics")
    reader = HiddenReader(raw["mm_hidden_size"], (7,), (statistics,))
    hidden = torch.empty(4, 1024, 2240, dtype=torch.bfloat16, device="meta")
    assert reader.check(hidden) == 4
    tokens = connector(reader(hidden))
    assert tokens.shape == (4, 1024, 896)
    assert embed_inputs(llm, tokens, TEXT)["inputs_embeds"].shape == (4, 1134, 896)
    assert next_token_logits(llm, tokens, TEXT).shape == (4, 151936)


@pytest.mark.parametrize("projector", [None, "vit_p_4_d_512_h_4_l_6_mlp2x_gelu"])
def test_latents_of_1024_tokens_of_32(projector):
    raw, llm, connector = parts("latent_qwen2.5-0.5b")
    latents = torch.empty(4, 32, 32, 32, dtype=torch.bfloat16, device="meta")
    if projector:
        with torch.device("meta"):
            connector = build_connector(projector, 32, 896).bfloat16()
    tokens = connector(LatentReader(raw["mm_hidden_size"], as_grid=projector is not None)(latents))
    assert tokens.shape == (4, 64 if projector else 1024, 896)
    assert next_token_logits(llm, tokens, TEXT).shape == (4, 151936)


def test_pictures_of_336_pixels():
    raw, llm, connector = parts("clip_qwen2.5-0.5b")
    with torch.device("meta"):
        tower = CLIPVisionModel(CLIPVisionConfig(**load_architecture("clip-vit-large-patch14-336"))).bfloat16()
    assert parameters(tower) == 303_507_456
    tower = ClipTower(tower, raw["mm_vision_select_layer"], raw["mm_vision_select_feature"])
    features = tower(torch.empty(4, 3, 336, 336, device="meta"))
    assert features.shape == (4, 576, raw["mm_hidden_size"])
    tokens = connector(features)
    assert embed_inputs(llm, tokens, TEXT)["inputs_embeds"].shape == (4, 576 + 110, 896)
    assert next_token_logits(llm, tokens, TEXT).shape == (4, 151936)
