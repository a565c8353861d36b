"""Pretrained rewards: tiny random models of the real classes against the published arithmetic, written out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import nn

from tests.judge import CLIP_SIZES, write_clip
from vhs.errors import CheckpointError
from vhs.verifiers.rewards import (
    CLIP_SCALE,
    AestheticVerifier,
    OpenClip,
    SimilarityVerifier,
    TransformersClip,
    load_head,
    read_state,
)

TEXT = "a photo of a red circle and a blue star"


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for h, w in ((64, 64), (48, 80), (64, 64))]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder)
    return folder


@pytest.fixture(scope="module")
def open_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("open_clip")
    torch.manual_seed(0)
    preprocessing = {"mean": [0.5] * 3, "std": [0.25] * 3}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": CLIP_SIZES, "preprocess_cfg": preprocessing})
    )
    model = open_clip.model.CLIP(**CLIP_SIZES)
    save_file({n: t.contiguous() for n, t in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def test_pick_score_is_the_published_arithmetic(clip_folder, pictures) -> None:
    """As the model card has it, with transformers' own processor of today, which resizes a grey level differently."""
    from transformers import AutoModel, CLIPImageProcessor

    model, processor = AutoModel.from_pretrained(clip_folder), CLIPImageProcessor.from_pretrained(clip_folder)
    clip = TransformersClip.from_folder(clip_folder)
    ids = clip.tokenizer("a red circle", return_tensors="pt")
    with torch.no_grad():
        outputs = model(**processor(pictures, return_tensors="pt"), input_ids=ids.input_ids)
    expected = outputs.logits_per_image[:, 0]
    found = SimilarityVerifier(clip, clip.logit_scale).score("a red circle", pictures)
    torch.testing.assert_close(found.score, expected, atol=0.02, rtol=0)
    assert found.p_yes is None and found.correct is None
    assert found.score.std() > 0.05, "the tolerance would hide the pictures"


def test_clip_score_is_a_hundred_times_the_cosine_and_keeps_its_sign(clip_folder, pictures) -> None:
    clip = TransformersClip.from_folder(clip_folder)
    cosine = SimilarityVerifier(clip, 1.0).score("a red circle", pictures).score
    torch.testing.assert_close(SimilarityVerifier(clip, CLIP_SCALE).score("a red circle", pictures).score, 100 * cosine)
    other = SimilarityVerifier(clip, 1.0).score("zzz", pictures).score
    assert not torch.equal(cosine, other) and cosine.abs().max() <= 1


def test_batches_and_paths_change_no_score_and_long_text_is_cut(clip_folder, pictures, tmp_path) -> None:
    clip = TransformersClip.from_folder(clip_folder)
    whole = SimilarityVerifier(clip, 1.0).score(TEXT, pictures).score
    torch.testing.assert_close(SimilarityVerifier(clip, 1.0, 2).score(TEXT, pictures).score, whole, atol=1e-6, rtol=0)
    files = []
    for number, picture in enumerate(pictures):
        files.append(tmp_path / f"{number}.png")
        picture.save(files[-1])
    torch.testing.assert_close(SimilarityVerifier(clip, 1.0).score(TEXT, files).score, whole, atol=0, rtol=0)
    assert SimilarityVerifier(clip, 1.0).score(TEXT * 50, pictures).score.isfinite().all()


def test_an_open_clip_folder_scores_as_open_clip_does(open_clip_folder, pictures) -> None:
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{open_clip_folder}")
    model.eval()
    with torch.no_grad():
        seen = model.encode_image(torch.stack([transform(picture) for picture in pictures]), normalize=True)
        read = model.encode_text(open_clip.get_tokenizer(f"local-dir:{open_clip_folder}")([TEXT]), normalize=True)
    found = SimilarityVerifier(OpenClip.from_folder(open_clip_folder), 1.0).score(TEXT, pictures)
    torch.testing.assert_close(found.score, (seen @ read.T)[:, 0], atol=1e-6, rtol=0)


@pytest.fixture
def hps_file(tmp_path: Path) -> Path:
    """HPSv2's format, of a tiny architecture that open_clip is told of."""
    config = tmp_path / "tiny-hps.json"
    config.write_text(json.dumps(CLIP_SIZES))
    open_clip.add_model_config(config)
    torch.manual_seed(1)
    torch.save({"epoch": 1, "state_dict": open_clip.model.CLIP(**CLIP_SIZES).state_dict()}, tmp_path / "hps.pt")
    return tmp_path / "hps.pt"


def test_hps_is_the_plain_cosine_of_its_checkpoint(hps_file, pictures) -> None:
    clip = OpenClip.from_checkpoint("tiny-hps", hps_file)
    model = open_clip.create_model("tiny-hps", load_weights=False)
    model.load_state_dict(torch.load(hps_file, weights_only=True)["state_dict"])
    pixels = open_clip.image_transform(32, is_train=False, resize_mode="longest")(pictures[1])
    assert (pixels[:, 0, :] == pixels[:, 0, :1]).all(), "padded, not cropped"
    with torch.no_grad():
        seen = model.eval().encode_image(pixels[None], normalize=True)
        read = model.encode_text(open_clip.get_tokenizer("tiny-hps")([TEXT]), normalize=True)
    found = SimilarityVerifier(clip, 1.0).score(TEXT, pictures)
    torch.testing.assert_close(found.score[1:2], (seen @ read.T)[0], atol=1e-6, rtol=0)


class PublishedHead(nn.Module):
    """The improved predictor's layers as its repository builds them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 1024), nn.Dropout(0.2), nn.Linear(1024, 128), nn.Dropout(0.2), nn.Linear(128, 64),
            nn.Dropout(0.1), nn.Linear(64, 16), nn.Linear(16, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.mark.parametrize("build", [PublishedHead, lambda width: nn.Linear(width, 1)])
def test_the_aesthetic_head_sees_the_unit_embedding_and_no_prompt(build, clip_folder, pictures, tmp_path) -> None:
    head = build(24).eval()
    torch.save(head.state_dict(), tmp_path / "head.pth")
    clip = TransformersClip.from_folder(clip_folder)
    verifier = AestheticVerifier(clip, load_head(tmp_path / "head.pth", 24))
    found = verifier.score(TEXT, pictures).score
    with torch.no_grad():
        expected = head(clip.pictures(pictures))[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert torch.equal(found, verifier.score("another prompt", pictures).score)


def test_a_file_that_is_no_head_or_would_run_code_is_one_line(tmp_path, hps_file) -> None:
    torch.save(PublishedHead(12).state_dict(), tmp_path / "narrow.pth")
    with pytest.raises(
        CheckpointError, match="narrow.pth: not this architecture's tensors \\(size mismatch for 0.weight"
    ):
        load_head(tmp_path / "narrow.pth", 24)
    torch.save({"state_dict": PublishedHead(12)}, tmp_path / "module.pt")
    with pytest.raises(CheckpointError, match="module.pt: cannot be read as plain tensors") as error:
        read_state(tmp_path / "module.pt")
    assert "\n" not in str(error.value)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="list.pt: not a state dict"):
        read_state(tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="absent.pt: missing"):
        read_state(tmp_path / "absent.pt")
    with pytest.raises(CheckpointError, match="hps.pt: not this architecture's tensors"):
        OpenClip.from_checkpoint("RN50", hps_file)


def test_a_folder_that_lacks_tensors_or_files_is_one_line(clip_folder, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="not a usable CLIP model"):
        TransformersClip.from_folder(tmp_path)
    with pytest.raises(CheckpointError, match="open_clip_config.json: is missing"):
        OpenClip.from_folder(tmp_path)
    for file in clip_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="CLIP tensors missing: .*layers.2"):
        TransformersClip.from_folder(tmp_path)
