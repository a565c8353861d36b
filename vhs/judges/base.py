"""What a judge is, before and after it is loaded.

A judge is asked after the choice is made, so nothing that it says changes which candidate wins. Each picture is judged
by every judge that a run names, and each judge has a summary of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image

    from vhs.checkpoints.source import Source

Record = Mapping[str, Any]
"""What a prompt file says of a prompt: `prompt`, and whatever its benchmark adds (GenEval's `tag` and `include`,
GenEval 2's `vqa_list`, DrawBench's `Category`)."""
Measures = Mapping[str, Sequence[tuple[str, float]]]
"""Table -> (row, value from 0 to 1) of one picture. The first table's values are what a perfect pick would maximise."""


class Judgement(Protocol):
    """What a judge says of one picture. `vhs.records.Verdict`, GenEval's, is one."""

    def fields(self) -> dict[str, Any]:
        """JSON values for the picture's row."""


class Judge(Protocol):
    """A loaded judge."""

    def judge_batch(self, images: Sequence[Image], records: Sequence[Record]) -> Sequence[Judgement]:
        """One judgement per picture; `records` are those of the pictures' prompts. Pictures are RGB.

        Raises PromptError for a record that cannot be judged.
        """


class JudgeSpec(Protocol):
    """A judge before it is loaded. `name` is what the configuration calls it, `sources` the files that it reads."""

    name: str
    sources: tuple[Source, ...]

    @property
    def downloads(self) -> tuple[Source, ...]:
        """The sources, and what a library fetches by itself when the judge loads."""

    def judges(self, record: Record) -> bool:
        """The prompt is one of those that this judge is for; others have no figures from it."""

    def check(self, record: Record, where: str) -> None:
        """Raises PromptError, beginning with `where`, for a record that it is for and yet cannot judge."""

    def fetched(self) -> JudgeSpec:
        """The same with every source here, and checked as far as files tell. Raises CheckpointError."""

    def describe(self) -> dict[str, Any]:
        """What a judgement depends on beside the content of the sources, which a run records anyway; JSON values."""

    def load(self) -> Judge:
        """The judge on its device. Raises CheckpointError."""

    def measures(self, record: Record, fields: Mapping[str, Any]) -> Measures:
        """The numbers in one picture's fields by the tables that they go into; always the same rows for one record."""


@dataclass(frozen=True)
class Marks:
    """One number, `score`, from 0 to 1 where higher is better, and whatever else the picture's row should keep."""

    score: float
    details: Mapping[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        return {"score": self.score, **self.details}


def category(record: Record) -> str:
    """The row of a table that a prompt belongs to: its GenEval tag, its DrawBench category, or `all`."""
    return str(record.get("tag") or record.get("Category") or "all")
