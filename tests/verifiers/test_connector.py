import pytest
import torch
from torch.nn import functional as F

from vhs.errors import CheckpointError
from vhs.verifiers.connector import build_connector, reads_grid


def shapes(module):
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def test_layouts_are_the_releases():
    mlp = {"0.weight": (6, 4), "0.bias": (6,), "2.weight": (6, 6), "2.bias": (6,)}
    assert shapes(build_connector("linear", 4, 6)) == {"weight": (6, 4), "bias": (6,)}
    assert shapes(build_connector("mlp1x_gelu", 4, 6)) == {"0.weight": (6, 4), "0.bias": (6,)}
    assert shapes(build_connector("mlp2x_gelu", 4, 6)) == mlp
    normed = {"0.weight": (4,), "0.bias": (4,)} | {f"1.{name}": shape for name, shape in mlp.items()}
    assert shapes(build_connector("norm_mlp2x_gelu", 4, 6)) == normed
    assert shapes(build_connector("identity", 6, 6)) == {}
    conv = shapes(build_connector("conv_mlp2x_gelu", 4, 6))
    assert conv["0.proj.weight"] == (4, 4, 1, 1) and conv["1.weight"] == (6, 4) and conv["3.weight"] == (6, 6)
    attention = shapes(build_connector("mlp2x_gelu_attn_layers_2_heads_3", 4, 6))
    assert attention["3.layers.1.self_attn.in_proj_weight"] == (18, 6)
    assert attention["3.layers.0.linear1.weight"] == (2048, 6)
    swapped = shapes(build_connector("mlp2x_gelu_attn_layers_1_heads_2", 4, 6, swap=True))
    assert swapped["0.layers.0.self_attn.in_proj_weight"] == (12, 4) and swapped["1.weight"] == (6, 4)
    vit = shapes(build_connector("vit_p_4_d_8_h_2_l_2_mlp2x_gelu", 4, 6))
    assert vit["0.patch_embed.proj.weight"] == (8, 4, 4, 4) and vit["0.pos_embed"] == (1, 65, 8)
    assert vit["0.encoder.layers.1.linear1.weight"] == (32, 8) and vit["1.0.weight"] == (6, 8)


def test_gelu_is_exact():
    connector = build_connector("mlp2x_gelu", 4, 6)
    tokens = torch.randn(2, 5, 4)
    hidden = connector[0](tokens)
    exact = connector[2](hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5)))
    torch.testing.assert_close(connector(tokens), exact, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["mlp2x_gelu_attn_layers_2_heads_3", "norm_mlp3x_gelu_attn_layers_1_heads_2"])
@torch.no_grad()
def test_attention_layers_are_pre_norm_and_mix_tokens(kind):
    connector = build_connector(kind, 4, 6).eval()
    tokens = torch.randn(2, 5, 4)
    assert connector(tokens).shape == (2, 5, 6)
    changed = tokens.clone()
    changed[:, 0] = torch.randn(4) * 3
    assert (connector(changed)[:, 1:] - connector(tokens)[:, 1:]).abs().max() > 1e-6
    last = [m for m in connector.modules() if isinstance(m, torch.nn.TransformerEncoderLayer)][-1]
    assert last.norm_first and last.activation is F.gelu


@torch.no_grad()
def test_conv_quarters_the_tokens():
    connector = build_connector("conv_mlp2x_gelu", 4, 6)
    assert connector(torch.randn(2, 64, 4)).shape == (2, 16, 6)
    with pytest.raises(CheckpointError, match="conv_ needs a square grid of tokens, got 60"):
        connector(torch.randn(2, 60, 4))


@torch.no_grad()
def test_vit_reads_a_grid_of_any_size():
    kind = "vit_p_4_d_8_h_2_l_1_mlp2x_gelu"
    connector = build_connector(kind, 4, 6).eval()
    assert reads_grid(kind) and not reads_grid("mlp2x_gelu")
    assert connector(torch.randn(2, 4, 32, 32)).shape == (2, 64, 6)
    assert connector(torch.randn(2, 4, 16, 8)).shape == (2, 8, 6)


@pytest.mark.parametrize(
    "kind", ["mlp2x_relu", "resampler", "norm_", "mlp0x_gelu", "norm_vit_p_4_d_8_h_2_l_1_mlp2x_gelu", "CLIP"]
)
def test_unknown_types_are_named(kind):
    with pytest.raises(CheckpointError, match=f"mm_projector_type: '{kind}' is not supported; supported: linear"):
        build_connector(kind, 4, 6)


def test_widths_that_do_not_fit_are_named():
    with pytest.raises(CheckpointError, match="identity needs equal widths, got 4 and 6"):
        build_connector("identity", 4, 6)
    with pytest.raises(CheckpointError, match="4 heads do not divide the width 6"):
        build_connector("mlp2x_gelu_attn_layers_1_heads_4", 4, 6)


@pytest.mark.parametrize(
    "kind",
    [
        "mlp999999999x_gelu",
        "mlp2x_gelu_attn_layers_99999_heads_4",
        "conv_mlp65x_gelu",
        "vit_p_99_d_64_h_4_l_1_mlp2x_gelu",
        "vit_p_0_d_64_h_4_l_1_mlp2x_gelu",
        "vit_p_4_d_1000000_h_4_l_1_mlp2x_gelu",
        f"mlp{'9' * 5000}x_gelu",
    ],
)
def test_sizes_that_no_connector_has(kind):
    with pytest.raises(CheckpointError, match=r"is not from 1 to \d+; it is damaged"):
        build_connector(kind, 64, 64)
