"""A verifier on collected candidates: its scores, the figures on them, and the captions that it gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vhs import metrics
from vhs.bootstrap import RESAMPLES, bootstrap
from vhs.errors import ConfigError
from vhs.training.data.labels import read_labels
from vhs.training.data.store import CollectedSet
from vhs.verifiers.conversation import IMAGE_MARKER, chat_text, tokenize
from vhs.verifiers.llava import embed_inputs

if TYPE_CHECKING:
    from vhs.verifiers.llava import LlavaVerifier

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Rows:
    """One entry per candidate: its prompt (set, position), text and tag, the verifier's answer, and the verdict."""

    groups: list[tuple[int, int]]
    texts: list[str]
    tags: list[str]
    scores: np.ndarray
    p_yes: np.ndarray
    p_no: np.ndarray
    says_yes: np.ndarray
    verdicts: np.ndarray


def labelled(data: CollectedSet, labels: str, limit: int | None = None) -> dict[int, list[tuple[int, bool]]]:
    """The labelled candidates, (sample index, verdict), of each of the first `limit` prompts that have one, by the
    prompt's position."""
    found: dict[int, list[tuple[int, bool]]] = {}
    for index, verdict in sorted(read_labels(data, labels).items()):
        found.setdefault(index // data.layout.candidates, []).append((index, verdict))
    return dict(list(found.items())[:limit])


def check_labelled(sets: Sequence[CollectedSet], labels: str, ns: Sequence[int], limit: int | None = None) -> None:
    """Raises ConfigError where nothing is labelled, or a prompt has fewer labelled candidates than the largest of
    `ns`: said before a candidate is scored."""
    counts = [len(candidates) for data in sets for candidates in labelled(data, labels, limit).values()]
    if not counts:
        raise ConfigError(f"{labels}: no labelled candidates in {', '.join(str(data.folder) for data in sets)}")
    _check_candidates(min(counts), ns)


def _check_candidates(smallest: int, ns: Sequence[int]) -> None:
    if max(ns) > smallest:
        raise ConfigError(
            f"best_of: {max(ns)} is more than the {smallest} candidates per prompt; collect more, or lower best_of"
        )


def score_sets(
    verifier: LlavaVerifier,
    sets: Sequence[CollectedSet],
    feature: str,
    labels: str = "labels.jsonl",
    *,
    limit: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    progress: Progress = lambda done: None,
) -> Rows:
    """Scores every labelled candidate, prompt by prompt, in order.

    `shuffle` gives each prompt's candidates the features of candidates of other prompts, by a seeded permutation.
    """
    columns: dict[str, list] = {name: [] for name in Rows.__dataclass_fields__}
    for number, data in enumerate(sets):
        data.require(feature)
        known = labelled(data, labels, limit)
        given = _others(list(known), seed) if shuffle else dict(zip(known, known, strict=True))
        for position, candidates in known.items():
            offset = (given[position] - position) * data.layout.candidates
            prompt, count = data.prompts[position], len(candidates)
            features = data.gather(feature, [index + offset for index, _ in candidates])
            score = verifier.score(prompt.text, features.to(verifier.device, torch.float32))
            columns["groups"] += [(number, position)] * count
            columns["texts"] += [prompt.text] * count
            columns["tags"] += [(prompt.metadata or {}).get("tag", "")] * count
            columns["verdicts"] += [verdict for _, verdict in candidates]
            for name, values in (
                ("scores", score.score),
                ("p_yes", score.p_yes),
                ("p_no", score.p_no),
                ("says_yes", score.correct),
            ):
                columns[name] += values.tolist()
            progress(count)
    texts = {name: columns.pop(name) for name in ("groups", "texts", "tags")}
    return Rows(**texts, **{name: np.asarray(values) for name, values in columns.items()})


def _others(positions: Sequence[int], seed: int) -> dict[int, int]:
    """For each prompt another one, none twice: the next in a seeded order, and for the last the first."""
    order = np.random.default_rng(seed).permutation(positions).tolist()  # a cycle: no prompt keeps its own features
    return dict(zip(order, order[1:] + order[:1], strict=True))


def figures(
    rows: Rows, ns: Sequence[int], *, selection: str = "argmax", resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Accuracy, AUC, calibration, histogram, best-of-N; every rate from 0 to 1, intervals over prompts; None for what
    is not defined, such as the AUC of labels of one kind.

    `within_prompt_auc` averages over the prompts that have both verdicts; `pooled_auc` takes all candidates together.
    `selection: random_yes` picks any candidate whose answer is yes. Raises ConfigError when a prompt has fewer
    candidates than the largest N.
    """
    _check_candidates(min(np.unique([_key(group) for group in rows.groups], return_counts=True)[1]), ns)
    scores = rows.scores if selection == "argmax" else _random_yes(rows, seed)
    clusters = dict(zip(rows.groups, rows.texts, strict=True))
    aucs = metrics.group_aucs(rows.groups, scores, rows.verdicts)
    both = 0 < rows.verdicts.sum() < len(rows.verdicts)
    curve = metrics.best_of_n_curve(rows.groups, scores, rows.verdicts, ns, True, clusters, resamples, seed)
    found = {
        "candidates": len(scores),
        "prompts": len(set(rows.texts)),
        "right": float(rows.verdicts.mean()),
        **metrics.accuracy(rows.says_yes, rows.verdicts),
        "within_prompt_auc": asdict(
            bootstrap(list(aucs.values()), [clusters[group] for group in aucs], resamples, seed)
        ),
        "pooled_auc": metrics.auc(scores, rows.verdicts) if both else None,
        "per_prompt": _per_prompt(rows, scores, max(ns)),
        "best_of": [{key: value if key == "n" else asdict(value) for key, value in row.items()} for row in curve],
        "calibration": metrics.calibration(rows.p_yes / (rows.p_yes + rows.p_no), rows.verdicts),
        "histogram": metrics.histogram(rows.scores, rows.verdicts),
        "by_tag": {tag: _by_tag(rows, scores, tag, ns) for tag in sorted(set(rows.tags))},
    }
    return _defined(found)


def _defined(value: Any) -> Any:
    """None for each number that is not one: labels of one kind have no AUC, and JSON no NaN."""
    if isinstance(value, dict):
        return {key: _defined(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_defined(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _key(group: tuple[int, int]) -> str:
    return f"{group[0]}/{group[1]}"


def _per_prompt(rows: Rows, scores: np.ndarray, n: int) -> list[dict[str, Any]]:
    """How often each prompt's best of `n` is right (over all choices of `n`), to compare verifiers prompt by prompt."""
    texts, tags = (dict(zip(rows.groups, column, strict=True)) for column in (rows.texts, rows.tags))
    picked = metrics.best_of_n(rows.groups, scores, rows.verdicts, n)
    return [{"prompt": texts[group], "tag": tags[group], "best": float(value)} for group, value in picked.items()]


def _random_yes(rows: Rows, seed: int) -> np.ndarray:
    """Scores that rank the candidates whose answer is yes at random, before the others at random."""
    return rows.says_yes + np.random.default_rng(seed).random(len(rows.scores))


def _by_tag(rows: Rows, scores: np.ndarray, tag: str, ns: Sequence[int]) -> dict[str, float | None]:
    inside = [i for i, name in enumerate(rows.tags) if name == tag]
    groups, verdicts = [rows.groups[i] for i in inside], rows.verdicts[inside]
    best = {f"best_of_{n}": np.mean(list(metrics.best_of_n(groups, scores[inside], verdicts, n).values())) for n in ns}
    oracle = np.mean(list(metrics.oracle_of_n(groups, verdicts, max(ns)).values()))
    auc = metrics.within_prompt_auc(groups, scores[inside], verdicts)
    values = {**best, f"oracle_of_{max(ns)}": oracle, "within_prompt_auc": auc}
    return {key: None if np.isnan(value) else float(value) for key, value in values.items()}


def table(found: dict[str, Any]) -> str:
    """The figures as lines for a terminal, rates in percent."""

    def shown(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    def percent(value: float | None, form: str = ".1f") -> str:
        return shown(None if value is None else 100 * value, form)

    def ci(row: dict[str, float], sign: str = "") -> str:
        return f"{percent(row['mean'], f'{sign}6.1f')} [{percent(row['low'], f'{sign}.1f')}, " + (
            f"{percent(row['high'], f'{sign}.1f')}]"
        )

    auc = found["within_prompt_auc"]
    lines = [
        f"{found['candidates']} candidates of {found['prompts']} prompts, {percent(found['right'])} % right",
        f"accuracy {percent(found['accuracy'])} %: {percent(found['of_right'])} of the right, "
        f"{percent(found['of_wrong'])} of the wrong",
        f"AUC within a prompt {shown(auc['mean'], '.3f')} [{shown(auc['low'], '.3f')}, {shown(auc['high'], '.3f')}] "
        f"over {auc['count']} prompts with both verdicts",
        f"calibration error {shown(found['calibration']['error'], '.3f')}",
        "    N  verifier                  gain over one             oracle",
    ]
    lines += [
        f"{row['n']:5d}  {ci(row['verifier']):24s}  {ci(row['gain'], '+'):24s}  {ci(row['oracle'])}"
        for row in found["best_of"]
    ]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------- caption mode


@torch.no_grad()
def caption(
    verifier: LlavaVerifier, features: torch.Tensor, question: str | None, use_generation_prompt: bool, max_tokens: int
) -> list[str]:
    """What the LLM says about each of N pictures, decoded greedily, after `question` or in LLaVA's plain form.

    A caption ends at its end-of-turn token, or after `max_tokens`.
    """
    text = IMAGE_MARKER if question is None else chat_text(verifier.tokenizer, question, use_generation_prompt)
    ids = tokenize(verifier.tokenizer, text)
    embedded = embed_inputs(verifier.llm, verifier.image_features(features), ids)["inputs_embeds"]
    everything = torch.ones(embedded.shape[:2], dtype=torch.long, device=embedded.device)
    said = verifier.llm.generate(
        inputs_embeds=embedded,
        attention_mask=everything,
        max_new_tokens=max_tokens,
        do_sample=False,
        num_beams=1,
        eos_token_id=verifier.tokenizer.eos_token_id,
        pad_token_id=verifier.tokenizer.eos_token_id,
    )
    return [text.strip() for text in verifier.tokenizer.batch_decode(said, skip_special_tokens=True)]
