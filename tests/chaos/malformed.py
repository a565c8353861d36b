"""Seeded malformed inputs: each is refused in one line or taken, never a traceback, a hang, or code that runs.

    python -m tests.chaos.malformed                  cases 0 to 299
    python -m tests.chaos.malformed --cases 3000
    python -m tests.chaos.malformed --first 17 --cases 1

A case copies small real models and a collected set, damages one file as its number says, and does, in this process,
what a command would: of three cases one is a run's (resolving and loading), two are normalize's, train's or evaluate's
own. The last lines count what came of the cases, and print the command of each that ended otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from vhs.config.run import RunConfig, load_config
from vhs.errors import VHSError
from vhs.records import Prompt
from vhs.training.data.layout import Layout
from vhs.training.data.store import begin, write_shard

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "goldens" / "D"
LIMIT = 60
"""Seconds after which a case counts as one that hangs."""
PROMPTS = [
    {"tag": "single_object", "include": [{"class": "circle", "count": 1}], "prompt": "a photo of a circle"},
    {"tag": "counting", "include": [{"class": "star", "count": 2}], "prompt": "a photo of two stars"},
]
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 10**9, 10**30, -(10**9), 0.5, 1e308, float("nan"), float("inf"), "", "x", "\ud800",
    "mlp999999999x_gelu", "mlp2x_gelu_attn_layers_99999_heads_4", "hidden_99", "../..", "0" * 5000, [], {}, [[]],
    [0], [None], {"a": 1}, [1] * 1000,
)  # fmt: skip


def inputs(folder: Path) -> dict[str, Any]:
    """A run's files, whole, in `folder`, and the keys that name them."""
    shutil.copytree(GOLDEN / "sana-sprint-tiny", folder / "generator")
    shutil.copytree(GOLDEN / "vhs-tiny-hidden", folder / "verifier")
    shutil.copytree(ROOT / "ckpts" / "tiny" / "color_clip", folder / "judge" / "clip")
    shutil.copytree(ROOT / "ckpts" / "tiny" / "detector", folder / "judge" / "detector")
    shutil.copyfile(ROOT / "data" / "tiny_object_names.txt", folder / "judge" / "names.txt")
    for name in ("mean", "variance"):
        shutil.copyfile(GOLDEN / f"block_7_{name}_bf16.pt", folder / f"block_7_{name}.pt")
    (folder / "prompts.json").write_text(json.dumps(PROMPTS))
    return {
        "name": "case",
        "ckpt": str(folder / "generator"),
        "output_path": str(folder / "out"),
        "annotation": str(folder / "prompts.json"),
        "num_samples": 2,
        "image_width": 64,
        "image_height": 64,
        "latent_verifier_path": str(folder / "verifier"),
        "vision_tower": "hidden_7",
        "resize_vocabulary": True,
        "normalization_mean_path": str(folder / "block_7_mean.pt"),
        "normalization_variance_path": str(folder / "block_7_variance.pt"),
        "use_generation_prompt": False,
        "device": "cpu",
        "dtype": "float32",
        "max_sequence_length": 32,
        "complex_human_instruction": False,
        "segmentation_ckpt_path": str(folder / "judge" / "detector"),
        "object_names": str(folder / "judge" / "names.txt"),
        "detector_size": [64, 64],
        "color_classifier": f"local-dir:{folder / 'judge' / 'clip'}",
    }


def change_json(file: Path, rng: random.Random) -> str:
    """One value, at any depth, becomes another; or a key is renamed or lost."""
    value = json.loads(file.read_text(encoding="utf-8"))
    inner, path = value, []
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = rng.choice(keys)
        path.append(str(key))
        deeper = isinstance(inner[key], (dict, list)) and len(inner[key])
        if not deeper or rng.random() < 0.2:
            break
        inner = inner[key]
    action = rng.choice(("set", "set", "set", "lose", "rename"))
    if action == "set":
        inner[key] = rng.choice(VALUES)
    elif action == "rename" and isinstance(inner, dict):
        inner[f"{key}x"] = inner.pop(key)
    else:
        del inner[key]
    file.write_text(json.dumps(value))
    return f"{action} {'.'.join(path)}" + (f" = {str(inner[key])[:40]!r}" if action == "set" else "")


def change_text(file: Path, rng: random.Random) -> str:
    """A text that is nested, empty, binary, cut, or has a character in a wrong place."""
    text = file.read_bytes()
    place = rng.randrange(1, len(text))
    name, data = rng.choice(
        [
            ("nested", b"[" * 100_000),
            ("nested objects", b'{"a":' * 100_000),
            ("empty", b""),
            ("null", b"null"),
            ("a list", b"[]"),
            ("a text", b'"x"'),
            ("zeros", b"\0" * 1000),
            ("not UTF-8", b"\xff\xfe" + text),
            (f"cut at {place}", text[:place]),
            (f"twice from {place}", text[:place] + text),
            (f"a brace at {place}", text[:place] + b"}" + text[place:]),
            (f"lost {place}", text[:place] + text[place + 1 :]),
        ]
    )
    file.write_bytes(data)
    return name


def change_bytes(file: Path, rng: random.Random) -> str:
    """A weight file that is cut, has a flipped bit, or a header with another number or word in it."""
    data = bytearray(file.read_bytes())
    length = int.from_bytes(data[:8], "little") if file.suffix == ".safetensors" else min(len(data), 600)
    action = rng.choice(("cut", "flip", "flip in the header", "flip in the header", "header", "length", "grow"))
    if action == "cut":
        data = data[: rng.randrange(len(data))]
    elif action == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif action == "flip in the header":
        data[rng.randrange(min(8 + length, len(data)))] ^= 1 << rng.randrange(8)
    elif action == "header":
        old, new = rng.choice(
            ((b"BF16", b"I64 "), (b"F32", b"I32"), (b"F32", b"BOO"), (b"[", b"{"), (b'"shape"', b'"sha"'))
        )
        data = bytearray(bytes(data).replace(old, new, 1))
    elif action == "length":
        data[:8] = rng.choice((0, 2**34, 2**63, length + 1, 1)).to_bytes(8, "little")
    else:
        data += b"\0" * rng.randrange(1, 100)
    file.write_bytes(data)
    return action


def change_prompts(file: Path, rng: random.Random) -> str:
    """A prompt file of another kind, well formed or not."""
    ending, text = rng.choice(
        [
            (".csv", 'prompt\n"a'),
            (".csv", "prompt,prompt\na,b\n"),
            (".csv", "id\n1\n"),
            (".csv", "prompt\n" + "x" * 200_000),
            (".tsv", "prompt\ta\nb\n"),
            (".txt", "a cat <|im_end|>"),
            (".txt", "a <image> cat"),
            (".txt", "word " * 40_000),
            (".txt", "\x1b[2J"),
            (".jsonl", '{"prompt": "\\ud800"}'),
            (".jsonl", '{"prompt": "a", "prompt": "b"}'),
            (".jsonl", '{"prompt": ["a"]}'),
            (".jsonl", '{"prompt": "a", "tag": ["colors"], "include": [1]}'),
            (".jsonl", '{"prompt": "a", "tag": {}, "include": {"class": "star"}}'),
            (".jsonl", '{"prompt": "a", "tag": "colors", "include": [{"class": [], "count": 1}]}'),
            (".jsonl", '{"prompt": "a", "tag": "colors", "include": [{"class": "star", "count": 1e400}]}'),
            (".jsonl", '{"prompt": "a", "id": {"a": []}}'),
            (".jsonl", "9" * 5000),
            (".json", '["a", ' + "[" * 100_000),
        ]
    )
    other = file.with_suffix(ending)
    if other != file:
        file.unlink()
    other.write_text(text)
    return f"{ending} {text[:50]!r}"


def change_yaml(file: Path, rng: random.Random) -> str:
    """A key of the configuration with another value, or a file that is not YAML."""
    if rng.random() < 0.4:
        return change_text(file, rng)
    values = json.loads(file.read_text())
    key = rng.choice(sorted(values))
    values[key] = rng.choice(VALUES)
    file.write_text(json.dumps(values))  # YAML too
    return f"{key} = {str(values[key])[:40]!r}"


def damage(folder: Path, config: Path, rng: random.Random) -> str:
    """Damages one file; says which and how."""
    small = [file for file in folder.rglob("*.json") if file.stat().st_size < 300_000 and "prompts" not in file.name]
    weights = [file for kind in ("*.safetensors", "*.pt") for file in folder.rglob(kind)]
    choices: list[tuple[Callable[[Path, random.Random], str], list[Path], int]] = [
        (change_json, [file for file in small if "config" in file.name or "index" in file.name], 8),
        (change_json, small, 2),
        (change_text, [*small, *folder.rglob("*.txt")], 3),
        (change_bytes, weights, 4),
        (change_prompts, [folder / "prompts.json"], 2),
        (change_json, [folder / "prompts.json"], 2),
        (change_text, [folder / "prompts.json"], 1),
        (change_yaml, [config], 3),
    ]
    change, files, _ = rng.choices(choices, [weight for _, _, weight in choices])[0]
    file = rng.choice(sorted(files))
    what = change(file, rng)
    return f"{file.relative_to(folder)}: {what}"


def load_all(config: RunConfig, part: str | None = None) -> None:
    """What a run resolves and loads before its first candidate; of the models, `part` alone."""
    from vhs.resolve import resolve

    run = resolve(config)
    if part in (None, "generator"):
        run.models.load_generator()
    if part in (None, "verifier"):
        run.models.load_verifier()
    if part in (None, "judge"):
        for judge in run.judges:
            judge.load()


def set_inputs(folder: Path) -> dict[str, dict[str, Any]]:
    """A collected set with verdicts and captions in `folder`, and the keys of the commands that read it."""
    prompts = [Prompt(i, f"a photo of a {'red ' * i}star", PROMPTS[0]) for i in range(4)]
    layout = Layout({"hidden_7": (4, 48)}, "float32", 4, 2, 2, settings={"seed": 1})
    generator = torch.Generator().manual_seed(0)
    for shard in begin(folder / "set", layout, prompts):
        ids = torch.tensor([prompt for prompt in layout.prompts_of(shard) for _ in range(2)])
        hidden = torch.randn(len(ids), 4, 48, generator=generator)
        write_shard(folder / "set", shard, {"hidden_7": hidden, "prompt": ids})
    rows = [{"prompt_id": i // 2, "candidate": i % 2, "correct": i % 2 == 0, "caption": "a star"} for i in range(8)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    for name in ("labels.jsonl", "captions.jsonl"):
        (folder / "set" / name).write_text(lines)
    shutil.copytree(GOLDEN.parent / "A" / "vhs-tiny-hidden", folder / "verifier")
    data = {"data": [str(folder / "set")]}
    train = {"name": "t", "output_path": str(folder / "out"), "init": str(folder / "verifier"), "batch_size": 2,
             "max_steps": 1, "eval_fraction": 0, "tracker": "none", **data}  # fmt: skip
    return {
        "normalize": {**data, "output": str(folder / "statistics")},
        "align": {"stage": "align", **train},
        "finetune": {"stage": "finetune", **train},
        "evaluate": {**data, "verifier": str(folder / "verifier"), "output": str(folder / "found.json"),
                     "best_of": [1, 2], "resamples": 100, "device": "cpu"},
    }  # fmt: skip


def do_training(name: str, file: Path) -> None:
    """What the command does with a configuration file."""
    from vhs.config.yamlfile import load
    from vhs.training.commands import run_evaluate, run_train
    from vhs.training.config import EvaluateConfig, TrainConfig
    from vhs.training.data.commands import run_normalize
    from vhs.training.data.tasks import NormalizeConfig

    kinds = {
        "normalize": (NormalizeConfig, run_normalize),
        "evaluate": (EvaluateConfig, run_evaluate),
    }
    kind, run = kinds.get(name, (TrainConfig, run_train))
    run(load(kind, file), lambda line: None)


def damage_set(folder: Path, config: Path, rng: random.Random) -> str:
    """Damages one file that a training command reads; says which and how."""
    lines = [folder / "set" / name for name in ("labels.jsonl", "captions.jsonl", "prompts.jsonl")]
    jsons = [folder / "set" / "index.json", *(folder / "verifier").glob("*config.json")]
    weights = [*(folder / "set" / "shards").iterdir(), folder / "verifier" / "model.safetensors"]
    choices: list[tuple[Callable[[Path, random.Random], str], list[Path], int]] = [
        (change_line, lines, 6),
        (change_text, [*lines, *jsons], 3),
        (change_json, jsons, 6),
        (change_bytes, weights, 4),
        (change_yaml, [config], 5),
    ]
    change, files, _ = rng.choices(choices, [weight for _, _, weight in choices])[0]
    file = rng.choice(sorted(files))
    return f"{file.relative_to(folder)}: {change(file, rng)}"


def change_line(file: Path, rng: random.Random) -> str:
    """One line of a file of JSON objects is changed as `change_json` does, or said twice."""
    lines = file.read_text(encoding="utf-8").splitlines()
    number = rng.randrange(len(lines))
    if rng.random() < 0.2:
        file.write_text("\n".join([*lines, lines[number]]))
        return f"line {number + 1} twice"
    single = file.with_name("line.json")
    single.write_text(lines[number])
    what = change_json(single, rng)
    lines[number] = single.read_text()
    single.unlink()
    file.write_text("\n".join(lines))
    return f"line {number + 1}: {what}"


def one(number: int, work: Path) -> tuple[str, str, str]:
    """(outcome, what was damaged, what was said) of a case: refused, taken, traceback or hang."""
    rng, folder = random.Random(number), work / f"{number:05d}"
    folder.mkdir()
    what, do = _run_case(folder, rng) if number % 3 == 0 else _training_case(folder, rng)
    try:
        signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(LIMIT)
        do()
        return "taken", what, ""
    except VHSError as error:
        many = "refused" if len(str(error).splitlines()) == 1 else "refused in several lines"
        return many, what, str(error)
    except _Hang:
        return "hang", what, f"over {LIMIT} s"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", what, f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"
    finally:
        signal.alarm(0)
        shutil.rmtree(folder, ignore_errors=True)


def _run_case(folder: Path, rng: random.Random) -> tuple[str, Callable[[], None]]:
    config = folder / "run.yaml"
    config.write_text(json.dumps(inputs(folder)))
    what = damage(folder, config, rng)
    prompts = next(iter(folder.glob("prompts.*")))
    overrides = [] if prompts.suffix == ".json" else [f"annotation={prompts}"]
    return what, lambda: load_all(load_config(config, overrides))


def _training_case(folder: Path, rng: random.Random) -> tuple[str, Callable[[], None]]:
    config, found = folder / "training.yaml", set_inputs(folder)
    name = rng.choice(sorted(found))
    config.write_text(json.dumps(found[name]))
    what = damage_set(folder, config, rng)
    return f"{name}: {what}", lambda: do_training(name, config)


def _too_long(number: int, frame: FrameType | None) -> None:
    raise _Hang


class _Hang(BaseException):
    """Not an Exception that a boundary would turn into a line."""


def run_cases(first: int, count: int, work: Path, say: Callable[[str], None] = print) -> Counter[str]:
    """Runs the cases, says what was wrong with each that did not hold; returns how many ended in which way."""
    outcomes: Counter[str] = Counter()
    for number in range(first, first + count):
        outcome, what, told = one(number, work)
        outcomes[outcome] += 1
        if outcome not in ("refused", "taken"):
            say(f"{outcome}: {what}: {told[:300]}\n    python -m tests.chaos.malformed --first {number} --cases 1")
        elif count == 1 or "VHS_CHAOS_ALL" in os.environ:
            say(f"{outcome}: {what}: {told[:300]}")
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, default=300)
    args = parser.parse_args()
    start = time.time()
    with tempfile.TemporaryDirectory() as work:
        outcomes = run_cases(args.first, args.cases, Path(work))
    held = outcomes["refused"] + outcomes["taken"]
    print(f"{held} of {args.cases} held ({dict(outcomes)}) in {time.time() - start:.0f} s")
    return 0 if held == args.cases else 1


if __name__ == "__main__":
    sys.exit(main())
