"""Of several features the cheapest within the margin of the best is chosen, and the table says how sure that is."""

import numpy as np
import pytest

from vhs.config.yamlfile import load
from vhs.errors import ConfigError
from vhs.training.choice import choose, cost_order, table
from vhs.training.config import EvaluateConfig
from vhs.training.evaluation import Rows, figures


def found(share: float, prompts: int = 50) -> dict:
    """Figures of a verifier that finds the only right one of two candidates in this share of the prompts."""
    verdicts = np.tile([True, False], prompts)
    finds = np.arange(prompts) < share * prompts
    scores = np.stack([finds, ~finds], 1).ravel().astype(float)
    return figures(
        Rows(
            groups=[(0, p) for p in range(prompts) for _ in range(2)],
            texts=[str(p) for p in range(prompts) for _ in range(2)],
            tags=["colors"] * 2 * prompts,
            scores=scores,
            p_yes=(1 + scores) / 3,
            p_no=(2 - scores) / 3,
            says_yes=scores > 0.5,
            verdicts=verdicts,
        ),
        [1, 2],
        resamples=200,
    )


FOUND = {"latent": found(0.94), "hidden_19": found(0.96), "hidden_5": found(0.92), "hidden_1": found(0.5)}


@pytest.mark.parametrize(
    ("margin", "chosen"), [(0.0, "hidden_19"), (0.03, "hidden_19"), (0.05, "hidden_5"), (0.5, "hidden_1")]
)
def test_the_margin_decides(margin, chosen):
    choice = choose(FOUND, margin)
    assert (choice["chosen"], choice["best"]) == (chosen, "hidden_19")
    assert [row["feature"] for row in choice["features"]] == ["hidden_1", "hidden_5", "hidden_19", "latent"]
    assert choice["features"][1]["behind"]["mean"] == pytest.approx(0.04)


def test_the_table_says_when_more_prompts_would_tell():
    assert "its interval reaches further" in table(choose(FOUND, 0.05))
    assert "its interval" not in table(choose(FOUND, 0.5 + 0.3))


def test_blocks_come_before_finished_candidates():
    features = ["clip", "latent", "hidden_19", "hidden_7"]
    assert sorted(features, key=cost_order) == ["hidden_7", "hidden_19", "latent", "clip"]


def test_one_verifier_or_several(tmp_path):
    file = tmp_path / "evaluate.yaml"
    for keys in ("", "verifier: a\nverifiers: {hidden_7: a}\n"):
        file.write_text(f"data: [a]\noutput: b.json\n{keys}")
        with pytest.raises(ConfigError, match="verifiers"):
            load(EvaluateConfig, file, [])
    file.write_text("data: [a]\noutput: b.json\nverifiers: {hidden_7: a, latent: b}\nnormalization: s\n")
    each = load(EvaluateConfig, file, []).each()
    assert (each["hidden_7"].verifier, each["hidden_7"].normalization) == ("a", "s")
    assert (each["latent"].verifier, each["latent"].normalization) == ("b", None)
