"""What the recipe's stages share: where they work, a resumable training loop, batches of fresh scenes.

Every stage is `python -m vhs.tinyworld.<stage> [--steps N] [--threads 1]`. It works in `outputs/tinyworld/<stage>/`,
saves its state there every few minutes, goes on from it when started again, and writes the finished model into
`ckpts/tiny/`. A batch is a function of (stage, step), so an interrupted stage sees the data that it would have seen.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm import tqdm

from vhs.commands.ending import exit_code
from vhs.device import attention_to_train, has_bfloat16, resolve_device, resolve_precision
from vhs.errors import ConfigError
from vhs.folders import locked
from vhs.tinyworld.drawing import render
from vhs.tinyworld.scenes import Scene, sample_scene

CKPTS = Path("ckpts/tiny")
WORK = Path(os.environ.get("VHS_TINYWORLD_WORK", "outputs/tinyworld"))
HELD_OUT_SEEDS = 1_000_000_000
"""Scene seeds from here on are for measuring only; training stays below."""


def arguments(module: str, steps: int | None, worlds: Iterable[str] = (), **flags: str) -> argparse.Namespace:
    """The options every stage takes, and its own flags by their help texts; `device` is one that torch has.

    `worlds` are the names that `--world` takes, the default first, of a stage that several have; `steps` is None then
    unless given.
    """
    parser = argparse.ArgumentParser(prog=f"python -m vhs.tinyworld.{module}")
    parser.add_argument("--steps", type=int, default=steps, help="optimiser steps in all (default: %(default)s)")
    if worlds:
        parser.add_argument("--world", choices=list(worlds), default=next(iter(worlds)), help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: %(default)s)")
    for name, text in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        args.device = resolve_device(args.device)
    except ConfigError as error:
        parser.error(str(error))
    return args


def command(main: Callable[[], None]) -> NoReturn:
    """Runs a stage and ends its process: one line for what was wrong, and the exit code that every command has."""
    sys.exit(exit_code(main, "what was saved is kept"))


def autocast(device: str) -> torch.autocast:
    """bfloat16 where it is fast, else float32."""
    return torch.autocast(device, torch.bfloat16, enabled=has_bfloat16(device))


def scene_seed(stage: str, index: int) -> int:
    """Seed of the `index`-th scene of a stage: below `HELD_OUT_SEEDS`, different from stage to stage."""
    return (zlib.crc32(stage.encode()) * 7919 + index) % HELD_OUT_SEEDS


def fresh_scenes(stage: str, step: int, batch: int) -> list[Scene]:
    """The scenes of one training step."""
    return [sample_scene(scene_seed(stage, step * batch + i)) for i in range(batch)]


def pictures(scenes: Iterable[Scene]) -> torch.Tensor:
    """(B, 3, 64, 64) float32 in [-1, 1]."""
    arrays = np.stack([np.asarray(render(scene)[0]) for scene in scenes])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def orthogonal(
    matrices: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """The orthogonal factors of matrices (n, a, b) by Newton-Schulz steps, roughly, as torch's Muon finds each."""
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Muon):
    """torch's Muon (Jordan et al., 2024), which takes matrices only, for 1 x 1 convolutions too: through flat views.

    torch's takes one matrix after the other, always in bfloat16. For matrices this small that takes longer than their
    arithmetic: here those of one shape are taken together, in bfloat16 only where the device multiplies it.
    """

    def __init__(self, params: Iterable[nn.Parameter], **options):
        self.originals = list(params)
        super().__init__([p.detach().flatten(1).requires_grad_() for p in self.originals], **options)

    @torch.no_grad()
    def step(self, closure=None):
        [group] = self.param_groups
        alike: dict[torch.Size, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for view, param in zip(group["params"], self.originals, strict=True):
            alike.setdefault(view.shape, []).append((view, param.grad.flatten(1)))
        for pairs in alike.values():
            self._update(*map(list, zip(*pairs, strict=True)), group)

    def _update(self, views: list[torch.Tensor], gradients: list[torch.Tensor], group: dict) -> None:
        """A step of matrices of one shape, which are views of the parameters, with Nesterov's momentum and a rate that
        matches AdamW's (Liu et al., 2025)."""
        for view in views:
            if "momentum_buffer" not in self.state[view]:
                self.state[view]["momentum_buffer"] = torch.zeros_like(view)
        momentum = [self.state[view]["momentum_buffer"] for view in views]
        torch._foreach_lerp_(momentum, gradients, 1 - group["momentum"])
        wanted = torch.stack(torch._foreach_lerp(gradients, momentum, group["momentum"]))
        if has_bfloat16(wanted.device.type):
            wanted = wanted.bfloat16()
        updates = orthogonal(wanted, group["ns_coefficients"], group["ns_steps"], group["eps"]).to(views[0].dtype)
        torch._foreach_mul_(views, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(views, list(updates), alpha=-group["lr"] * 0.2 * max(views[0].shape) ** 0.5)


def matrices_of(blocks: nn.Module) -> list[nn.Parameter]:
    """The linear layers' and 1 x 1 convolutions' weights: what Muon is made for."""
    return [p for p in blocks.parameters() if p.dim() == 2 or (p.dim() == 4 and p.shape[2:] == (1, 1))]


def _optimizers(
    module: nn.Module, muon: list[nn.Parameter], peak: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the parameters `muon`, at rates that change weights equally fast (Liu et al., 2025)."""
    chosen = {id(p) for p in muon}
    rest = [p for p in module.parameters() if id(p) not in chosen]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=peak, weight_decay=weight_decay, betas=(0.9, 0.98))
    ]
    if muon:
        found.append(Muon(muon, lr=peak, weight_decay=weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"))
    return found


def learning_rate(step: int, steps: int, peak: float, warmup: int, restart: int | None = None) -> float:
    """Linear warm-up, then a cosine down to a hundredth of the peak; both once more from step `restart` on
    (Loshchilov & Hutter, 2017)."""
    if restart and restart < steps:
        step, steps = (step, restart) if step < restart else (step - restart, steps - restart)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def train(
    stage: str,
    module: nn.Module,
    loss_of: Callable[[int], torch.Tensor],
    *,
    steps: int,
    peak: float,
    warmup: int = 200,
    restart: int | None = None,
    weight_decay: float = 0.01,
    clip: float = 1.0,
    average: float = 0.0,
    muon: list[nn.Parameter] | None = None,
    evaluate: Callable[[int], dict[str, float]] | None = None,
    evaluate_every: int = 1000,
    save_every_s: float = 120.0,
) -> nn.Module:
    """Train `module` until `steps`, resuming from the stage's state; return it (averaged where `average` > 0).

    `loss_of(step)` gives the loss of one step, `evaluate(step)` figures for the log. The optimiser is AdamW, and Muon
    for the weights `muon`; their rate rises to `peak` and falls again, and a second time from step `restart` on. Raises
    FloatingPointError on a loss that is not finite, before the state is overwritten, and BusyError where another
    process is at this stage.
    """
    folder = WORK / stage
    folder.mkdir(parents=True, exist_ok=True)
    optimizers = _optimizers(module, muon or [], peak, weight_decay)
    averaged = EMAModel(module.parameters(), decay=average, foreach=True) if average else None
    device = next(module.parameters()).device.type
    with locked(folder, "stage"), attention_to_train(device, resolve_precision("auto", device)):
        start = _resume(folder / "state.pt", module, optimizers, averaged)
        bar = tqdm(range(start, steps), initial=start, total=steps, desc=stage, mininterval=10)
        running, saved = None, time.monotonic()
        for step in bar:
            for group in [group for optimizer in optimizers for group in optimizer.param_groups]:
                group["lr"] = learning_rate(step, steps, peak, warmup, restart)
            loss = loss_of(step)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"{stage}: loss is {loss.item()} at step {step}; the last saved state is kept")
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), clip)
            for optimizer in optimizers:
                optimizer.step()
            module.zero_grad()
            if averaged:
                averaged.step(module.parameters())
            running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
            bar.set_postfix(loss=f"{running:.4f}", refresh=False)
            if time.monotonic() - saved > save_every_s or step + 1 == steps:
                _save(folder / "state.pt", step + 1, module, optimizers, averaged)
                saved = time.monotonic()
            if (step + 1) % evaluate_every == 0 or step + 1 == steps:
                figures = evaluate(step + 1) if evaluate else {}
                log(stage, step=step + 1, loss=round(running, 5), **figures)
    if averaged:
        averaged.copy_to(module.parameters())
    return module


def _save(path: Path, step: int, module: nn.Module, optimizers: list, averaged: EMAModel | None) -> None:
    state = {"step": step, "module": module.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}
    if averaged:
        state["averaged"] = averaged.state_dict()
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _resume(path: Path, module: nn.Module, optimizers: list, averaged: EMAModel | None) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    module.load_state_dict(state["module"])
    for optimizer, values in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(values)
    if averaged:
        averaged.load_state_dict(state["averaged"])
        averaged.to(next(module.parameters()).device)
    return state["step"]


def log(stage: str, **figures: float) -> None:
    """One line of JSON to the stage's log, and to the screen."""
    line = json.dumps({"stage": stage, **figures})
    tqdm.write(line)
    with open(WORK / stage / "log.jsonl", "a", encoding="utf-8") as file:
        file.write(line + "\n")
