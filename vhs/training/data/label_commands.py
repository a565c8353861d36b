"""The tasks of label.py, one function each: from a configuration to files. See `vhs.training.commands` on results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict
from tqdm import tqdm
from typing_extensions import TypedDict

from vhs.checkpoints.hashes import content_hash, file_hash
from vhs.config.keys import Keys
from vhs.device import resolve_device, resolve_dtype
from vhs.errors import ConfigError, PromptError
from vhs.files import as_json
from vhs.paths import expanded, find
from vhs.processes import current_process
from vhs.training.data.clip_score import run_clip_score
from vhs.training.data.labels import labelled_sets, tidy
from vhs.training.data.store import CollectedSet
from vhs.training.data.tagger import paper_prompt
from vhs.training.data.tasks import CaptionTask, ClipScoreTask, LabelTask, MetadataTask, PromptsTask, VerdictTask
from vhs.training.made import Made, say_done, sets_hashes

if TYPE_CHECKING:
    from vhs.geneval.spec import GenEvalSpec
    from vhs.processes import Process
    from vhs.training.data.captions import Captioner

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
    from vhs.training.data.labels import count_labels, write_labels

    process, sets = current_process(config.timeout), labelled_sets(config.data)
    for data in sets:
        if not any(prompt.judged for prompt in data.prompts):
            raise ConfigError(
                f"{data.folder}: GenEval can judge none of its {len(data.prompts)} prompts, since they have no record "
                "(tag, include); write records with task: metadata and collect with that file as annotation"
            )
    spec = _judge_spec(config.judge, process)
    judge = cache(spec.load)

    def write(data: CollectedSet, options: Mapping[str, Any]) -> None:
        write_labels(data, judge().judge_batch, config.output, **options)

    _beside_each(config, sets, _flat(spec.describe()), "pictures", process, write, say)
    if not process.first:
        return None
    counts = [count_labels(data, config.output) for data in sets]
    return VerdictCounts(**{key: sum(one[key] for one in counts) for key in ("yes", "no", "unjudged")})


def run_captions(config: CaptionTask, say: Say) -> CaptionFiles | PromptFile:
    """A caption of every picture of the sets, or the texts of a file in better words."""
    from vhs.training.data.captions import write_captions

    process = current_process(config.timeout)
    if config.annotation is not None:
        return _refine(config, process, say if process.first else None)
    sets = labelled_sets(config.data)
    load, reads = _captioner(config, process)

    def write(data: CollectedSet, options: Mapping[str, Any]) -> None:
        write_captions(data, load(), config.output, **options)

    _beside_each(config, sets, reads, "captions", process, write, say)
    return CaptionFiles(tuple(data.folder / config.output for data in sets))


def _beside_each(
    config: VerdictTask | CaptionTask,
    sets: Sequence[CollectedSet],
    reads: Mapping[str, str],
    what: str,
    process: Process,
    write: Callable[[CollectedSet, Mapping[str, Any]], None],
    say: Say,
) -> None:
    """Has `write` make the file inside each set that lacks it, with the options of `labels.write_parts`."""
    with tqdm(total=sum(map(len, sets)) // process.count, desc=what, disable=not process.first) as bar:
        for data in sets:
            made = _beside(config, data, reads)
            options = {"source": _source(made), "batch": config.batch, "process": process}
            with made.lock() if process.first else nullcontext():
                if made.done():
                    _leave(made, say if process.first else None)
                else:
                    write(data, {**options, "progress": bar.update, "made": made})


def _refine(config: CaptionTask, process: Process, say: Say | None) -> PromptFile:
    """The texts of a file in the model's words; all processes take part."""
    from vhs.prompts import read_prompts
    from vhs.training.data.captions import REFINE, write_refined
    from vhs.training.data.language import load_text_model

    texts = [prompt.text for prompt in read_prompts(find(config.annotation))]
    question, device = config.question or REFINE, resolve_device(config.device, process)
    reads = {"annotation": hashlib.sha256(str(texts).encode()).hexdigest(), "question": question}
    made = Made.of(config, [expanded(config.output)], reads | _model_hash(config.model))
    done = PromptFile(made.files[0], len(texts))
    with made.lock() if process.first else nullcontext():
        if made.done():
            _leave(made, say)
            return done
        model = load_text_model(
            config.model, device, resolve_dtype(config.dtype, device), config.max_tokens, config.batch
        )
        with tqdm(total=len(texts) // process.count, desc="captions", disable=not process.first) as bar:
            write_refined(
                texts,
                model,
                made.files[0],
                question,
                source=_source(made),
                batch=config.batch,
                process=process,
                progress=bar.update,
                made=made,
            )
    return done


def _beside(config: Keys, data: CollectedSet, reads: Mapping[str, str]) -> Made:
    """A file that is made of one set, inside its folder."""
    return Made.of(config, [data.folder / config.output], {**sets_hashes([data]), **reads})


def _source(made: Made) -> str:
    """What parts of a file note, so that no others are put beside them."""
    return hashlib.sha256(as_json({"config": made.config, "reads": made.reads})).hexdigest()


def _flat(described: Mapping[str, Any]) -> dict[str, str]:
    """A judge's description as one text for each key."""
    return {f"judge: {key}": str(value) for key, value in described.items()}


def _leave(made: Made, say: Say | None) -> None:
    """Leaves a finished file as it is; other processes than the first have nothing to say."""
    if say is not None:
        say_done(made, say)
        tidy(made.files[0], _source(made))


def _captioner(config: CaptionTask, process: Process) -> tuple[Callable[[], Captioner], dict[str, str]]:
    """What loads the captioner of pictures, once, and hashes of what it is made of."""
    if config.backend == "detector":
        from vhs.training.data.captions import detector_captioner

        spec = _judge_spec(config.judge, process)
        return cache(lambda: detector_captioner(spec.load(), config.min_score)), _flat(spec.describe())
    question = config.question or paper_prompt("caption")

    def load() -> Captioner:
        from vhs.training.data.language import load_picture_model

        device = resolve_device(config.device, process)
        model = load_picture_model(config.model, device, resolve_dtype(config.dtype, device), config.max_tokens)
        return lambda pictures: model(pictures, question)

    return cache(load), {**_model_hash(config.model), "question": question}


def _model_hash(name: str) -> dict[str, str]:
    """The content of a transformers model that is a folder here; a Hub id stands for itself."""
    return {"model": content_hash(name)} if Path(name).is_dir() else {}


class Counts(TypedDict):
    """How many records came from where."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    by_rules: int
    by_model: int
    rejected: int


class Counted(TypedDict):
    """What the record of a file of records says of it."""

    counts: Counts


def run_metadata(config: MetadataTask, say: Say) -> RecordCounts:
    """GenEval's record of every prompt: by rules first, then by the model where one is configured."""
    from vhs.geneval.metadata import read_names
    from vhs.prompts import read_prompts

    names = read_names(find(config.object_names))
    prompts = list(dict.fromkeys(prompt.text for prompt in read_prompts(find(config.annotation))))
    out = expanded(config.output)
    files = [out, *([Path(f"{out}.rejected.jsonl")] if config.on_error == "skip" else [])]
    reads = {"annotation": str(prompts), "object_names": str(names)}
    reads = {key: hashlib.sha256(text.encode()).hexdigest() for key, text in reads.items()}
    made = Made.of(config, files, reads | (_model_hash(config.model) if config.backend == "model" else {}))
    with made.lock():
        if made.done():
            say_done(made, say)
            return RecordCounts(out, **made.facts(Counted)["counts"])
        records, by_rules, rejected = _records(config, prompts, names)
        if not records:
            first = rejected[0]["reason"] if rejected else "there is none"
            raise PromptError(f"{config.annotation}: no record for any of its {len(prompts)} prompts; {first}")
        counts = {"by_rules": by_rules, "by_model": len(records) - by_rules, "rejected": len(rejected)}
        contents = {out: _record_list([records[text] for text in prompts if text in records])}
        made.write(contents | {file: _json_lines(rejected) for file in files[1:]}, counts=counts)
        return RecordCounts(out, **counts)


def _records(
    config: MetadataTask, prompts: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], int, list[dict[str, str]]]:
    """Records by prompt, how many of them rules gave, and the prompts that have none."""
    from vhs.geneval.prompt_parser import PromptParser
    from vhs.training.data.tagger import ask_records

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
            what = f"not of GenEval's shape with the classes of {config.object_names}; backend: model asks an LLM"
            reject(text, PromptError(f"prompt {text!r}: {what}"))
    return records, by_rules, rejected


def run_prompts(config: PromptsTask, say: Say) -> PromptFile:
    """A prompt file from one of the paper's sets."""
    from vhs.training.data.prompt_sets import FORMATS

    items = FORMATS[config.format](find(config.source))[: config.limit]
    out = expanded(config.output)
    made = Made.of(config, [out], {"source": file_hash(find(config.source))})
    with made.lock():
        if made.done():
            say_done(made, say)
        else:
            made.write({out: _record_list([item if isinstance(item, dict) else {"prompt": item} for item in items])})
    return PromptFile(out, len(items))


def _judge_spec(path: str, process: Process) -> GenEvalSpec:
    from vhs.geneval.spec import judge_config, resolve_judge

    config = judge_config(Path(), path)
    return resolve_judge(config, resolve_device(config.device, process)).fetched()


def _record_list(records: Sequence[Mapping[str, Any]]) -> bytes:
    """A JSON list, one record per line, as GenEval's own file has it."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    return f"[\n{lines}\n]\n".encode()


def _json_lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
