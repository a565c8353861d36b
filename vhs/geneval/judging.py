"""Judges a folder of pictures: batches, resume, several processes, a table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vhs.device import resolve_device
from vhs.errors import ImageError
from vhs.geneval.draw import draw_verdict
from vhs.geneval.evaluate import GenEval
from vhs.geneval.folders import Item, Pictures, find_pictures, listed_pictures
from vhs.geneval.metadata import check_metadata
from vhs.geneval.results import Judged, Results, Row, make_row
from vhs.geneval.spec import JudgeConfig, resolve_judge
from vhs.geneval.summary import format_table, outcomes_of, summarize
from vhs.pictures import open_picture
from vhs.processes import Process, current_process
from vhs.records import Verdict


@dataclass(frozen=True)
class JudgeOptions:
    """What to judge and how. `prompts`: a table of files in `images` and their prompts; `every`: all candidates of a
    run, not the winners; `draw`: folder for drawn verdicts."""

    images: Path
    out: Path
    prompts: Path | None = None
    every: bool = False
    keep_going: bool = False
    restart: bool = False
    self_check: bool = True
    draw: Path | None = None


def judge_folder(options: JudgeOptions, config: JudgeConfig, say: Callable[[str], None] = print) -> list[Row]:
    """Judges what is not judged yet, writes `options.out` and says the table; returns the rows.

    Raises a VHSError, before a model loads where that can be known.
    """
    process = current_process(config.timeout)
    say = say if process.first else lambda line: None
    spec = resolve_judge(config, resolve_device(config.device, process)).fetched(options.self_check)
    if options.prompts is not None:
        pictures = listed_pictures(options.prompts, options.images, spec.names)
    else:
        pictures = find_pictures(
            options.images,
            lambda metadata, where: check_metadata(metadata, spec.names, where),
            options.every,
            options.keep_going,
        )
    results = Results(options.out, spec.describe(), process.index)
    if process.first:
        results.restart() if options.restart else results.gather()
    process.wait()
    judged = results.judged()
    results.check(judged, pictures.items)
    left = sum(item.key not in judged for item in pictures.items)
    if judged:
        say(f"{options.out}: {len(judged)} pictures judged already, {left} to go")
    finished = results.finished()
    process.wait()
    if left:
        work = [item for item in pictures.items if item.key not in finished]
        _judge(work, judged, spec.load(options.self_check), options, results, process)
    process.wait()
    if not process.first:
        return []
    rows = results.close(pictures.items)
    _report(rows, pictures, options, say)
    return rows


def _batches(items: Sequence[Item], judged: Judged, size: int, process: Process) -> list[Sequence[Item]]:
    """This process's share of the batches that lack a verdict.

    A score's last digits depend on the pictures that share its forward pass. So batches are cut from all of a command's
    pictures, whatever the number of processes is, and one that an interruption has cut in two is judged again whole.
    """
    batches = [items[start : start + size] for start in range(0, len(items), size)]
    left = [batch for batch in batches if any(item.key not in judged for item in batch)]
    return left[process.index :: process.count]


def _judge(
    items: Sequence[Item], judged: Judged, judge: GenEval, options: JudgeOptions, results: Results, process: Process
) -> None:
    from tqdm import tqdm

    batches = _batches(items, judged, judge.detector.batch_size, process)
    with tqdm(total=sum(map(len, batches)), unit="picture", desc="GenEval", disable=not process.first) as bar:
        for batch, images in _opened(batches, options.keep_going):
            rows = []
            for item, image, verdict in _verdicts(batch, images, judge, options.keep_going):
                rows.append((item, make_row(item, verdict, judge.names)))
                if options.draw:
                    _save_drawing(options.draw, item, image, verdict)
            results.append(rows)
            bar.update(len(batch))


def _opened(
    batches: Sequence[Sequence[Item]], keep_going: bool
) -> Iterator[tuple[Sequence[Item], list[Image.Image | None]]]:
    """The batches' pictures; the next batch is read while this one is judged. None: unreadable, with `keep_going`."""

    def read(item: Item) -> Image.Image | None:
        try:
            return open_picture(item.path)
        except ImageError:
            if not keep_going:
                raise
            return None

    with ThreadPoolExecutor(max_workers=min(8, max(map(len, batches), default=1))) as pool:
        waiting: list[Future] = [pool.submit(read, item) for item in batches[0]] if batches else []
        for index, batch in enumerate(batches):
            images = [future.result() for future in waiting]
            waiting = [pool.submit(read, item) for item in batches[index + 1]] if index + 1 < len(batches) else []
            yield batch, images


def _verdicts(
    batch: Sequence[Item], images: Sequence[Image.Image | None], judge: GenEval, keep_going: bool
) -> list[tuple[Item, Image.Image, Verdict]]:
    """One triple per picture that could be judged; a batch with a bad picture in it is judged one by one."""
    there = [(item, image) for item, image in zip(batch, images, strict=True) if image is not None]
    try:
        verdicts = (
            judge.judge_batch([image for _, image in there], [item.metadata for item, _ in there]) if there else []
        )
    except ImageError as error:
        if len(there) == 1:
            if keep_going:
                return []
            raise ImageError(f"{there[0][0].path}: {error}") from None
        return [one for item, image in there for one in _verdicts([item], [image], judge, keep_going)]
    return [(item, image, verdict) for (item, image), verdict in zip(there, verdicts, strict=True)]


def _save_drawing(folder: Path, item: Item, image: Image.Image, verdict: Verdict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw_verdict(image, verdict, item.metadata["prompt"]).save(folder / item.drawing)


def _report(rows: Sequence[Row], pictures: Pictures, options: JudgeOptions, say: Callable[[str], None]) -> None:
    done = {row["filename"] for row in rows}
    unread = [item for item in pictures.items if str(item.path) not in done]
    for problem in [*pictures.problems, *(_problem(item) for item in unread)]:
        say(f"left out: {problem}")
    if rows:
        summary = summarize(outcomes_of(rows))
        say(format_table({"correct": summary}))
        counts = f"{summary.over_prompts.images} pictures of {summary.over_prompts.prompts} prompts judged"
    else:
        counts = "no picture judged"
    if pictures.unjudged:
        counts += f"; {pictures.unjudged} prompts without GenEval's metadata not judged"
    if pictures.problems or unread:
        what = "prompts" if options.prompts else "prompt folders"
        counts += f"; LEFT OUT: {len(pictures.problems)} {what}, {len(unread)} pictures"
    say(f"{counts}\n{options.out}")


def _problem(item: Item) -> str:
    try:
        open_picture(item.path)
    except ImageError as error:
        return str(error)
    return f"{item.path}: too thin for the detector"
