import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load, save_file

from vhs.errors import CheckpointError, ImageError
from vhs.verifiers import load_verifier, resolve_llava
from vhs.verifiers.clip import ClipTower, Preprocessing

from .conftest import GOLDENS

TOWER = GOLDENS / "B" / "openai" / "clip-vit-tiny-patch14-56"


def picture(size=(64, 48), seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def tower():
    from transformers import CLIPVisionModel

    return CLIPVisionModel.from_pretrained(TOWER)


@torch.no_grad()
@pytest.mark.parametrize("layer", [-1, -2, 1, 0])
def test_cut_tower_gives_that_layers_tokens(layer):
    pixels = torch.randn(2, 3, 56, 56)
    states = tower().eval()(pixels, output_hidden_states=True).hidden_states
    cut = ClipTower(tower().eval(), layer)
    torch.testing.assert_close(cut(pixels), states[layer][:, 1:], atol=1e-6, rtol=0)
    torch.testing.assert_close(ClipTower(tower().eval(), layer, "cls_patch")(pixels), states[layer], atol=1e-6, rtol=0)


def test_layer_or_feature_that_is_not_there():
    with pytest.raises(CheckpointError, match="mm_vision_select_layer: -7; the tower has 4 layers"):
        ClipTower(tower(), -7)
    with pytest.raises(CheckpointError, match="mm_vision_select_feature: 'cls'; patch or cls_patch"):
        ClipTower(tower(), -2, "cls")


def test_preprocessing_reads_both_forms_of_its_file(tmp_path):
    new = Preprocessing.from_file(TOWER / "preprocessor_config.json")
    raw = json.loads((TOWER / "preprocessor_config.json").read_text())
    old = {key: raw[key] for key in ("image_mean", "image_std", "resample", "do_resize")}
    old |= {"size": 56, "crop_size": 56}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    assert torch.equal(Preprocessing.from_file(tmp_path / "preprocessor_config.json")(picture()), new(picture()))
    with pytest.raises(CheckpointError, match="a CLIP preprocessor"):
        Preprocessing.from_file(tmp_path / "none.json")


@pytest.mark.parametrize("size", [(56, 56), (57, 56), (200, 31), (31, 200)])
def test_preprocessing_crops_the_centre(size):
    preprocessing = Preprocessing.from_file(TOWER / "preprocessor_config.json")
    assert preprocessing(picture(size)).shape == (3, 56, 56)
    flat = preprocessing(Image.new("RGBA", size, (255, 0, 0, 7)))
    mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    torch.testing.assert_close(flat[:, 0, 0], (torch.tensor([1.0, 0, 0]) - mean) / std)


@pytest.mark.parametrize("place", ["working directory", "checkpoint", "beside", "absolute"])
def test_where_a_tower_is_found(place, checkpoint, tmp_path, monkeypatch):
    folder = checkpoint("B/vhs-tiny-clip", folder="verifiers/clip")
    home = {"working directory": tmp_path, "checkpoint": folder, "beside": folder.parent}.get(place)
    monkeypatch.chdir(tmp_path)
    if home is not None:
        (home / "openai").symlink_to(TOWER.parent)
    verifier = load_verifier(folder, "openai/clip-vit-tiny-patch14-56" if home else str(TOWER))
    assert verifier.reads == "image" and verifier.width == 48
    assert verifier.score("a bench", [picture()]).score.shape == (1,)


def test_tower_of_another_width(checkpoint):
    folder = _narrow(checkpoint)
    for read in (load_verifier, lambda *names: resolve_llava(*names).fetched(None)):
        with pytest.raises(CheckpointError, match="tokens have 48 channels; .* takes 32 \\(mm_hidden_size\\)"):
            read(folder, str(TOWER))


def test_check_passes_what_loads(checkpoint):
    assert resolve_llava(checkpoint("B/vhs-tiny-clip"), str(TOWER)).fetched(None).reads == "image"


def _narrow(checkpoint):
    folder = checkpoint("B/vhs-tiny-clip", mm_hidden_size=32)
    tensors = load((folder / "model.safetensors").read_bytes())
    tensors["model.mm_projector.0.weight"] = tensors["model.mm_projector.0.weight"][:, :32].contiguous()
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("inner", ["", "vision_model."])
def test_a_tuned_tower_inside_the_checkpoint_is_used(inner, checkpoint, tmp_path):
    folder = checkpoint("B/vhs-tiny-clip")
    plain = load_verifier(folder, str(TOWER))
    tuned = tower()
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.mul_(0.5)
    tensors = load((folder / "model.safetensors").read_bytes())
    tensors |= {f"model.vision_tower.vision_tower.{inner}{name}": value for name, value in tuned.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    verifier = load_verifier(folder, str(TOWER))
    pixels = plain.reader.pixels([picture()])
    with torch.no_grad():
        torch.testing.assert_close(verifier.reader.tower(pixels), ClipTower(tuned.eval())(pixels))
        assert (verifier.reader.tower(pixels) - plain.reader.tower(pixels)).abs().max() > 0.1
    del tensors[f"model.vision_tower.vision_tower.{inner}pre_layrnorm.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model.vision_tower.\*: .* missing: .*pre_layrnorm.bias"):
        load_verifier(folder, str(TOWER))


def test_damaged_tower(checkpoint, tmp_path):
    for file in TOWER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="not a usable CLIP vision tower") as error:
        load_verifier(checkpoint("B/vhs-tiny-clip"), str(tmp_path))
    assert "\n" not in str(error.value)


def test_inputs_that_are_no_pictures(checkpoint, tmp_path):
    verifier = load_verifier(checkpoint("B/vhs-tiny-clip"), str(TOWER))
    for wrong in (picture(), torch.zeros(2, 3, 56, 56), [torch.zeros(3, 56, 56)]):
        with pytest.raises(CheckpointError, match="verifier: reads a list of N pictures"):
            verifier.score("a bench", wrong)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="bad.png: not a picture"):
        verifier.score("a bench", [tmp_path / "bad.png"])


def test_a_full_clip_checkpoint_as_a_pickle_is_read_as_data(checkpoint, tmp_path):
    """The layout of openai/clip-vit-large-patch14-336: text and vision in one pytorch_model.bin."""
    from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig

    vision = CLIPVisionConfig.from_pretrained(TOWER).to_dict()
    sizes = {"hidden_size": 16, "intermediate_size": 16, "vocab_size": 50}
    text = sizes | {"num_hidden_layers": 1, "num_attention_heads": 2}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32))
    (tmp_path / "tower").mkdir()
    model.config.save_pretrained(tmp_path / "tower")
    torch.save(model.state_dict(), tmp_path / "tower" / "pytorch_model.bin")
    (tmp_path / "tower" / "preprocessor_config.json").write_text((TOWER / "preprocessor_config.json").read_text())
    verifier = load_verifier(checkpoint("B/vhs-tiny-clip"), str(tmp_path / "tower"))
    pixels = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        expected = model.eval().vision_model(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        torch.testing.assert_close(verifier.reader.tower(pixels), expected, atol=1e-5, rtol=0)
