"""The forms of the JSON files that a run writes and that later commands read again: what they must have to be read."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, FiniteFloat
from typing_extensions import TypedDict

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[str, Field(pattern=r"^[^/\\\s.][^/\\\s]*$")]


class Rerank(TypedDict):
    """The second stage of a cascade."""

    verifier: str
    keep: Count


class Config(TypedDict):
    """The keys of a configuration that a folder is read by."""

    name: Name
    generation_mode: Literal["prod", "dev"]
    num_samples: Annotated[int, Field(ge=1, le=65536)]
    fmt: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    generator: str
    annotation: str
    latent_verifier: NotRequired[bool]
    latent_verifier_name: NotRequired[str | None]
    latent_verifier_path: NotRequired[str | None]
    stop_when: NotRequired[float | None]
    selection: NotRequired[str | dict[str, Count]]
    rerank: NotRequired[Rerank | None]


class Prompts(TypedDict):
    """How many prompts a run has, and the hash of their file."""

    count: Count
    sha256: NotRequired[str]


class Recorded(TypedDict, total=False):
    """run.json as it is compared with another; what an earlier version did not write may be missing."""

    config: dict[str, Any]
    prompts: dict[str, Any]
    checkpoints: dict[str, Any]
    seeds: dict[str, Any]
    verifier: dict[str, Any]
    geneval: dict[str, Any]


class Size(TypedDict):
    """What was measured for a budget."""

    num_samples: Annotated[int, Field(ge=1, le=65536)]
    budget_ms: NotRequired[float | None]


class Sized(TypedDict):
    """run.json of a run under a budget."""

    config: Size


class Manifest(TypedDict):
    """run.json as results are read by it."""

    config: Config
    prompts: Prompts
    checkpoints: NotRequired[dict[str, Any]]
    seeds: NotRequired[dict[str, Any]]
    verifier: NotRequired[dict[str, Any]]
    geneval: NotRequired[dict[str, Any]]


class PromptRecord(TypedDict):
    """metadata.jsonl of a prompt's folder."""

    prompt: str
    tag: NotRequired[Any]
    include: NotRequired[list[dict[str, Any]]]


class Row(TypedDict):
    """A candidate's record."""

    score: FiniteFloat | None
    correct_verifier: NotRequired[bool | None]
    p_yes: NotRequired[FiniteFloat | None]
    p_no: NotRequired[FiniteFloat | None]
    correct: NotRequired[bool]
    reason: NotRequired[str]
    tag: NotRequired[str]
    pick: NotRequired[int | None]
    judges: NotRequired[dict[str, dict[str, Any]]]


class Answered(Row):
    """A candidate's record as a report reads it."""

    correct_verifier: bool | None
    p_yes: FiniteFloat | None
    p_no: FiniteFloat | None


class Stage(TypedDict):
    """What a stage took, and of how many prompts or candidates."""

    seconds: Seconds
    calls: Count
    items: Count


class Object(TypedDict):
    """An object that GenEval counted: box in pixels."""

    label: str
    score: FiniteFloat
    box: list[FiniteFloat]
    color: str | None


Objects = dict[Annotated[str, Field(pattern=r"^\d+$")], list[Object]]
"""By candidate."""
Stages = dict[str, dict[str, Stage]]
"""By prompt and stage."""


class Timings(TypedDict):
    """timings.json."""

    prompts: Stages
    stages: dict[str, Stage]


class Annotation(TypedDict):
    """What of a candidate's annotation names it."""

    filename: Annotated[str, Field(pattern=r"[^/]+/[^/]+/[^/]+$")]
    gen_idx_gt: Count


class Rate(TypedDict):
    """A rate from 0 to 1."""

    value: FiniteFloat


class Overall(TypedDict):
    """Rates over all prompts."""

    mean_of_candidates: Rate | None
    pick: Rate | None
    oracle: Rate | None


class Summary(TypedDict):
    """summary.json."""

    overall: dict[str, Overall]
