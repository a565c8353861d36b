"""The judges that ask a vision-language model, before they are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from vhs.checkpoints.source import Source, find_model
from vhs.config.run import RunConfig
from vhs.errors import ConfigError, PromptError
from vhs.judges import soft_tifa
from vhs.judges.base import Judge, Measures, Record, category
from vhs.paths import find
from vhs.verifiers.registry import Entry
from vhs.verifiers.spec import require_fields
from vhs.verifiers.vlm import ANSWERS, QUESTION, VLM_FILES, check_vlm

if TYPE_CHECKING:
    from vhs.verifiers.vlm import VisionLanguageModel


@dataclass(frozen=True)
class VlmJudgeSpec:
    """Soft-TIFA or VQAScore with one model; `question` is VQAScore's, with {prompt}. `micro_batch` pictures are asked
    about at once, each with all its questions."""

    name: str
    method: Literal["soft_tifa", "vqa_score"]
    source: Source
    question: str
    device: str
    dtype: str
    micro_batch: int

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.source,)

    @property
    def downloads(self) -> tuple[Source, ...]:
        return self.sources

    def judges(self, record: Record) -> bool:
        """Every prompt; one without questions is refused by Soft-TIFA, not passed over."""
        return True

    def check(self, record: Record, where: str) -> None:
        if self.method == "soft_tifa":
            soft_tifa.questions_of(record, where)

    def fetched(self) -> VlmJudgeSpec:
        source = self.source.fetched()
        check_vlm(source.path, ANSWERS, source.name)
        return replace(self, source=source)

    def describe(self) -> dict[str, Any]:
        asked = {"question": self.question} if self.method == "vqa_score" else {}
        return {"method": self.method, "model": self.source.name, "dtype": self.dtype, **asked}

    def load(self) -> Judge:
        from vhs.judges.vlm import SoftTifaJudge, VqaScoreJudge
        from vhs.verifiers.vlm import VisionLanguageModel

        model: VisionLanguageModel = VisionLanguageModel.load(self.source.require(), self.device, self.dtype)
        if self.method == "soft_tifa":
            return SoftTifaJudge(model, self.micro_batch)
        return VqaScoreJudge(model, self.question, self.micro_batch)

    def measures(self, record: Record, fields: Mapping[str, Any]) -> Measures:
        if self.method == "soft_tifa":
            return soft_tifa.measures(record, fields["atoms"])
        return {"P(yes)": [(category(record), fields["score"])]}


def resolve_soft_tifa(entry: Entry, config: RunConfig, device: str, dtype: str) -> VlmJudgeSpec:
    """Field: model. The questions come with the prompts."""
    values = require_fields(entry, ("model",))
    if not find(config.annotation).is_file():
        raise PromptError(f"annotation: {config.annotation}: no such file; the questions of {soft_tifa.DATA}")
    return _spec(entry, "soft_tifa", values, config, device, dtype)


def resolve_vqa_score(entry: Entry, config: RunConfig, device: str, dtype: str) -> VlmJudgeSpec:
    """Fields: model, question."""
    values = require_fields(entry, ("model", "question"))
    question = values.get("question", QUESTION)
    if not isinstance(question, str) or "{prompt}" not in question:
        raise ConfigError(f"{entry.where}: question is {question!r}; a text with {{prompt}} in it is right")
    return _spec(entry, "vqa_score", values, config, device, dtype)


def _spec(
    entry: Entry, method: Any, values: Mapping[str, Any], config: RunConfig, device: str, dtype: str
) -> VlmJudgeSpec:
    model = config.judge_model or values.get("model")
    if not isinstance(model, str) or not model:
        raise ConfigError(f"{entry.where}: needs model, the folder or Hub id of a vision-language model")
    key = "judge_model" if config.judge_model else f"judge {entry.name}"
    source = find_model(key, model, VLM_FILES)
    question = values.get("question", QUESTION)
    return VlmJudgeSpec(entry.name, method, source, question, device, dtype, config.at_once)
