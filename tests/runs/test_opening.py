"""What becomes of a run's folder: nothing finished is lost, whatever is asked and whenever a process is killed."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.kills import every_kill, killed
from vhs.config.run import RunConfig
from vhs.errors import RunError
from vhs.files import read_json, write_json
from vhs.folders import locked
from vhs.records import Prompt
from vhs.runs.folder import RunFolder
from vhs.runs.opening import adopt, close_folder, decide, open_folder, recover

PROMPTS = [Prompt(index, text) for index, text in enumerate(("a cat", "a dog"))]


@dataclasses.dataclass
class Made:
    """A run without models: its folder, and what run.json says of it."""

    folder: RunFolder
    run: SimpleNamespace
    manifest: dict

    def write(self, verdict: str, prompts: list[Prompt] = PROMPTS, target: RunFolder | None = None) -> None:
        for prompt in prompts:
            rows = [{"score": 0.5, "reason": verdict}, {"score": 0.1, "reason": verdict}]
            (target or self.folder).write_prompt(prompt, 0, {0: b"picture"}, rows)

    def verdicts(self) -> set[str]:
        return {row["reason"] for prompt in PROMPTS for row in self.folder.rows(prompt.id)}


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Made]:
    """`made(seed=3, cont=True)`: a run with these keys, in the same folder each time."""

    def build(**keys) -> Made:
        config = RunConfig(ckpt="any", latent_verifier_path="any", num_samples=2, name="r",
                           output_path=str(tmp_path), **keys)  # fmt: skip
        run = SimpleNamespace(config=config, prompts=PROMPTS, rejudges=config.re_eval)
        return Made(RunFolder(config), run, {"config": config.model_dump(mode="json")})

    return build


@pytest.fixture
def finished(made) -> Made:
    run = made()
    open_folder("start", run.folder, run.manifest)
    run.write("first")
    write_json(run.folder.root / "summary.json", {})
    return run


def decision(run: Made) -> str:
    return decide(run.run, run.folder, run.manifest)


def test_a_new_folder_starts_and_a_finished_run_is_already_done(made, finished) -> None:
    assert decision(made()) == "done" == decision(made(cont=True)) and decision(made(overwrite=True)) == "replace"
    assert decision(made(re_eval=True, detector_size=(64, 64))) == "judge again"


def test_a_run_of_an_earlier_version_is_this_run_where_its_missing_keys_have_their_defaults(made, finished) -> None:
    record = read_json(finished.folder.root / "run.json")
    del record["config"]["noise"]
    write_json(finished.folder.root / "run.json", record)
    assert decision(made()) == "done" == decision(made(noise=finished.folder.config.noise))
    other = "published" if finished.folder.config.noise == "candidate" else "candidate"
    with pytest.raises(RunError, match=f"noise: {finished.folder.config.noise}, now {other}"):
        decision(made(noise=other))


def test_an_unfinished_run_goes_on_when_asked(made) -> None:
    run = made()
    assert decision(run) == "start"
    open_folder("start", run.folder, run.manifest)
    run.write("first", PROMPTS[:1])
    assert decision(made(cont=True)) == "continue" and decision(made(overwrite=True)) == "replace"
    with pytest.raises(
        RunError, match=r"unfinished \(1 of 2 prompts done\); go on with cont: true, or overwrite: true"
    ):
        decision(made())


@pytest.mark.parametrize("cont", [True, False])
def test_another_run_is_refused_and_left_as_it_is(made, finished, cont: bool) -> None:
    with pytest.raises(RunError, match=r"another run \(seed: 42, now 3\); give this one another name, or overwrite"):
        decision(made(seed=3, cont=cont))
    assert finished.verdicts() == {"first"}


@pytest.mark.parametrize("name", ["summary.csv", "report.html", "gen_eval_r/x"])
def test_files_that_are_no_runs_are_not_touched(made, name: str) -> None:
    run = made(overwrite=True)
    file = run.folder.root / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(RunError, match=r"but no run.json, so it is no run of this project"):
        decision(run)
    assert file.read_text() == "mine"


def test_a_replaced_run_stays_until_the_new_one_is_finished(made, finished) -> None:
    (finished.folder.root / "notes.txt").write_text("mine")
    new = made(seed=3, overwrite=True)
    open_folder("replace", new.folder, new.manifest)
    [aside] = new.folder.root.parent.glob("r.old-*")
    assert RunFolder(new.folder.config, aside).rows(0)[0]["reason"] == "first" and not new.folder.done(0)
    new.write("second")
    close_folder(new.folder)
    assert new.verdicts() == {"second"} and [file.name for file in aside.iterdir()] == ["notes.txt"]
    assert not (new.folder.root / ".replaces").exists()


def test_a_run_that_replaced_an_unfinished_one_deletes_both(made, finished) -> None:
    for seed in (3, 4):
        run = made(seed=seed, overwrite=True)
        open_folder("replace", run.folder, run.manifest)
        assert read_json(run.folder.root / "run.json")["config"]["seed"] == seed
    close_folder(run.folder)
    assert not list(run.folder.root.parent.glob("r.old-*"))


def test_a_second_run_is_kept_out_and_a_dead_one_keeps_nobody_out(made, tmp_path: Path) -> None:
    run = made()
    held, refused = locked(run.folder.root), pytest.raises(RunError, match="another run is being written there")
    with held, refused, locked(run.folder.root):
        pytest.fail("two runs in one folder")

    def die_inside() -> None:
        with locked(run.folder.root):
            os.kill(os.getpid(), signal.SIGKILL)

    assert killed(die_inside)
    with locked(run.folder.root):
        pass


def test_judging_again_is_all_or_nothing_at_every_kill(made, finished) -> None:
    again = made(re_eval=True, detector_size=(64, 64))

    def work() -> None:
        again.write("second", target=again.folder.draft)
        adopt(again.folder, again.manifest)

    def check(at: int) -> None:
        recover(finished.folder)
        size = read_json(finished.folder.root / "run.json")["config"]["detector_size"]
        assert (finished.verdicts(), size) in [({"first"}, [1333, 800]), ({"second"}, [64, 64])], at
        assert sorted(path.name for path in finished.folder.root.iterdir()) == [
            "gen_eval_r",
            "run.json",
            "summary.json",
        ]
        finished.folder.remove()  # from the beginning again
        open_folder("start", finished.folder, finished.manifest)
        finished.write("first")
        write_json(finished.folder.root / "summary.json", {})

    assert every_kill(work, check) > 20


def test_replacing_loses_nothing_at_every_kill(made, tmp_path: Path) -> None:
    def begin() -> Made:
        run = made()
        open_folder("start", run.folder, run.manifest)
        run.write("first")
        return run

    begin()

    def work() -> None:
        new = made(seed=3, overwrite=True)
        open_folder("replace", new.folder, new.manifest)
        new.write("second")
        close_folder(new.folder)

    def check(at: int) -> None:
        """The old run is whole somewhere until the new one is; the same command then ends with the new one alone."""
        folders = [folder for folder in tmp_path.iterdir() if folder.is_dir() and (folder / "run.json").is_file()]
        whole = [RunFolder(made().folder.config, folder) for folder in folders]
        assert any(folder.done(0) and folder.done(1) for folder in whole), at
        new = made(seed=3, cont=True)
        recover(new.folder)
        if new.folder.manifest() is None:
            open_folder("start", new.folder, new.manifest)
        elif new.folder.manifest()["config"]["seed"] == 42:
            open_folder("replace", new.folder, new.manifest)
        else:
            open_folder(decision(new), new.folder, new.manifest)
        new.write("second", [prompt for prompt in PROMPTS if not new.folder.done(prompt.id)])
        close_folder(new.folder)
        assert new.verdicts() == {"second"} and read_json(new.folder.root / "run.json")["config"]["seed"] == 3
        for folder in tmp_path.glob("r*"):
            RunFolder(new.folder.config, folder).remove()
        begin()

    assert every_kill(work, check) > 15
