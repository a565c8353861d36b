"""What the missing runs of some tables take: commands, downloads, hours and disk; and making them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vhs.checkpoints.download import readable
from vhs.checkpoints.sizes import total
from vhs.checkpoints.source import Source
from vhs.config.run import RunConfig
from vhs.errors import VHSError
from vhs.paper.rows import Row
from vhs.paths import find
from vhs.resolve import resolve
from vhs.runs import price
from vhs.runs.folder import RunFolder
from vhs.runs.forms import Manifest

CANDIDATE_MS = 277
"""Of one candidate that is generated, decoded and read by the CLIP verifier, in the paper's cost table."""
BASIS = (
    "hours: prompts x the row's budget in the paper, on its GPU (a curve: 277 ms a candidate); loading and judging are "
    "not in them"
)


@dataclass(frozen=True)
class Planned:
    """A row with missing runs: what it takes, or why it cannot run as things are."""

    row: Row
    missing: Sequence[RunConfig]
    blocked: str | None
    sources: Sequence[Source] = ()
    prompts: int = 0

    @property
    def hours(self) -> float | None:
        """An estimate, in GPU hours: BASIS; None in the tiny world, whose runs take minutes on a CPU."""
        if self.row.world == "tiny":
            return None
        budget = self.row.published.budget_ms or CANDIDATE_MS * self.row.config.num_samples
        return budget * self.prompts * len(self.missing) / 3.6e6

    @property
    def disk(self) -> int:
        """Bytes that the missing runs write."""
        return sum(price.disk(one, self.prompts) for one in self.missing)

    @property
    def command(self) -> str:
        """What a user types for the row alone."""
        words = [f"python inference_scripts/run.py --config {self.row.file}", *map(shlex.quote, self.row.changed)]
        return " ".join(words)


def plan(rows: Iterable[Row]) -> list[Planned]:
    """The rows that are not finished. No network is used. Raises RunError where a folder holds another run."""
    return [_planned(row, missing) for row in rows if (missing := row.missing())]


def _planned(row: Row, missing: Sequence[RunConfig]) -> Planned:
    try:
        run = resolve(missing[0], fetch="nothing")
        lacking = [source for source in run.sources if source.path is None]
        for source in lacking:
            if source.repository is None:
                source.require()
    except VHSError as error:
        return Planned(row, missing, str(error))
    if row.world == "tiny" and lacking:
        return Planned(row, missing, f"{lacking[0].key}: {lacking[0].name} is not here")
    return Planned(row, missing, None, run.downloads, len(run.prompts))


def as_text(planned: Sequence[Planned]) -> str:
    """A paragraph per row, then what all of them take."""
    if not planned:
        return "nothing is missing"
    possible = [one for one in planned if one.blocked is None]
    sources = [source for one in possible for source in one.sources]
    hours = [one.hours for one in possible if one.hours is not None]
    spent = f", {sum(hours):.1f} GPU hours" if hours else ""
    size, unknown = total(sources)
    fetched = readable(size) + (" and what is not known" if unknown else "")
    closing = [
        f"{len(planned)} rows with {sum(len(one.missing) for one in planned)} missing runs, {len(possible)} can run: "
        f"{fetched} to be fetched, {readable(sum(one.disk for one in possible))} of disk{spent}"
    ]
    return "\n\n".join([*map(_paragraph, planned), "\n".join(closing + [BASIS] * bool(hours))])


def _paragraph(one: Planned) -> str:
    seeds = " ".join(str(run.seed) for run in one.missing)
    lines = [f"{one.row.name}: seeds {seeds}"]
    if one.blocked is not None:
        return "\n  ".join([*lines, f"cannot run: {one.blocked}", *weights(one.row)])
    begun = [f"{run.name}: {progress(run)}" for run in one.missing if RunFolder(run).manifest(Manifest) is not None]
    hours = "" if one.hours is None else f", {one.hours:.2f} GPU hours"
    if one.row.unmeasured:
        begun.append(f"its N is measured first: what {one.row.multiple:g} times a single candidate's time buys")
    needs = f"{price.downloads(one.sources)}, {readable(one.disk)} of disk{hours}"
    return "\n  ".join([*lines, one.command, needs, *begun])


def progress(config: RunConfig) -> str:
    """How far a run has come that was begun."""
    folder = RunFolder(config)
    expected = folder.manifest(Manifest)["prompts"]["count"]
    return f"{sum(folder.done(number) for number in range(expected))} of {expected} prompts"


def weights(row: Row) -> list[str]:
    """What the header of the row's file says of its weights, from `Weights:` to the end of the sentence's lines."""
    comment = [line[2:] for line in find(row.file).read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
    start = next((i for i, line in enumerate(comment) if line.startswith("Weights:")), len(comment))
    end = next((i for i in range(start, len(comment)) if comment[i].endswith(".")), len(comment) - 1)
    return comment[start : end + 1]


def make(
    rows: Sequence[Row],
    carry_out: Callable[[RunConfig], str],
    measure: Callable[[Row], int],
    say: Callable[[str], None],
) -> None:
    """Makes every missing run that can be made and says what each ended in; a row that cannot run keeps none waiting.

    `measure` gives the number of candidates of a row that waits for it, unless a row of the same cost has one.
    """
    counts = {row.cost: row.config.num_samples for row in rows if not row.unmeasured}
    for row in rows:
        try:
            if row.missing():
                if row.unmeasured and row.cost not in counts:
                    counts[row.cost] = measure(row)
                settled = row.with_candidates(counts[row.cost]) if row.unmeasured else row
                say(carry_out(settled.config))
        except VHSError as error:
            say("\n  ".join([f"{row.name} cannot run: {error}", *weights(row)]))
