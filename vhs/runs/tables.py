"""A run's figures: what best-of-1 gives on average, what the verifier picked, and the best that could be picked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vhs.geneval.summary import Figure, Outcome, Summary, format_table, summarize
from vhs.records import Prompt

COLUMNS = {"mean_of_candidates": "best-of-1 (mean)", "pick": "pick", "oracle": "oracle"}
SEVERAL = {"mean_of_picks": "mean of picks"}
"""The column of a run whose `selection` keeps several candidates."""


@dataclass(frozen=True)
class Run:
    """A finished run as its folder tells it: a row per candidate and the winner, by prompt id."""

    mode: str
    num_samples: int
    prompts: list[Prompt]
    rows: Mapping[int, Sequence[Mapping[str, Any]]]
    winners: Mapping[int, int]

    @property
    def spent(self) -> int:
        """Candidates that were made, over all prompts."""
        return sum(len(rows) for rows in self.rows.values())

    @property
    def ended_early(self) -> bool:
        """A prompt ended before its last candidate (`stop_when`)."""
        return self.spent < self.num_samples * len(self.rows)

    @property
    def judged(self) -> list[Prompt]:
        """Prompts whose winner has GenEval's verdict."""
        return [prompt for prompt in self.prompts if "correct" in self.rows[prompt.id][self.winners[prompt.id]]]


def columns(run: Run) -> dict[str, Summary]:
    """By column: the mean over all candidates, the verifier's pick, the oracle's; the pick alone where only winners
    were judged, nothing where no prompt was. The mean of the picks stands beside the first where there are several."""
    if not run.judged:
        return {}
    picks, means, bests, several = [], [], [], []
    for prompt in run.judged:
        rows = run.rows[prompt.id]
        tag = prompt.metadata["tag"]
        verdicts = [row["correct"] for row in rows if "correct" in row]
        picks.append(Outcome(prompt.id, tag, float(rows[run.winners[prompt.id]]["correct"])))
        means.append(Outcome(prompt.id, tag, sum(verdicts) / len(verdicts)))
        bests.append(Outcome(prompt.id, tag, float(any(verdicts))))
        kept = [row["correct"] for row in rows if row.get("pick") is not None]
        several += [Outcome(prompt.id, tag, sum(kept) / len(kept))] if kept else []
    table = {"mean_of_candidates": summarize(means), "pick": summarize(picks)}
    table |= {"mean_of_picks": summarize(several)} if several else {}
    table["oracle"] = summarize(bests)
    if any("correct" not in row for prompt in run.judged for row in run.rows[prompt.id]):
        return {name: one for name, one in table.items() if name in ("pick", "mean_of_picks")}
    return table


def summary(run: Run) -> dict[str, Any]:
    """The content of summary.json: rates from 0 to 1 with 95 % intervals over prompts, both overalls, counts.

    `overall_prompts` is the mean over prompts (the paper's), `overall_tags` the mean over tags (GenEval's). A column
    that the run does not know is null.
    """
    table = columns(run)
    tags = list(table["pick"].tags) if table else []
    overalls = {"overall_prompts": "over_prompts", "overall_tags": "over_tags"} if table else {}
    return {
        "mode": run.mode,
        "counts": {
            "prompts": len(run.prompts),
            "judged_prompts": len(run.judged),
            "candidates_per_prompt": run.num_samples,
            "judged_pictures": sum("correct" in row for rows in run.rows.values() for row in rows),
            **({"candidates_spent": run.spent} if run.ended_early else {}),
        },
        "tags": {tag: _cells({name: one.tags[tag] for name, one in table.items()}) for tag in tags},
        "overall": {
            name: _cells({column: getattr(one, key) for column, one in table.items()}) for name, key in overalls.items()
        },
    }


def closing_table(run: Run) -> str:
    """The table that ends a run, in % with 95 % intervals over prompts, or one line on the scores without GenEval."""
    return "\n\n".join([_verdicts(run), *([_spent(run)] if run.ended_early else [])])


def _spent(run: Run) -> str:
    mean = run.spent / len(run.rows)
    return f"candidates spent: {run.spent}, {mean:.2f} per prompt on average, of {run.num_samples} at most"


def _verdicts(run: Run) -> str:
    table = columns(run)
    if table:
        return format_table({(COLUMNS | SEVERAL)[name]: table[name] for name in table})
    scores = [row["score"] for rows in run.rows.values() for row in rows if row["score"] is not None]
    if not scores:
        return "nothing was judged, and no verifier scored"
    picks = [run.rows[prompt.id][run.winners[prompt.id]]["score"] for prompt in run.prompts]
    return (
        f"nothing was judged; the verifier's score is {sum(scores) / len(scores):.4f} on average over candidates, "
        f"{sum(picks) / len(picks):.4f} over winners"
    )


def _cells(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """One line of the summary: a cell per column, null where the run does not know it."""
    known = {name: {"value": one.value, "low": one.low, "high": one.high} for name, one in figures.items()}
    return {
        "prompts": figures["pick"].prompts,
        **{name: known.get(name) for name in [*COLUMNS, *(SEVERAL.keys() & known)]},
    }
