"""A worker's prompts: pictures are encoded beside the next prompt's candidates, and nothing that was made is lost."""

import threading

import pytest

from vhs.config.run import RunConfig
from vhs.errors import RunError
from vhs.records import Prompt
from vhs.runs.folder import RunFolder
from vhs.runs.sources import PromptOutcome, answers
from vhs.runs.work import Worker
from vhs.stages import StageTimes

PROMPTS = [Prompt(i, f"prompt {i}") for i in range(3)]


class Source:
    """Candidates of nothing; `fails` is the prompt at which an error comes, `begun` tells whose turn it was."""

    def __init__(self, fails: int | None = None, error: BaseException | None = None, waits: bool = False) -> None:
        self.begun = [threading.Event() for _ in PROMPTS]
        self.fails, self.error, self.waits = fails, error, waits

    def __call__(self, prompt: Prompt) -> PromptOutcome:
        self.begun[prompt.id].set()
        if prompt.id == self.fails:
            raise self.error

        def encode() -> dict[int, bytes]:
            if self.waits and prompt.id < 2:
                assert self.begun[prompt.id + 1].wait(timeout=10), "the next prompt's candidates were not begun"
            return {0: prompt.text.encode()}

        return PromptOutcome((0,), answers(None, 1), encode)


@pytest.fixture
def worker(run_keys):
    def build(source: Source, ahead: int = 1) -> Worker:
        made = Worker.__new__(Worker)
        made.folder, made.times, made.source, made.judges = RunFolder(RunConfig(**run_keys)), StageTimes(), source, []
        made.ahead = ahead
        return made

    return build


@pytest.mark.parametrize("ahead", [0, 1])
def test_prompts_come_whole_and_in_their_order(worker, ahead):
    made = list(worker(Source(), ahead).over(PROMPTS))
    assert [one.prompt for one in made] == PROMPTS
    assert [one.files for one in made] == [{0: prompt.text.encode()} for prompt in PROMPTS]
    assert [one.rows[0]["prompt"] for one in made] == [prompt.text for prompt in PROMPTS]
    assert all(one.stages["save"]["items"] == 1 for one in made)


def test_pictures_are_encoded_while_the_next_candidates_are_made(worker):
    assert len(list(worker(Source(waits=True)).over(PROMPTS))) == 3


@pytest.mark.parametrize("error", [RunError("prompt 2: a score is not finite"), KeyboardInterrupt()])
def test_what_was_made_before_an_error_comes_before_it(worker, error):
    made = []
    with pytest.raises(type(error)):
        made.extend(one.prompt.id for one in worker(Source(fails=2, error=error)).over(PROMPTS))
    assert made == [0, 1]
