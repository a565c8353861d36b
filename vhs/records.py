"""Frozen records that cross module boundaries. Nothing here imports another module of the project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
"""GenEval's six tags, in the order in which tables print them."""


def is_geneval(record: Mapping[str, Any]) -> bool:
    """A prompt's record is one that GenEval can judge: its tag is one of the six and it includes something."""
    return record.get("tag") in TAGS and bool(record.get("include"))


@dataclass(frozen=True)
class Prompt:
    """One line of a prompt file.

    `id` is the position in the file and names the prompt's folder (`{id:05d}`). `metadata` is GenEval's record
    (tag, include, exclude, prompt) or None where the file gave none. `own_id` is what a table's column `id` says.
    `where` is the file and line (or record) that it was read from.
    """

    id: int
    text: str
    metadata: Mapping[str, Any] | None = None
    own_id: str | None = None
    where: str | None = field(default=None, compare=False, repr=False)

    @property
    def record(self) -> dict[str, Any]:
        """What metadata.jsonl says: GenEval's record, or the text; with the file's own id where it has one."""
        own = {} if self.own_id is None else {"id": self.own_id}
        return {**(self.metadata or {"prompt": self.text}), **own}

    @property
    def judged(self) -> bool:
        """GenEval can judge this prompt."""
        return is_geneval(self.record)


@dataclass(frozen=True)
class TextEmbedding:
    """One encoded prompt: `embeds` (1, T, D) and `mask` (1, T), on the generator's device; or one for each of N
    candidates, (N, T, D) and (N, T)."""

    embeds: torch.Tensor
    mask: torch.Tensor

    def rows(self, piece: slice) -> TextEmbedding:
        """The texts of a slice of the candidates; a text that all of them share stays one."""
        return self if len(self.embeds) == 1 else TextEmbedding(self.embeds[piece], self.mask[piece])

    @classmethod
    def of_each(cls, texts: Sequence[TextEmbedding]) -> TextEmbedding:
        """One text for each candidate, of as many tokens each."""
        import torch

        return cls(torch.cat([text.embeds for text in texts]), torch.cat([text.mask for text in texts]))


@dataclass(frozen=True)
class Prefix:
    """N candidates stopped after block `block` of a denoising step, the last one unless the run states another.

    `hidden` (N, tokens, width) is that block's output; `latents` (N, C, h, w) float32 entered the step (noise times
    sigma_data when there is one step); `text` is the prompt's embedding, shared by all candidates. `noise`
    (N, k, C, h, w) is what the scheduler will add in the k steps that are left; None after the last step.
    """

    hidden: torch.Tensor
    latents: torch.Tensor
    text: TextEmbedding
    block: int | str
    noise: torch.Tensor | None = None

    def __len__(self) -> int:
        return self.hidden.shape[0]

    def __getitem__(self, indices: list[int] | torch.Tensor) -> Prefix:
        """The candidates at `indices`, in that order."""
        noise = None if self.noise is None else self.noise[indices]
        return Prefix(self.hidden[indices], self.latents[indices], self.text, self.block, noise)


@dataclass(frozen=True)
class Score:
    """A verifier's answer for N candidates, on the CPU.

    `score` (N,) float32: higher is better, of any scale. The other three are None where a verifier gives no yes or no:
    `p_yes`, `p_no` (N,) float32, the probabilities of the two answers under the softmax over the whole vocabulary, and
    `correct` (N,) bool, the most probable token says yes. The published verifiers' score is p_yes if correct, else
    -p_no.
    """

    p_yes: torch.Tensor | None
    p_no: torch.Tensor | None
    correct: torch.Tensor | None
    score: torch.Tensor

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def plain(cls, values: Sequence[float] | torch.Tensor) -> Score:
        """Scores without answers, such as a reward model's."""
        import torch

        return cls(None, None, None, torch.as_tensor(values, dtype=torch.float32).detach().cpu())

    @classmethod
    def cat(cls, parts: Sequence[Score]) -> Score:
        """The scores of consecutive micro-batches of one verifier as one."""
        import torch

        columns = zip(*((part.p_yes, part.p_no, part.correct, part.score) for part in parts), strict=True)
        return cls(*(None if column[0] is None else torch.cat(column) for column in columns))


@dataclass(frozen=True)
class Selection:
    """The index of the winner among N candidates, how many tied with it at the top (1: no tie), and who is kept beside
    it, best first."""

    index: int
    tied: int = 1
    others: tuple[int, ...] = ()

    @property
    def picks(self) -> tuple[int, ...]:
        """All that are kept, the winner first."""
        return (self.index, *self.others)


@dataclass(frozen=True)
class Detection:
    """One instance, before any confidence threshold. `box` is (x0, y0, x1, y1) in pixels, `mask` (H, W) bool."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Verdict:
    """GenEval's verdict on one picture: `reason` is empty when correct; `objects` are those that were counted.

    `colors` maps an index into `objects` to the colour that the classifier named, where the rules asked for it.
    """

    correct: bool
    reason: str
    objects: tuple[Detection, ...] = ()
    colors: Mapping[int, str] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """What a picture's row keeps of it."""
        return {"correct": self.correct, "reason": self.reason}

    @property
    def described(self) -> list[dict[str, Any]]:
        """The objects as JSON values: label, score, box in pixels, and the colour where the rules asked for it."""
        return [
            {
                "label": found.label,
                "score": round(float(found.score), 4),
                "box": [round(float(side), 1) for side in found.box],
                "color": self.colors.get(index),
            }
            for index, found in enumerate(self.objects)
        ]
