import pytest
import torch

from vhs.errors import CheckpointError, ConfigError
from vhs.verifiers import load_verifier, save_verifier
from vhs.verifiers.connector import build_connector
from vhs.verifiers.latent import LatentReader, flatten_latents


def latent_verifier(checkpoint, tmp_path, projector, width=4):
    donor = load_verifier(checkpoint("A/vhs-tiny-hidden"))
    connector = build_connector(projector, width, 64)
    return save_verifier(
        tmp_path / "latent", donor.llm, connector, donor.tokenizer,
        vision_tower="latent", projector_type=projector, width=width,
    )  # fmt: skip


def test_tokens_are_pixels_row_by_row():
    latents = torch.arange(2 * 3 * 2 * 4).reshape(2, 3, 2, 4)
    tokens = flatten_latents(latents)
    assert tokens.shape == (2, 8, 3)
    assert torch.equal(tokens[1, 5], latents[1, :, 1, 1])


@pytest.mark.parametrize(
    "projector", ["mlp2x_gelu", "norm_linear", "conv_mlp2x_gelu", "vit_p_4_d_8_h_2_l_1_mlp2x_gelu"]
)
def test_a_latent_verifier_scores(projector, checkpoint, tmp_path):
    verifier = load_verifier(latent_verifier(checkpoint, tmp_path, projector), "latent")
    assert (verifier.reads, verifier.block, verifier.width) == ("latent", None, 4)
    latents = torch.randn(3, 4, 8, 8)
    score = verifier.score("a bench", latents)
    assert score.score.isfinite().all() and len(score.score.unique()) == 3
    single = verifier.score("a bench", latents[2:]).score
    torch.testing.assert_close(score.score[2:], single, atol=1e-5, rtol=0)


def test_latents_of_another_width(checkpoint, tmp_path):
    verifier = load_verifier(latent_verifier(checkpoint, tmp_path, "mlp2x_gelu"))
    with pytest.raises(CheckpointError, match=r"reads latents \(N, 4, h, w\); got \(3, 5, 8, 8\)"):
        verifier.score("a bench", torch.zeros(3, 5, 8, 8))
    with pytest.raises(CheckpointError, match=r"got \(3, 64, 4\)"):
        verifier.score("a bench", torch.zeros(3, 64, 4))


def test_statistics_with_a_latent_verifier_are_a_mistake(checkpoint, tmp_path, statistics):
    with pytest.raises(ConfigError, match="normalization_mean_path: .* reads latent features; leave it out"):
        load_verifier(latent_verifier(checkpoint, tmp_path, "mlp2x_gelu"), "latent", **statistics)


def test_a_generators_folder_of_statistics_may_stay_where_a_latent_is_read(checkpoint, tmp_path):
    folder = latent_verifier(checkpoint, tmp_path, "mlp2x_gelu")
    assert load_verifier(folder, "latent", normalization=tmp_path / "statistics").reads == "latent"


def test_a_grid_stays_a_grid():
    assert LatentReader(4, as_grid=True)(torch.zeros(2, 4, 8, 8)).shape == (2, 4, 8, 8)
