"""What verifier_scripts/label.py does, task by task: from a configuration to files, with words on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from vhs.device import resolve_device
from vhs.errors import PromptError
from vhs.files import write_bytes
from vhs.paths import find
from vhs.processes import current_process
from vhs.training.data.tasks import CaptionTask, ClipScoreTask, LabelTask, MetadataTask, PromptsTask, VerdictTask
from vhs.training.data.store import CollectedSet

if TYPE_CHECKING:
    from vhs.geneval.evaluate import GenEval
    from vhs.processes import Process

Say = Callable[[str], None]


def run_label(config: LabelTask, say: Say) -> str:
    """Does the configured task and returns its closing line."""
    tasks = {
        VerdictTask: run_verdicts,
        CaptionTask: run_captions,
        ClipScoreTask: run_clip_score,
        MetadataTask: run_metadata,
        PromptsTask: run_prompts,
    }
    return tasks[type(config)](config, say)


def run_verdicts(config: VerdictTask, say: Say) -> str:
    """GenEval's verdict on every picture of the sets."""
    from vhs.training.data.labels import write_labels

    process, sets = current_process(), _sets(config.data)
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
    return ", ".join(f"{count} {key}" for key, count in total.items()) if process.first else ""


def run_captions(config: CaptionTask, say: Say) -> str:
    """A caption of every picture of the sets."""
    from vhs.training.data.captions import detector_captioner, write_captions

    process, sets = current_process(), _sets(config.data)
    if config.backend == "detector":
        captioner = detector_captioner(_judge(config.judge, process), config.min_score)
        source = f"detector {config.judge} {config.min_score}"
    else:
        from vhs.training.data.language import load_picture_model
        from vhs.training.data.tagger import paper_prompt

        question = config.question or paper_prompt("caption")
        model = load_picture_model(config.model, _device(config.device, process), config.dtype, config.max_tokens)
        captioner = lambda pictures: model(pictures, question)  # noqa: E731
        source = f"{config.model} {question}"
    with tqdm(total=sum(map(len, sets)) // process.count, desc="captions", disable=not process.first) as bar:
        for data in sets:
            write_captions(
                data, captioner, config.output, source=source, batch=config.batch, process=process, progress=bar.update
            )
    return ", ".join(str(data.folder / config.output) for data in sets) if process.first else ""


def run_clip_score(config: ClipScoreTask, say: Say) -> str:
    """Mean CLIP-Score of the pictures with their prompts and, where there are any, with their captions."""
    from vhs.training.data.labels import read_captions
    from vhs.training.data.language import load_clip_scorer

    sets = _sets(config.data)
    texts: dict[str, list[dict[int, str]]] = {"prompts": [read_captions(data, None) for data in sets]}
    if config.captions is not None:
        texts["captions"] = [read_captions(data, config.captions) for data in sets]
    scorer = load_clip_scorer(config.model, config.device)
    found = []
    for kind, by_set in texts.items():
        scores: list[float] = []
        for data, said in zip(sets, by_set, strict=True):
            indices = sorted(said)[: config.limit]
            for start in tqdm(range(0, len(indices), config.batch), desc=f"{kind}, batches"):
                part = indices[start : start + config.batch]
                scores += scorer([data.picture(index) for index in part], [said[index] for index in part])
        found.append(f"{kind} {sum(scores) / len(scores):.1f} ({len(scores)} pairs)")
    return f"CLIP-Score with {config.model}: " + ", ".join(found)


def run_metadata(config: MetadataTask, say: Say) -> str:
    """GenEval's record of every prompt: by rules first, then by the model where one is configured."""
    from vhs.geneval.metadata import read_names
    from vhs.prompts import read_prompts
    from vhs.training.data.prompt_parser import PromptParser
    from vhs.training.data.tagger import ask_records

    names = read_names(find(config.object_names))
    prompts = [prompt.text for prompt in read_prompts(find(config.annotation))]
    parse = PromptParser(names)
    records: dict[str, dict[str, Any]] = {text: record for text in prompts if (record := parse(text))}
    rest = [text for text in dict.fromkeys(prompts) if text not in records]
    by_rules, rejected = len(records), []

    def reject(prompt: str, error: PromptError) -> None:
        if config.on_error == "stop":
            raise error
        rejected.append({"prompt": prompt, "reason": str(error)})

    if rest and config.backend == "model":
        from vhs.training.data.language import load_text_model

        model = load_text_model(config.model, config.device, config.dtype, config.max_tokens, config.batch)
        records |= {record["prompt"]: record for record in ask_records(rest, model, names, reject)}
    else:
        for text in rest:
            reject(text, PromptError(f"prompt {text!r}: not of GenEval's shape; backend: model asks an LLM"))
    _write_records(Path(config.output), [records[text] for text in dict.fromkeys(prompts) if text in records])
    if rejected:
        _write_lines(Path(f"{config.output}.rejected.jsonl"), rejected)
    counts = f"{by_rules} records by rules, {len(records) - by_rules} by the model, {len(rejected)} rejected"
    return f"{config.output}: {counts}"


def run_prompts(config: PromptsTask, say: Say) -> str:
    """A prompt file from one of the paper's sets."""
    from vhs.training.data.readers import READERS

    items = READERS[config.format](find(config.source))[: config.limit]
    _write_records(Path(config.output), [item if isinstance(item, dict) else {"prompt": item} for item in items])
    return f"{config.output}: {len(items)} prompts"


def _sets(folders: Iterable[str]) -> list[CollectedSet]:
    sets = [CollectedSet(folder) for folder in folders]
    for data in sets:
        data.picture(0)  # raises where none were kept
    return sets


def _judge(path: str, process: Process) -> GenEval:
    from vhs.geneval.spec import judge_config, resolve_judge

    config = judge_config(Path(), path)
    return resolve_judge(config, resolve_device(config.device, process)).fetched().load()


def _device(device: str, process: Process) -> str:
    return resolve_device(device, process)


def _write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """A JSON list, one record a line, as GenEval's own file has it."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    write_bytes(path, f"[\n{lines}\n]\n".encode())


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_bytes(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
