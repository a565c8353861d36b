"""The latent probe's targets are where the objects are, and it learns to name them from clean latents."""

import numpy as np
import torch
from torch.nn import functional as F

from vhs.tinyworld import autoencoder, latent_probe, recipe, sana, teacher, text_encoder
from vhs.tinyworld.drawing import render
from vhs.tinyworld.scenes import COLORS, SHAPES, sample_scene
from vhs.tinyworld.worlds import SANA


def test_the_targets_are_the_objects_cells():
    """Against the rendered masks: a cell mostly under an object has its name, one that no object touches has none."""
    for seed in range(40):
        scene = sample_scene(seed)
        shapes, colors = latent_probe.targets(scene, 8).numpy()
        covered = render(scene)[1].reshape(-1, 8, 8, 8, 8).mean((2, 4))
        for obj, cover in zip(scene.objects, covered, strict=True):
            assert (shapes[cover > 0.9] == 1 + SHAPES.index(obj.shape)).all()
            assert (colors[cover > 0.9] == 1 + list(COLORS).index(obj.color)).all()
        assert ((shapes == 0) == (colors == 0)).all() and (shapes > 0).sum() >= len(scene.objects)


def test_it_learns_to_read():
    """On 24 scenes it sees again and again; a probe whose loss is not the tokens' names could not."""
    torch.manual_seed(0)
    scenes = [sample_scene(i) for i in range(24)]
    with torch.no_grad():
        encoder = autoencoder.load()
        latents = encoder.encode(recipe.pictures(scenes)).latent * encoder.config.scaling_factor
    truth = torch.stack([latent_probe.targets(scene, 8) for scene in scenes])
    model = latent_probe.LatentProbe(latents.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    one_hot = [F.one_hot(truth[:, k], size).movedim(-1, 1).float() for k, size in enumerate(latent_probe.SIZES)]
    for _ in range(120):
        loss = latent_probe.agreement(model(latents), one_hot)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    shapes, colors = (part.argmax(1) for part in latent_probe.read(model, latents))
    there = truth[:, 0] > 0
    right = ((shapes == truth[:, 0]) & (colors == truth[:, 1]))[there].float().mean()
    assert right > 0.9, f"{right} of the objects' tokens"
    assert np.isclose(latent_probe.read(model, latents)[0].sum(1).numpy(), 1, atol=1e-5).all()


def test_the_shipped_teacher_and_probe_agree_on_clean_latents(monkeypatch, tmp_path):
    """Both from ckpts/tiny: at low noise block 7 says what the probe says of this latent, and not of another."""
    monkeypatch.setattr(recipe, "WORK", tmp_path)
    model, probe = teacher.load("cpu"), latent_probe.load("cpu", sana.CHANNELS)
    scenes = [sample_scene(recipe.HELD_OUT_SEEDS + i, "test") for i in range(24)]
    with torch.no_grad():
        encoder = autoencoder.load()
        latents = encoder.encode(recipe.pictures(scenes)).latent * encoder.config.scaling_factor
        ids, mask = text_encoder.tokenize(SANA.tokenizer(), [scene.caption for scene in scenes])
        s = torch.full((24,), 0.1)
        noisy = 0.9 * latents + 0.1 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        _, guess, logits = model.with_early(noisy, s, ids, mask)
        truth = latent_probe.read(probe, latents)
        own, other = (latent_probe.agreement(logits, [part.roll(k, 0) for part in truth]) for k in (0, 1))
    assert own < 0.3 and other > 3 * own
    assert (guess - latents).square().mean() < 0.2 * latents.var()
