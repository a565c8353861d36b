"""One stage of training: the loop, its evaluation, and the files it writes.

    <output_path>/<name>/checkpoint/   the verifier: of the best evaluation (`best_by`), or of the end without one
                        /state/        what `cont: true` resumes from
                        /left_out.jsonl  prompts that are not trained on, since evaluations ask them
                        /log.jsonl     loss, learning rate and norm of the gradient; evaluations
                        /train.json    the configuration and how it ended

A step is a function of (configuration, step): which samples it reads, in which order, its learning rate and its random
numbers. So a resumed run equals an uninterrupted one, bit for bit on a CPU. A batch's loss is divided by the weight of
the whole batch, over all processes and accumulation steps, so its gradient does not depend on how the batch was split.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object

from vhs.device import attention_to_train
from vhs.errors import RunError
from vhs.files import read_form, write_bytes
from vhs.folders import locked
from vhs.metrics import fit_temperature, within_prompt_auc
from vhs.processes import current_process
from vhs.training import state
from vhs.training.config import TrainConfig
from vhs.training.data.generated import open_source
from vhs.training.dataset import AHEAD, Batch, TrainingData, check_shapes, load_data
from vhs.training.folder import Finished, close_training, decide_training, describe, recover, saved_step
from vhs.training.losses import loss_of, ranking
from vhs.training.model import (
    build_preprocessing,
    feature_width,
    input_record,
    load_initial_checkpoint,
    parameter_groups,
    prepare,
    read_initial_checkpoint,
    save,
    to_device,
)
from vhs.training.read_ahead import ReadAhead
from vhs.verifiers.conversation import check_length
from vhs.verifiers.language_model import load_tokenizer
from vhs.verifiers.score import margins, says_yes, score_logits

Progress = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class Result:
    """How a training run ended: its checkpoint, the last step, and the figures of the evaluation that chose it."""

    checkpoint: Path
    steps: int
    best_step: int
    best: dict[str, float]
    seconds: float

    def line(self) -> str:
        """For the terminal."""
        best = ", ".join(f"{key} {value:.4f}" for key, value in self.best.items())
        return f"{self.checkpoint}: of step {self.best_step}{f' ({best})' if best else ''}, {self.seconds:.0f} s"


def learning_rate(step: int, steps: int, peak: float, warmup_ratio: float) -> float:
    """The rate of step `step` (from 0) of `steps`: a linear rise over the first `warmup_ratio`, then a cosine to 0."""
    warmup = math.ceil(warmup_ratio * steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


class Trainer:
    """One stage of training, ready to run. Everything that can be refused is refused before weights are loaded."""

    def __init__(self, config: TrainConfig, manifest: dict[str, Any] | None = None) -> None:
        """`manifest` is `folder.describe(config)`, where it is known already."""
        self.config = config
        self.manifest = manifest or describe(config)
        sets = [open_source(named) for named in config.data]
        shape = check_shapes(sets, config.feature)
        self.generator_record = sets[0].layout.generator_record(config.feature)
        self.width = feature_width(shape)
        self.initial = read_initial_checkpoint(config, shape)
        self.preprocess = build_preprocessing(config, shape, self.initial.projector_type)
        self.trained_input = input_record(config)
        self.tokenizer = load_tokenizer(self.initial.folder)
        self.train_data, self.eval_data = load_data(config, self.tokenizer)
        self._check_context(shape)
        self.loss = loss_of(config, self.train_data.labels)
        self.accelerator = state.build_accelerator(config)
        self._check_batch()
        sharded = self.accelerator.distributed_type == DistributedType.FSDP
        llm, connector = load_initial_checkpoint(self.initial, config, self.width)
        model = prepare(llm, connector, config, self.train_data.texts.before, sharded)
        optimizer = torch.optim.AdamW(parameter_groups(model, config), betas=(0.9, 0.999))
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self._affirms = says_yes(self.tokenizer)
        self.reader = ReadAhead()
        self._ordered: tuple[int, torch.Tensor] = (-1, torch.empty(0))
        self.steps_per_epoch = len(self.train_data) // config.batch_size
        self.steps = min(math.ceil(config.epochs * self.steps_per_epoch), config.max_steps or math.inf)

    def _check_context(self, shape: tuple[int, ...]) -> None:
        tokens = shape[1] * shape[2] if len(shape) == 3 else shape[0]
        for data in filter(None, (self.train_data, self.eval_data)):
            longest = int(data.texts.lengths.max())
            position = next(i for i, s in enumerate(data.samples) if int(data.texts.lengths[s.text]) == longest)
            sample = data.samples[position]
            text = data.sets[sample.source].prompt(sample.index).text
            check_length([0] * (len(data.texts.before) + 1 + longest), tokens, self.initial.context, text)

    def _check_batch(self) -> None:
        world = self.accelerator.num_processes
        if self.config.batch_size % world:
            raise RunError(f"batch_size: {self.config.batch_size} does not divide among {world} processes")
        if self.train_data.streams is not None:
            if self.train_data.streams.count % world:
                raise RunError(
                    f"streams: {self.train_data.streams.count} do not divide among {world} processes, which would all "
                    f"read every shard; streams: {world} would"
                )
            self.train_data.keep_shards(world)
        share, group = self.config.batch_size // world, self.config.ranking_group
        if self.config.ranking and share % group:
            raise RunError(
                f"ranking_group: {group} does not divide the {share} samples that each of {world} processes has of a "
                "batch; another batch_size is needed"
            )

    # ------------------------------------------------------------------------------------------------------- a step

    def positions(self, step: int) -> list[int]:
        """The samples of a step's whole batch."""
        epoch, within = divmod(step, self.steps_per_epoch)
        start = within * self.config.batch_size
        return self._order(epoch)[start : start + self.config.batch_size].tolist()

    def _order(self, epoch: int) -> torch.Tensor:
        if self._ordered[0] != epoch:
            self._ordered = (epoch, self.train_data.order(epoch, self.config.seed))
        return self._ordered[1]

    def accumulate(self, step: int) -> torch.Tensor:
        """Computes the gradient of a step's loss into the parameters; returns this process's share of the loss.

        Raises RunError, naming the sample, when a loss is not finite.
        """
        accelerator, config = self.accelerator, self.config
        self.model.train()
        # dropout draws from the step's own stream, so that a resumed run draws what the uninterrupted one did
        torch.manual_seed((config.seed * 1_000_003 + step) * 4096 + accelerator.process_index)
        whole = self.positions(step)
        # of the whole batch, known from its labels alone: no process needs the others' losses
        divisor = self.train_data.divisor(whole, self.loss)
        pairs = self.train_data.pairs(whole) if config.ranking else 0
        if self.train_data.streams is not None and step + AHEAD < self.steps:
            self.train_data.expect([one for part in self._parts(step + AHEAD) for one in part])
        parts = self._parts(step)
        following = self._parts(step + 1)[:1] if step + 1 < self.steps else []
        total = torch.zeros((), device=accelerator.device)
        for number, (positions, batch) in enumerate(self.reader.over(self.train_data, parts, following)):
            with _synchronised(accelerator, self.model, number == len(parts) - 1):
                values, logits = self._losses(batch)
                part = values.sum() / divisor
                if pairs:
                    odds = margins(logits, *self.train_data.answers)
                    ranked = ranking(odds, batch.labels.to(odds.device), batch.groups.to(odds.device))
                    values, part = values + ranked, part + config.ranking * ranked.sum() / pairs
                self._check_finite(values, batch, positions, step)
                # processes average their gradients; the divisor already counts the whole batch: sum them instead
                accelerator.backward(part * accelerator.num_processes)
            total += part.detach()
        return total

    def update(self, step: int) -> float:
        """Applies the gradient and clears it; returns its norm before clipping. Raises RunError unless it is finite."""
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)  # sharded under FSDP
        if not math.isfinite(norm):
            raise RunError(f"step {step}: the gradient is not finite; {self._kept()}")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.steps, group["peak"], self.config.warmup_ratio)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def _losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Weighted losses (M,) and logits (M, vocabulary) of the batch's predictions, on the device."""
        batch = to_device(batch, self.accelerator.device)
        with attention_to_train(self.accelerator.device.type, self.config.arithmetic):
            logits = self.model(self.preprocess(batch.features), batch.after, batch.rows, batch.columns)
        return self.loss.values(logits, batch.targets, batch.labels), logits

    def _parts(self, step: int) -> list[list[int]]:
        """This process's samples of a step, a micro-batch each."""
        whole, world = self.positions(step), self.accelerator.num_processes
        share = len(whole) // world
        mine = whole[self.accelerator.process_index * share :][:share]
        return [mine[at : at + self.config.micro_batch] for at in range(0, share, self.config.micro_batch)]

    def _check_finite(self, values: torch.Tensor, batch: Batch, positions: list[int], step: int) -> None:
        bad = ~torch.isfinite(values.detach())
        if bad.any():
            sample = positions[int(batch.rows[int(bad.nonzero()[0])])]
            raise RunError(f"step {step}: the loss of {self.train_data.name(sample)} is not finite; {self._kept()}")

    def _kept(self) -> str:
        saved = saved_step(self.config.folder)
        return "nothing was saved yet" if saved is None else f"the state of step {saved} and the checkpoint are kept"

    # -------------------------------------------------------------------------------------------------- evaluation

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean loss on the evaluation split and, for verdicts, accuracy and the AUC within a prompt."""
        data = self.eval_data
        self.model.eval()
        rows = self._scored(data)
        # in the samples' order, which is the labels'; fsum is exact, so the loss does not depend on the processes
        rows = sorted(gather_object(rows) if self.accelerator.num_processes > 1 else rows)
        divisor = data.divisor(range(len(data)), self.loss)
        figures = {"eval_loss": math.fsum(loss for _, loss, *_ in rows) / divisor}
        if data.answers:
            scores, labels = [score for _, _, score, _ in rows], data.labels.tolist()
            right = sum((score > 0) == label for score, label in zip(scores, labels, strict=True))
            figures["eval_accuracy"] = right / len(rows)
            area = within_prompt_auc(data.prompts, scores, labels)
            figures |= {} if math.isnan(area) else {"eval_auc": area}  # no held-out prompt has both verdicts
            if len(set(labels)) == 2:
                figures["temperature"] = fit_temperature([odds for *_, odds in rows], labels)
        return figures

    def _scored(self, data: TrainingData) -> list[tuple[int, float, float, float]]:
        """(sample, loss, score, log-odds of yes) of every prediction on this process's share of the samples."""
        rank, world, size = self.accelerator.process_index, self.accelerator.num_processes, self.config.micro_batch
        mine = range(len(data))[rank::world]
        parts = [list(mine[at : at + size]) for at in range(0, len(mine), size)]
        # FSDP gathers weights in every forward pass, so all processes must make equally many: where the samples do not
        # divide among them, the processes with fewer make one more, whose result is dropped.
        passes = math.ceil(math.ceil(len(data) / world) / size)
        rows: list[tuple[int, float, float, float]] = []
        for number, (positions, batch) in enumerate(self.reader.over(data, parts + [[0]] * (passes - len(parts)))):
            values, logits = self._losses(batch)
            if number >= len(parts):
                continue
            scores = odds = [0.0] * len(values)
            if data.answers:
                scores = score_logits(logits, *data.answers, self._affirms).score.tolist()
                odds = margins(logits, *data.answers).tolist()
            owners = [positions[row] for row in batch.rows.tolist()]
            rows += zip(owners, values.tolist(), scores, odds, strict=True)
        return rows

    # ------------------------------------------------------------------------------------------------------ the run

    def run(self, progress: Progress = lambda step, steps, figures: None) -> Result:
        """Trains from the last saved state (`cont: true`) or from the start, to the end.

        Raises RunError for a folder that this training may not go into.
        """
        config, accelerator, began = self.config, self.accelerator, time.perf_counter()
        record = state.begin(accelerator, config, self.manifest)
        left_out = self._list_left_out()
        eval_every, save_every = config.eval_every or self.steps_per_epoch, config.save_every or self.steps_per_epoch
        running, since = torch.zeros((), device=accelerator.device), 0
        for step in range(record.step, self.steps):
            running += self.accumulate(step)
            norm, since, last = self.update(step), since + 1, step + 1 == self.steps
            record.step = step + 1
            saving = last or (step + 1) % save_every == 0
            if saving or (step + 1) % config.log_every == 0:
                loss = float(accelerator.reduce(running, "sum")) / since
                rate = learning_rate(step, self.steps, config.learning_rate, config.warmup_ratio)
                state.log(accelerator, config, {"step": step + 1, "loss": loss, "lr": rate, "grad_norm": norm})
                progress(step + 1, self.steps, {"loss": loss})
                running.zero_()  # a tensor until here: reading it in every step would make the device wait
                since = 0
            if self.eval_data is not None and (last or (step + 1) % eval_every == 0):
                self._evaluated(record, progress)
            if saving:
                state.save_state(accelerator, config, record)
        if self.eval_data is None and record.best_step != self.steps:
            self._keep(record, {})
        seconds = round(time.perf_counter() - began, 1)
        result = Result(config.folder / "checkpoint", self.steps, record.best_step, record.best, seconds)
        state.finish(accelerator, config, {**self.manifest, "left_out": left_out}, record, seconds)
        return result

    def _list_left_out(self) -> dict[str, int]:
        """Lists the prompts that evaluations ask as well; returns how many of them are equal, and equal in words."""
        found = self.train_data.left_out
        if found and self.accelerator.is_main_process:
            lines = (json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in found)
            write_bytes(self.config.folder / "left_out.jsonl", "".join(lines).encode())
        kinds = [one.kind for one in found]
        return {"exact": kinds.count("exact"), "normalised": kinds.count("normalised")}

    def _evaluated(self, record: state.Record, progress: Progress) -> None:
        figures = self.evaluate()
        if not math.isfinite(figures["eval_loss"]):
            raise RunError(f"step {record.step}: the evaluation loss is not finite; {self._kept()}")
        state.log(self.accelerator, self.config, {"step": record.step, **figures})
        progress(record.step, self.steps, figures)
        if self._is_best(record, figures):
            self._keep(record, figures)

    def _is_best(self, record: state.Record, figures: dict[str, float]) -> bool:
        by = self.config.best_by
        if by == "eval_loss":
            return figures[by] < record.best.get(by, math.inf)
        if by not in figures:
            raise RunError(
                f"best_by: {by}: no held-out prompt has candidates of both verdicts, so there is no AUC; eval_loss, or "
                "a larger eval_fraction, is right"
            )
        return figures[by] > record.best.get(by, -math.inf)

    def _keep(self, record: state.Record, figures: dict[str, float]) -> None:
        """Makes the model as it is now the checkpoint."""
        record.best, record.best_step = figures, record.step
        tensors: dict[str, Any] = self.accelerator.get_state_dict(self.model)
        if self.accelerator.is_main_process:
            model = self.accelerator.unwrap_model(self.model)
            folder = self.config.folder / "checkpoint"
            record_of = None if self.config.feature == "clip" else self.generator_record
            own = {
                "generator": record_of,
                "trained_input": self.trained_input,
                "temperature": figures.get("temperature"),
            }
            save(tensors, model, self.tokenizer, self.config, self.initial, self.width, folder, **own)
        self.accelerator.wait_for_everyone()


def _synchronised(accelerator: Accelerator, model: torch.nn.Module, last: bool) -> AbstractContextManager:
    """Processes exchange gradients in the last part of a step only."""
    return nullcontext() if last else accelerator.no_sync(model)


def train(
    config: TrainConfig,
    progress: Progress = lambda step, steps, figures: None,
    say: Callable[[str], None] = lambda line: None,
) -> Result:
    """Trains one stage, from its configuration to its checkpoint; a training that is finished already is left as it is.

    Raises RunError, before anything is loaded or written, for a folder that holds something else.
    """
    process = current_process(config.timeout)
    with locked(config.folder, "training") if process.first else nullcontext():
        if process.first:
            recover(config.folder)
        process.wait()
        manifest = describe(config)
        if decide_training(config, manifest) == "done":
            say(f"{config.folder}: already done; overwrite=true makes it again")
            return _result_of(config)
        trainer = Trainer(config, manifest)
        held = f", {len(trainer.eval_data)} held out" if trainer.eval_data else ""
        out = len(trainer.train_data.left_out)
        left_out = f", {out} prompts of evaluations left out" if out else ""
        say(f"{len(trainer.train_data)} samples{held}{left_out}; {trainer.steps} steps of {config.batch_size}")
        return trainer.run(progress)


def _result_of(config: TrainConfig) -> Result:
    """How a finished training ended, from its train.json."""
    if current_process().first:
        close_training(config.folder)
    ended = read_form(config.folder / "train.json", Finished, remedy="overwrite=true makes it again")
    figures = (ended["step"], ended["best_step"], ended["best"], ended["seconds"])
    return Result(config.folder / "checkpoint", *figures)
