"""What a run would do, as text: the resolved configuration, its stages, what is loaded from where, how much of it."""

from __future__ import annotations

import yaml

from vhs.checkpoints.download import readable
from vhs.checkpoints.hub import DOWNLOAD
from vhs.checkpoints.sizes import download_size
from vhs.checkpoints.source import Source
from vhs.config.run import RunConfig
from vhs.resolve import ResolvedRun, resolve
from vhs.runs import price, seeds
from vhs.runs.folder import RunFolder
from vhs.verifiers.registry import load_registry

EVERY, ONE = "every candidate", "the winner"


def describe(config: RunConfig) -> str:
    """The text of `--dry-run`; nothing is fetched, and of checkpoints JSON files alone are read.

    Raises what is wrong in the configuration, the prompts and between the models; whether checkpoints are whole is
    looked at when a run or an estimate begins.

    Checkpoints that have yet to be downloaded are no error here: the text says so.
    """
    run = resolve(config, fetch="nothing")
    missing = [source for source in run.sources if source.path is None]
    note = f"\nnot all of it is here; to fetch it: {DOWNLOAD}" if missing else ""
    settled = config.model_dump(mode="json") | {"device": run.models.device, "dtype": run.models.dtype}
    candidates = len(run.prompts) * config.num_samples * len(config.seeds or [0])
    each = f"{config.num_samples} per prompt{f', {len(config.seeds)} seeds' if config.seeds else ''}"
    judged = sum(any(judge.judges(prompt.record) for judge in run.judges) for prompt in run.prompts)
    sections = {
        "configuration": yaml.safe_dump(settled, sort_keys=False, width=1000).rstrip(),
        "stages, for each prompt": "\n".join(stages(run)),
        "loaded from": "\n".join(_line(source) for source in run.sources) + note,
        "counts": f"prompts: {len(run.prompts)}\ncandidates: {candidates} ({each})\njudged prompts: {judged}"
        + (f"\nGenEval does not run: {run.judge_skipped}" if run.judge_skipped else ""),
        "costs": "\n".join(price.of_run(run)),
        "written to": "\n".join(str(RunFolder(one).root) for one in seeds.runs_of(config)),
    }
    return "\n\n".join(f"# {title}\n{text}" for title, text in sections.items())


def stages(run: ResolvedRun) -> list[str]:
    """The stages of one prompt, in order, and for whom each runs."""
    config, reads, judges = run.config, run.models.verifier.reads, ", ".join(judge.name for judge in run.judges)
    if not config.generates:
        return [
            f"read the pictures in {config.imgs_path or 'the run folder'}",
            *([f"score: {EVERY}"] if reads == "image" else []),
            *([f"judge by {judges}: {EVERY}"] if judges else []),
        ]
    picks = ONE if config.rule.k == 1 else f"the {config.rule.k} picks"
    late = EVERY if config.generation_mode == "dev" else picks
    decoded = f"the {config.rerank.keep} that are kept" if config.rerank and late != EVERY else late
    early = {
        "hidden": [
            f"prefix, to the verifier's block: {EVERY}",
            f"score: {EVERY}",
            f"finish, from that block on: {decoded}",
            f"decode: {decoded}",
        ],
        "latent": [f"generate: {EVERY}", f"score: {EVERY}", f"decode: {decoded}"],
        "image": [f"generate: {EVERY}", f"decode: {EVERY}", f"score: {EVERY}"],
        "nothing": [f"generate: {decoded}", f"decode: {decoded}"],
    }[reads]
    second = [f"score by {config.rerank.verifier}: the {config.rerank.keep} that are kept"] if config.rerank else []
    return [
        "encode the text: once",
        *early,
        *second,
        f"save: {late}",
        *([f"judge by {judges}: {late}"] if judges else []),
    ]


def verifiers(registry: str | None = None) -> str:
    """The text of `--list-verifiers`: two lines per entry of the registry."""
    lines = []
    for entry in load_registry(registry).values():
        values = entry.values
        what = values.get("latent_verifier_path") or values.get("class") or values.get("kind")
        lines.append(
            f"{entry.name}\n    {what}" + (f", reads {tower}" if (tower := values.get("vision_tower")) else "")
        )
    return "\n".join(lines)


def _line(source: Source) -> str:
    """The key, the name, and where that is unless it is a path here."""
    if source.path is None:
        size = download_size(source)
        where = (
            f" (Hub, to be downloaded: {readable(size.bytes)}, {size.basis})" if size else " (Hub, to be downloaded)"
        )
    else:
        where = "" if source.repository is None else " (Hub cache)"
    return f"{source.key}: {source.name}{where}"
