"""Commands on small real models, and the files that each of them reads: whole, in one folder, by relative paths."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from tests.chaos.children import warm
from tests.judge import write_clip, write_judge
from vhs.records import TAGS

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "goldens" / "D"
MID_SIZE = ROOT / "configs" / "bench" / "mid_size"
TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "image_size": 28}
"""Sizes of architectures, which are otherwise as there."""
SMALL = 100_000
"""Bytes of a file that is copied for each case; larger ones, which no command writes, are linked."""
LONGEST = 300.0
"""Seconds that the making of whole files may take."""
PROMPTS = [
    {"tag": "single_object", "include": [{"class": "circle", "count": 1}], "prompt": "a photo of a circle"},
    {"tag": "counting", "include": [{"class": "star", "count": 2}], "prompt": "a photo of two stars"},
]
SIX = [{"tag": tag, "include": [{"class": "star", "count": 1}], "prompt": f"a photo of a {tag} star"} for tag in TAGS]
"""A prompt of every tag."""
REGISTRY = """LATENT_VERIFIER = {
    "clip": {"kind": "clip_score", "latent_verifier_path": "judge/clip"},
    "pick": {"kind": "pick_score", "latent_verifier_path": "clip", "processor": "clip"},
    "aesthetic": {"kind": "aesthetic", "latent_verifier_path": "clip", "head": "head.pth"},
    "read": {"kind": "scores", "scores": "out/case/scores/clip.jsonl"},
}
"""

NAMED = ("latent_verifier_path", "vision_tower", "normalization_mean_path", "normalization_variance_path",
         "resize_vocabulary")  # fmt: skip
"""Keys of the verifier in the run's configuration, which another one has not."""


@dataclass(frozen=True)
class Scene:
    """`words` of a command, the patterns of the files that it `reads`, the steps that make them (`needs`), what of
    them it would write itself (`without`), and how often it is chosen."""

    words: tuple[str, ...]
    reads: tuple[str, ...]
    needs: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    weight: int = 2
    before: Callable[[], None] = lambda: None


def inputs(folder: Path) -> dict[str, Any]:
    """A run's files, whole, in `folder`, and the keys that name them."""
    shutil.copytree(GOLDEN / "sana-sprint-tiny", folder / "generator")
    shutil.copytree(GOLDEN / "vhs-tiny-hidden", folder / "verifier")
    write_judge(folder / "judge")
    for name in ("mean", "variance"):
        shutil.copyfile(GOLDEN / f"block_7_{name}_bf16.pt", folder / f"block_7_{name}.pt")
    (folder / "prompts.json").write_text(json.dumps(PROMPTS))
    return keys(f"{folder}/")


def keys(folder: str = "") -> dict[str, Any]:
    """The keys of a run on the files of `inputs`, whose paths start with `folder`."""
    return {
        "name": "case",
        "ckpt": f"{folder}generator",
        "output_path": f"{folder}out",
        "annotation": f"{folder}prompts.json",
        "num_samples": 2,
        "image_width": 64,
        "image_height": 64,
        "latent_verifier_path": f"{folder}verifier",
        "vision_tower": "hidden_7",
        "resize_vocabulary": True,
        "normalization_mean_path": f"{folder}block_7_mean.pt",
        "normalization_variance_path": f"{folder}block_7_variance.pt",
        "use_generation_prompt": False,
        "device": "cpu",
        "dtype": "float32",
        "max_sequence_length": 32,
        "complex_human_instruction": False,
        "segmentation_ckpt_path": f"{folder}judge/detector",
        "object_names": f"{folder}judge/names.txt",
        "detector_size": [64, 64],
        "color_classifier": f"local-dir:{folder}judge/clip",
    }


def configurations() -> dict[str, dict[str, Any]]:
    """The commands' configurations by the names of their files."""
    data = {"data": ["set"]}
    train = {"name": "t", "output_path": "trained", "init": "verifier", "batch_size": 2, "max_steps": 2,
             "save_every": 1, "eval_fraction": 0, "tracker": "none", "decontaminate": False, **data}  # fmt: skip
    statistics = {f"normalization_{one}_path": f"statistics/block_7_{one}_bf16.pt" for one in ("mean", "variance")}
    evaluate = {**data, "verifier": "verifier", "device": "cpu", **statistics}
    stages = [
        {"name": "statistics", "command": "normalize", "config": "normalize.yaml", "set": ["output=measured"]},
        {"name": "align", "command": "train", "config": "align.yaml", "set": ["output_path=piped"]},
        {"name": "evaluate", "command": "evaluate", "config": "evaluate.yaml"},
    ]
    architectures = {"latent": {"architecture": "verifier.json"}, "hidden_7": {"architecture": "verifier.json"},
                     "clip": {"architecture": "verifier.json", "tower": "tower.json"}}  # fmt: skip
    bench = {"name": "bench", "run": "run.yaml", "num_samples": [2], "repeats": 1, "output_path": "measured",
             "device": "cpu", "dtype": "float32"}  # fmt: skip
    own = {"latent_verifier_path": "verifier", "vision_tower": "hidden_7", "resize_vocabulary": True}
    row = train | {"output_path": "outputs/paper", "normalization": None, **statistics}
    return {
        "bench": {**bench, "verifiers": {"hidden_7": own}},
        "bench random": {**bench, "verifiers": architectures, "random_weights": True},
        "configs/tiny_ablations/align": {**row, "stage": "align", "name": "align", "captions": "made.jsonl"},
        "configs/tiny_ablations/finetune": {**row, "stage": "finetune", "name": "finetune", "labels": "known.jsonl",
                                            "init": "outputs/paper/align/checkpoint"},
        "configs/tiny_ablations/evaluate": {**evaluate, "labels": "known.jsonl", "best_of": [1, 2], "resamples": 100,
                                            "output": "outputs/paper/finetune.json"},
        "configs/tiny_ablations/evaluate_shipped": {**evaluate, "labels": "known.jsonl", "best_of": [1, 2],
                                                    "resamples": 100, "output": "outputs/paper/shipped.json"},
        "clip_score": {"task": "clip_score", **data, "captions": "made.jsonl", "pairs": "pairs.json",
                       "pairs_pictures": ".", "model": "clip", "output": "clip_score.json", "device": "cpu"},
        "run": keys() | {"generation_mode": "dev"},
        "collect": {"run": "run.yaml", "annotation": "prompts.json", "output": "set", "candidates": 2, "latent": True,
                    "prompts_per_shard": 1, "pictures": "png", "reserve_gib": 0, "dtype": "float32"},
        "normalize": {**data, "output": "statistics"},
        "verdicts": {"task": "verdicts", **data, "judge": "run.yaml"},
        "captions": {"task": "captions", **data, "judge": "run.yaml", "backend": "detector", "min_score": 0.1},
        "metadata": {"task": "metadata", "annotation": "prompts.json", "output": "records.json", "on_error": "skip",
                     "object_names": "judge/names.txt"},
        "prompts": {"task": "prompts", "format": "llava", "source": "llava.json", "output": "texts.json"},
        "align": {"stage": "align", "captions": "made.jsonl", **train},
        "finetune": {"stage": "finetune", "labels": "known.jsonl", **train, **statistics},
        "evaluate": {**evaluate, "labels": "known.jsonl", "output": "found.json", "best_of": [1, 2], "resamples": 100},
        "say": {**evaluate, "task": "captions", "output": "said.jsonl", "max_tokens": 4},
        "pipeline": {"record": "record.json", "stages": stages},
    }  # fmt: skip


def scenes() -> dict[str, Scene]:
    """Every command by a name."""

    def of(name: str, file: str | None = None, *more: str) -> tuple[str, ...]:
        return (name, "--config", f"{file or name}.yaml", *more)

    model = ("generator/*/*", "generator/*.json")
    judge = ("judge/*/*", "judge/names.txt")
    sets = ("set/index.json", "set/prompts.jsonl", "set/shards/*")
    statistics = ("statistics/*.pt",)
    run = ("out/case/run.json", "out/case/gen_eval_case/*/samples/*", "out/case/gen_eval_case/*.json")
    pictures = ("--pictures", "pictures.csv", "registry=registry.py")
    chosen = ("registry=registry.py", *(f"{key}=null" for key in NAMED))
    return {
        "run": Scene(of("run"), (*model, *judge, "verifier/*", "*.pt", "prompts.json", "run.yaml"), weight=12),
        "dry": Scene(of("run", None, "--dry-run"), ("run.yaml", "prompts.json", *model, "verifier/*.json"), weight=1),
        "again": Scene(of("run", None, "cont=true", "re_eval=true", "detector_size=[96,64]"),
                       (*run, "out/case/*.json"), ("run",)),
        "read": Scene(of("run", None, *chosen, "latent_verifier_name=read", "name=read"),
                      ("out/case/scores/clip.jsonl",), ("run", "score run"), weight=1),
        "collect": Scene(of("collect"), ("collect.yaml", "run.yaml", "prompts.json", *model), weight=3),
        "collect on": Scene(of("collect"), ("set/index.json", "set/prompts.jsonl"), ("collect",),
                            ("set/shards/shard_00001.safetensors",), weight=1),
        "normalize": Scene(of("normalize"), ("normalize.yaml", *sets), ("collect",), weight=3),
        "verdicts": Scene(of("label", "verdicts"), ("verdicts.yaml", "run.yaml", *sets, *judge), ("collect",)),
        "captions": Scene(of("label", "captions"), ("captions.yaml", *sets, *judge), ("collect",)),
        "metadata": Scene(of("label", "metadata"), ("metadata.yaml", "prompts.json", "judge/names.txt")),
        "prompts": Scene(of("label", "prompts"), ("prompts.yaml", "llava.json"), weight=1),
        "align": Scene(of("train", "align"), ("align.yaml", "verifier/*", "set/made.jsonl", *sets), ("collect",),
                       weight=5),
        "finetune": Scene(of("train", "finetune"), ("finetune.yaml", "verifier/*", "set/known.jsonl", *statistics,
                                                    *sets), ("collect", "normalize"), weight=5),
        "train on": Scene(of("train", "align", "cont=true"), ("trained/t/*.json*", "trained/t/state/*"),
                          ("collect", "align"), weight=3),
        "evaluate": Scene(of("evaluate"), ("evaluate.yaml", "verifier/*", "set/known.jsonl", *statistics, *sets),
                          ("collect", "normalize"), weight=5),
        "say": Scene(of("evaluate", "say"), ("say.yaml", "verifier/*"), ("collect", "normalize"), weight=1),
        "pipeline": Scene(of("pipeline"), ("pipeline.yaml", "normalize.yaml", "align.yaml", "evaluate.yaml"),
                          ("collect", "normalize")),
        "plan": Scene(of("pipeline", None, "--plan", "--rates", "record.json"), ("pipeline.yaml", "record.json"),
                      ("collect", "pipeline"), weight=1),
        "geneval": Scene(("geneval", "--images", "out/case", "--config", "run.yaml", "--no-self-check", "--all"),
                         (*run, *judge, "run.yaml"), ("run",), weight=3),
        "geneval folder": Scene(("geneval", "--images", "laid", "--config", "run.yaml", "--no-self-check"),
                                ("laid/*/metadata.jsonl", "laid/*/samples/*", "laid/results.jsonl*"),
                                ("run", "export", "geneval folder")),
        "geneval table": Scene(("geneval", "--images", ".", "--prompts", "pictures.csv", "--config", "run.yaml",
                                "--no-self-check", "--out", "judged.jsonl"), ("pictures.csv", "*.png"), ("run",),
                               weight=1),
        "geneval compare": Scene(("geneval", "--compare", "laid/results.jsonl", "other.jsonl"),
                                 ("laid/results.jsonl", "other.jsonl"), ("run", "export", "geneval folder"), weight=1),
        "export": Scene(("geneval", "--export", "out/case", "--to", "laid"), run, ("run",), ("laid",), weight=1),
        "rank": Scene(("rank", *pictures, "--verifier", "clip", "--out", "ranked", "--copy"),
                      ("pictures.csv", "*.png", "judge/clip/*"), ("run",), weight=3),
        "score": Scene(("score", *pictures, "--verifiers", "clip", "--out", "scores"),
                       ("pictures.csv", "*.png", "judge/clip/*", "scores/*"), ("run", "score")),
        "score run": Scene(("score", "out/case", "--verifiers", "clip", "registry=registry.py"),
                           (*run, "judge/clip/*"), ("run",), weight=3),
        "compare": Scene(("compare", "out/case", "out/case", "--out", "compared"), (*run, "out/case/*.json"), ("run",)),
        "verifiers": Scene(("compare", "out/case", "--verifiers", "clip"), (*run, "out/case/scores/*"),
                           ("run", "score run"), weight=1),
        "report": Scene(("report", "out/case"), (*run, "out/case/*.json"), ("run",)),
        "tables": Scene(("tables", "--world", "tiny", "--table", "main", "--rows", "main_200_single", "--seeds", "1",
                         "output_path=outputs", "annotation=six.json"),
                        ("outputs/main_200_single/*/run.json", "outputs/main_200_single/*/summary.json",
                         "outputs/main_200_single/*/gen_eval*/*/samples/*_metadata.json"), ("tables",), weight=1),
        "bench": Scene(("benchmark", "run", "--config", "bench.yaml"),
                       ("bench.yaml", "run.yaml", "verifier/*", "*.pt", *model), ("bench",), weight=1),
        "bench random": Scene(("benchmark", "run", "--config", "bench random.yaml"),
                              ("bench random.yaml", "verifier.json", "tower.json", "run.yaml", "generator/*/*.json"),
                              ("bench random",), weight=1),
        "bench flops": Scene(("benchmark", "run", "--config", "bench random.yaml", "--flops"),
                             ("bench random.yaml", "verifier.json", "tower.json", "generator/*/*.json"),
                             ("bench flops",), weight=1),
        "bench judge": Scene(("benchmark", "judge", "--config", "run.yaml", "--pictures", "2", "--repeats", "1",
                              "--device", "cpu"), ("run.yaml", *judge), weight=1),
        "bench stop": Scene(("benchmark", "stop", "--run", "out/case", "--out", "stopped"),
                            (*run, "out/case/*.json"), ("run",), weight=1),
        "ablations": Scene(("ablations", "finetune"), ("configs/tiny_ablations/*.yaml", "verifier/*", *statistics),
                           ("collect", "normalize", "ablations"), ("outputs/paper/finetune.json",)),
        "ablations shipped": Scene(("ablations", "shipped"), ("configs/tiny_ablations/evaluate*.yaml",
                                                              "set/known.jsonl", "verifier/*", *sets),
                                   ("collect", "normalize")),
        "ablations table": Scene(("ablations", "--table"), ("outputs/paper/*.json",),
                                 ("collect", "normalize", "ablations"), weight=1),
        "demo": Scene(("demo", "--config", "run.yaml"), ("run.yaml", "verifier/*", "*.pt", *model), weight=2,
                      before=_without_gradio),
        "clip score": Scene(of("label", "clip_score"),
                            ("clip_score.yaml", "clip/*", "set/made.jsonl", "pairs.json", "*.png", *sets),
                            ("collect", "run"), weight=3),
        "clip run": Scene(of("run", None, *chosen, "latent_verifier_name=clip"),
                          ("run.yaml", "prompts.json", "judge/clip/*")),
        "pick": Scene(("rank", *pictures, "--verifier", "pick", "--out", "ranked"), ("clip/*",), ("run",), weight=1),
        "aesthetic": Scene(("rank", *pictures, "--verifier", "aesthetic", "--out", "ranked"),
                           ("clip/*", "head.pth"), ("run",), weight=1),
        "download": Scene(of("download", "run"), ("run.yaml", "prompts.json", *model), weight=1),
    }  # fmt: skip


class World:
    """Whole files, each made by the command that makes it when it is first asked for, and linked into cases."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.scenes = folder, scenes()
        folder.mkdir()
        inputs(folder)
        (folder / "registry.py").write_text(REGISTRY)
        (folder / "six.json").write_text(json.dumps(SIX))
        (folder / "llava.json").write_text(json.dumps([
            {"id": str(i), "image": "a.png", "conversations": [{"from": "human", "value": "Say.\n<image>"},
                                                               {"from": "gpt", "value": f"a picture of {i} cats"}]}
            for i in range(3)]))  # fmt: skip
        write_clip(folder / "clip")
        _head(folder)
        for name in ("verifier", "tower"):
            values = json.loads((MID_SIZE / f"{name}.json").read_text())
            (folder / f"{name}.json").write_text(json.dumps(values | {k: v for k, v in TINY.items() if k in values}))
        (folder / "configs" / "tiny_ablations").mkdir(parents=True)
        for name, values in configurations().items():
            (folder / f"{name}.yaml").write_text(json.dumps(values), encoding="utf-8")  # YAML too
        self.layers = {"": sorted(folder.rglob("*"))}
        """What each command has made; first what is there before."""

    def case(self, name: str, folder: Path) -> Scene:
        """The files of a command in a folder of its own."""
        scene = self.scenes[name]
        for step in scene.needs:
            self._make(step)
        folder.mkdir(parents=True)
        for layer in ("", *scene.needs):
            for file in self.layers[layer]:
                _take(file, folder / file.relative_to(self.folder))
        for name in scene.without:
            place = folder / name
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        return scene

    def _make(self, name: str) -> None:
        """Has a command make its files."""
        if name in self.layers:
            return
        scene = self.scenes[name]
        for step in scene.needs:
            if step != name:
                self._make(step)
        words = (*scene.words, "--run") if name == "tables" else scene.words
        before = set(self.folder.rglob("*"))
        ended = warm(words, self.folder, LONGEST)
        assert ended.code == 0, (name, ended)
        for step in AFTER.get(name, ()):
            step(self.folder)
        self.layers[name] = sorted(set(self.folder.rglob("*")) - before)


def _take(file: Path, to: Path) -> None:
    if file.is_dir():
        to.mkdir(parents=True, exist_ok=True)
    elif file.stat().st_size > SMALL:
        to.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, to)
    else:
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)


def _without_gradio() -> None:
    """The demo's page comes after what the tests of it need no gradio for."""
    sys.modules["gradio"] = MagicMock()


def _known(folder: Path) -> None:
    """Verdicts of both kinds and captions of the collected pictures, in files that no command here writes."""
    rows = [{"prompt_id": i // 2, "candidate": i % 2, "correct": i % 2 == 0, "caption": "a star"} for i in range(4)]
    for name in ("known.jsonl", "made.jsonl"):
        (folder / "set" / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _pictures(folder: Path) -> None:
    """Pictures of any names and a table of them."""
    found = sorted((folder / "out" / "case").glob("gen_eval_case/*/samples/img_*.png"))
    lines = ["file,prompt"]
    for number, file in enumerate(found):
        shutil.copyfile(file, folder / f"{number}.png")
        lines.append(f"{number}.png,{PROMPTS[number // 2]['prompt']}")
    (folder / "pictures.csv").write_text("\n".join(lines))
    (folder / "pairs.json").write_text(json.dumps([
        {"id": "0", "image": "0.png", "conversations": [{"from": "human", "value": "Say.\n<image>"},
                                                        {"from": "gpt", "value": "a star"}]}]))  # fmt: skip


def _unfinished(folder: Path) -> None:
    """The training of one that was stopped after its last state."""
    place = folder / "trained" / "t"
    record = json.loads((place / "train.json").read_text())
    (place / "train.json").write_text(json.dumps({key: record[key] for key in ("config", "reads")}))
    shutil.rmtree(place / "checkpoint")


def _head(folder: Path) -> None:
    """The aesthetic predictor's linear layer, for embeddings of the small CLIP model."""
    import torch

    torch.save(torch.nn.Linear(24, 1).state_dict(), folder / "head.pth")


def _other(folder: Path) -> None:
    shutil.copyfile(folder / "laid" / "results.jsonl", folder / "other.jsonl")


AFTER: dict[str, Iterable[Callable[[Path], None]]] = {
    "collect": (_known,),
    "run": (_pictures,),
    "align": (_unfinished,),
    "geneval folder": (_other,),
}
"""What the files of a command are made into besides."""
