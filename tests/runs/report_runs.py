"""Run folders made without a model: small pictures, scores and verdicts by a seed, in the layout that a run writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vhs.config.run import RunConfig
from vhs.files import write_json
from vhs.pictures import encode
from vhs.records import TAGS, Prompt
from vhs.runs.folder import RunFolder

HOSTILE = (
    '<script>document.title="owned"</script><img src=x onerror="document.title=1">',
    "</script><!-- **bold** | [link](javascript:alert(1)) `code` {{ 7*7 }} \\textbf{x} & 50 % $x_1$ #1",
    "left \u202eright to left\u202c \u2067\u05e9\u05dc\u05d5\u05dd\u2069 \u0645\u0631\u062d\u0628\u0627",
)


def make_run(
    root: Path,
    name: str = "made",
    prompts: int = 6,
    candidates: int = 4,
    *,
    mode: str = "dev",
    seed: int = 0,
    skill: float = 2.0,
    texts: tuple[str, ...] = (),
    side: int = 16,
    done: int | None = None,
    noise: bool = False,
    **config: Any,
) -> Path:
    """The folder of a run in `root`. `skill` is how far right candidates' scores lie above wrong ones'; `texts` are
    the first prompts' texts; `done` prompts are complete (all); `noise` makes pictures that compress badly.

    A candidate's picture has the colour (20 i, 40, 80) of its index i, so that a test can tell which one it sees.
    """
    keys = {"name": name, "output_path": str(root), "num_samples": candidates, "generation_mode": mode, "seed": seed}
    folder = RunFolder(RunConfig(ckpt="none", **keys, latent_verifier_name="made", dtype="float32", **config))
    pool = [_picture(index, side, np.random.default_rng(index) if noise else None) for index in range(candidates)]
    world, luck = np.random.default_rng(1), np.random.default_rng([seed, round(1000 * skill)])
    for number in range(prompts if done is None else done):
        tag = TAGS[number % len(TAGS)]
        text = texts[number] if number < len(texts) else f"a photo of {tag} number {number}"
        record = {"tag": tag, "include": [{"class": "circle", "count": 1}], "prompt": text}
        right = world.random(candidates) < 0.5
        rows = _rows(folder, Prompt(number, text, record), right, luck.normal(skill * (2 * right - 1)))
        winner = int(np.argmax([row["score"] for row in rows]))
        made = range(candidates) if mode == "dev" else [winner]
        for index in set(range(candidates)) - set(made):
            rows[index] = {key: rows[index][key] for key in rows[index] if key not in ("tag", "correct", "reason")}
        pictures = {index: pool[index] for index in made}
        folder.write_prompt(Prompt(number, text, record), winner, pictures, rows)
    _write_rest(folder, prompts, candidates)
    return folder.root


def _rows(folder: RunFolder, prompt: Prompt, right: np.ndarray, logits: np.ndarray) -> list[dict[str, Any]]:
    rows = []
    for index, (verdict, logit) in enumerate(zip(right, logits, strict=True)):
        p = float(1 / (1 + np.exp(-logit)))
        rows.append(
            {
                "correct_verifier": p > 0.5,
                "score": p if p > 0.5 else p - 1,
                "prompt": prompt.text,
                "gen_idx_gt": index,
                "filename": str(folder.picture(prompt.id, index)),
                "p_yes": p,
                "p_no": 1 - p,
                "tag": prompt.metadata["tag"],
                "correct": bool(verdict),
                "reason": "" if verdict else "expected circle>=1, found 0",
            }
        )
    return rows


def _picture(index: int, side: int, noise: np.random.Generator | None) -> bytes:
    if noise is None:
        return encode(Image.new("RGB", (side, side), (20 * index % 256, 40, 80)), "png")
    coarse = noise.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    return encode(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), "png")


def _write_rest(folder: RunFolder, prompts: int, candidates: int) -> None:
    seconds = {"encode": (0.01, 1), "prefix": (0.02 * candidates, candidates), "score": (0.03, candidates)}
    seconds |= {"finish": (0.04, 1), "decode": (0.05, 1)}
    stages = {name: {"seconds": spent, "calls": 1, "items": items} for name, (spent, items) in seconds.items()}
    write_json(
        folder.root / "run.json",
        {
            "config": json.loads(folder.config.model_dump_json()),
            "prompts": {"file": "prompts.json", "sha256": "0", "count": prompts, "judged": prompts},
            "geneval": {"runs": True, "reason": ""},
        },
    )
    write_json(
        folder.root / "timings.json", {"prompts": {f"{i:05d}": stages for i in range(prompts)}, "stages": stages}
    )
