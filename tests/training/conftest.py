"""A small language model (golden A's) and collected sets whose features tell the verdict, or do not."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch

from vhs.records import Prompt
from vhs.training.config import TrainConfig
from vhs.training.data.layout import Layout
from vhs.training.data.store import begin, write_shard

GOLDENS = Path(__file__).parents[1] / "goldens"
VERIFIER = GOLDENS / "A" / "vhs-tiny-hidden"
TOKENS, WIDTH = 4, 48
OBJECTS = ("bench", "cow", "clock", "carrot", "bird", "truck", "vase", "kite", "cup", "bowl", "tie", "bed")


def _write_set(
    folder: Path, prompts: int = 10, candidates: int = 4, per_shard: int = 4, seed: int = 0, dtype: str = "float32"
) -> Path:
    """Prompts `a photo of a <object>` of different lengths, half of the candidates right; the feature `hidden_7` has
    +1 or -1 in its first channels by the verdict, noise elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    texts = [f"a photo of {'a ' * (1 + i // len(OBJECTS))}{OBJECTS[i % len(OBJECTS)]}" for i in range(prompts)]
    records = [
        {"tag": "single_object", "include": [{"class": OBJECTS[i % len(OBJECTS)], "count": 1}], "prompt": text}
        for i, text in enumerate(texts)
    ]
    given = [Prompt(100 + i, text, record) for i, (text, record) in enumerate(zip(texts, records, strict=True))]
    layout = Layout({"hidden_7": (TOKENS, WIDTH), "latent": (WIDTH, 2, 2)}, dtype, prompts, candidates, per_shard)
    labels = []
    for shard in begin(folder, layout, given):
        rows = [(given[p], c) for p in layout.prompts_of(shard) for c in range(candidates)]
        right = torch.tensor([(p.id + c) % 2 == 0 for p, c in rows])
        hidden = torch.randn(len(rows), TOKENS, WIDTH, generator=generator)
        hidden[:, :, :8] = torch.where(right, 1.0, -1.0)[:, None, None]
        latent = hidden.transpose(1, 2).reshape(len(rows), WIDTH, 2, 2)
        write_shard(
            folder, shard, {"hidden_7": hidden.to(getattr(torch, dtype)), "latent": latent.to(getattr(torch, dtype))}
        )
        labels += [
            {"prompt_id": p.id, "candidate": c, "correct": bool(r), "reason": ""}
            for (p, c), r in zip(rows, right, strict=True)
        ]
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels))
    return folder


@pytest.fixture(scope="session")
def write_set():
    """`write_set(folder, prompts=..., candidates=...)`: see `_write_set`."""
    return _write_set


@pytest.fixture(scope="session")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_set(tmp_path_factory.mktemp("sets") / "collected", prompts=20)


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain Qwen2ForCausalLM folder: golden A's language model and tokenizer, without its connector."""
    from vhs.verifiers.checkpoint import read_tensors, read_verifier_config
    from vhs.verifiers.language_model import load_tokenizer
    from vhs.verifiers.llava import load_parts

    folder = tmp_path_factory.mktemp("language") / "model"
    llm, _ = load_parts(read_verifier_config(VERIFIER), read_tensors(VERIFIER))
    llm.save_pretrained(folder)
    load_tokenizer(VERIFIER).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def config_in(collected: Path, language_model: Path):
    """`config_in(folder, stage="align", ...)`: a short training on the collected set, into `folder`."""

    def build(folder: Path, **changes) -> TrainConfig:
        values = {
            "stage": "finetune",
            "name": "run",
            "output_path": str(folder),
            "data": [str(collected)],
            "decontaminate": False,  # its prompts are of GenEval's shape, and some are GenEval's
            "init": str(language_model),
            "eval_fraction": 0.2,
            "batch_size": 16,
            "micro_batch": 16,
            "epochs": 2,
            "learning_rate": 3e-3,
            "tracker": "none",
            "log_every": 1,
            "save_dtype": "float32",
        }
        return TrainConfig(**(values | changes))

    return build


@pytest.fixture
def config(config_in, tmp_path: Path):
    """`config_in` with a folder of the test's own."""
    return functools.partial(config_in, tmp_path / "out")
