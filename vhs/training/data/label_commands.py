"""The tasks of label.py, one function each: from a configuration to files. See `vhs.training.commands` on results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from vhs.device import resolve_device, resolve_dtype
from vhs.errors import ConfigError, PromptError
from vhs.files import write_bytes
from vhs.paths import find
from vhs.processes import current_process
from vhs.training.data.store import CollectedSet
from vhs.training.data.tasks import CaptionTask, ClipScoreTask, LabelTask, MetadataTask, PromptsTask, VerdictTask

if TYPE_CHECKING:
    from vhs.geneval.evaluate import GenEval
    from vhs.processes import Process
    from vhs.training.data.captions import Captioner
    from vhs.training.data.language import ClipScorer

Say = Callable[[str], None]


@dataclass(frozen=True)
class VerdictCounts:
    """How many pictures got which verdict; `unjudged` ones are of prompts that GenEval has no record of."""

    yes: int
    no: int
    unjudged: int

    def line(self) -> str:
        return f"{self.yes} yes, {self.no} no, {self.unjudged} unjudged"


@dataclass(frozen=True)
class CaptionFiles:
    """The caption file of each set."""

    paths: tuple[Path, ...]

    def line(self) -> str:
        return ", ".join(map(str, self.paths))


@dataclass(frozen=True)
class ClipScores:
    """Mean CLIP-Score and number of pairs, with the prompts and with the captions."""

    model: str
    scores: Mapping[str, tuple[float, int]]

    def line(self) -> str:
        parts = (f"{kind} {mean:.1f} ({pairs} pairs)" for kind, (mean, pairs) in self.scores.items())
        return f"CLIP-Score with {self.model}: {', '.join(parts)}"


@dataclass(frozen=True)
class RecordCounts:
    """A file of GenEval's records: how many came from rules and from the model, and how many prompts have none."""

    path: Path
    by_rules: int
    by_model: int
    rejected: int

    def line(self) -> str:
        return f"{self.path}: {self.by_rules} records by rules, {self.by_model} by the model, {self.rejected} rejected"


@dataclass(frozen=True)
class PromptFile:
    """A prompt file and how many prompts are in it."""

    path: Path
    count: int

    def line(self) -> str:
        return f"{self.path}: {self.count} prompts"


def run_label(config: LabelTask, say: Say) -> Any:
    """Does the configured task; returns what that task's function returns."""
    tasks = {
        VerdictTask: run_verdicts,
        CaptionTask: run_captions,
        ClipScoreTask: run_clip_score,
        MetadataTask: run_metadata,
        PromptsTask: run_prompts,
    }
    return tasks[type(config)](config, say)


def run_verdicts(config: VerdictTask, say: Say) -> VerdictCounts | None:
    """GenEval's verdict on every picture of the sets; None on other processes than the first."""
    from vhs.training.data.labels import write_labels

    process, sets = current_process(config.timeout), _sets(config.data)
    for data in sets:
        if not any(prompt.judged for prompt in data.prompts):
            raise ConfigError(
                f"{data.folder}: GenEval can judge none of its {len(data.prompts)} prompts, since they have no record "
                "(tag, include); write records with task: metadata and collect with that file as annotation"
            )
    judge = _judge(config.judge, process)
    total = {"yes": 0, "no": 0, "unjudged": 0}
    with tqdm(total=sum(map(len, sets)) // process.count, desc="pictures", disable=not process.first) as bar:
        for data in sets:
            counts = write_labels(
                data,
                judge.judge_batch,
                config.output,
                source=config.judge,
                batch=config.batch,
                process=process,
                progress=bar.update,
            )
            total = {key: total[key] + counts.get(key, 0) for key in total}
    return VerdictCounts(**total) if process.first else None


def run_captions(config: CaptionTask, say: Say) -> CaptionFiles:
    """A caption of every picture of the sets."""
    from vhs.training.data.captions import write_captions

    process, sets = current_process(config.timeout), _sets(config.data)
    captioner, source = _captioner(config, process)
    with tqdm(total=sum(map(len, sets)) // process.count, desc="captions", disable=not process.first) as bar:
        for data in sets:
            write_captions(
                data, captioner, config.output, source=source, batch=config.batch, process=process, progress=bar.update
            )
    return CaptionFiles(tuple(data.folder / config.output for data in sets))


def _captioner(config: CaptionTask, process: Process) -> tuple[Captioner, str]:
    """What captions pictures, and what the unfinished parts of a file note as its source."""
    if config.backend == "detector":
        from vhs.training.data.captions import detector_captioner

        captioner = detector_captioner(_judge(config.judge, process), config.min_score)
        return captioner, f"detector {config.judge} {config.min_score}"
    from vhs.training.data.language import load_picture_model
    from vhs.training.data.tagger import paper_prompt

    question = config.question or paper_prompt("caption")
    device = resolve_device(config.device, process)
    model = load_picture_model(config.model, device, resolve_dtype(config.dtype, device), config.max_tokens)
    return lambda pictures: model(pictures, question), f"{config.model} {question}"


def run_clip_score(config: ClipScoreTask, say: Say) -> ClipScores:
    """Mean CLIP-Score of the pictures with their prompts and, where there are any, with their captions."""
    from vhs.training.data.labels import read_captions
    from vhs.training.data.language import load_clip_scorer

    sets = _sets(config.data)
    texts: dict[str, list[dict[int, str]]] = {"prompts": [read_captions(data, None) for data in sets]}
    if config.captions is not None:
        texts["captions"] = [read_captions(data, config.captions) for data in sets]
    scorer = load_clip_scorer(config.model, resolve_device(config.device))
    scores = {kind: _clip_scores(scorer, sets, said, kind, config) for kind, said in texts.items()}
    return ClipScores(config.model, {kind: (sum(found) / len(found), len(found)) for kind, found in scores.items()})


def _clip_scores(
    scorer: ClipScorer, sets: Sequence[CollectedSet], texts: Sequence[dict[int, str]], kind: str, config: ClipScoreTask
) -> list[float]:
    """The score of every picture with its text; `texts` has those of each set, by sample index."""
    scores: list[float] = []
    for data, said in zip(sets, texts, strict=True):
        indices = sorted(said)[: config.limit]
        for start in tqdm(range(0, len(indices), config.batch), desc=f"{kind}, batches"):
            part = indices[start : start + config.batch]
            scores += scorer([data.picture(index) for index in part], [said[index] for index in part])
    return scores


def run_metadata(config: MetadataTask, say: Say) -> RecordCounts:
    """GenEval's record of every prompt: by rules first, then by the model where one is configured."""
    from vhs.geneval.metadata import read_names
    from vhs.geneval.prompt_parser import PromptParser
    from vhs.prompts import read_prompts
    from vhs.training.data.tagger import ask_records

    names = read_names(find(config.object_names))
    prompts = list(dict.fromkeys(prompt.text for prompt in read_prompts(find(config.annotation))))
    parse = PromptParser(names)
    records: dict[str, dict[str, Any]] = {text: record for text in prompts if (record := parse(text))}
    rest = [text for text in prompts if text not in records]
    by_rules, rejected = len(records), []

    def reject(prompt: str, error: PromptError) -> None:
        if config.on_error == "stop":
            raise error
        rejected.append({"prompt": prompt, "reason": str(error)})

    if rest and config.backend == "model":
        from vhs.training.data.language import load_text_model

        device = resolve_device(config.device)
        dtype = resolve_dtype(config.dtype, device)
        model = load_text_model(config.model, device, dtype, config.max_tokens, config.batch)
        records |= {record["prompt"]: record for record in ask_records(rest, model, names, reject)}
    else:
        for text in rest:
            reject(text, PromptError(f"prompt {text!r}: not of GenEval's shape; backend: model asks an LLM"))
    _write_records(Path(config.output), [records[text] for text in prompts if text in records])
    if rejected:
        _write_lines(Path(f"{config.output}.rejected.jsonl"), rejected)
    return RecordCounts(Path(config.output), by_rules, len(records) - by_rules, len(rejected))


def run_prompts(config: PromptsTask, say: Say) -> PromptFile:
    """A prompt file from one of the paper's sets."""
    from vhs.training.data.prompt_sets import FORMATS

    items = FORMATS[config.format](find(config.source))[: config.limit]
    _write_records(Path(config.output), [item if isinstance(item, dict) else {"prompt": item} for item in items])
    return PromptFile(Path(config.output), len(items))


def _sets(folders: Iterable[str]) -> list[CollectedSet]:
    sets = [CollectedSet(folder) for folder in folders]
    for data in sets:
        data.picture(0)  # raises where none were kept
    return sets


def _judge(path: str, process: Process) -> GenEval:
    from vhs.geneval.spec import judge_config, resolve_judge

    config = judge_config(Path(), path)
    return resolve_judge(config, resolve_device(config.device, process)).fetched().load()


def _write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """A JSON list, one record per line, as GenEval's own file has it."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    write_bytes(path, f"[\n{lines}\n]\n".encode())


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_bytes(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
