"""Prompts typed on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.report_runs import HOSTILE
from vhs.config.run import RunConfig
from vhs.errors import PromptError
from vhs.prompts import read_prompts
from vhs.runs.typed import with_prompts


def test_typed_prompts_are_read_back_and_start_no_other_run_over(run_keys, tmp_path: Path) -> None:
    config = RunConfig(**run_keys)
    typed = with_prompts(config, HOSTILE)
    assert [prompt.text for prompt in read_prompts(typed.annotation)] == list(HOSTILE)
    assert typed.name.startswith("small_") and typed.name != with_prompts(config, HOSTILE[:1]).name
    assert with_prompts(config, HOSTILE) == typed
    assert with_prompts(config, HOSTILE, rename=False).name == "small"


def test_an_empty_prompt_is_refused(run_keys) -> None:
    with pytest.raises(PromptError, match="--prompt: number 2 is empty"):
        with_prompts(RunConfig(**run_keys), ["a cat", "  "])
