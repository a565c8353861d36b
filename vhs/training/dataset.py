"""From collected sets to batches: the samples, their tokenised text, their features.

Text is tokenised once per distinct prompt or caption and kept as one padded table, so that a batch only indexes it.
The LLM reads [before | picture | after]: `before` is the same for all samples, `after` is padded on the right, where
causal attention cannot see the padding.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from vhs.errors import ConfigError
from vhs.training.config import TrainConfig
from vhs.training.data.generated import open_source
from vhs.training.data.labels import read_captions, read_labels, read_more_labels
from vhs.training.data.shards import ShardCache, is_remote
from vhs.training.data.store import CollectedSet
from vhs.training.decontaminate import Overlap, overlaps
from vhs.training.losses import Loss, ranked_pairs
from vhs.training.orders import blocked_order, order, streamed_order
from vhs.verifiers.conversation import IMAGE_INDEX, build_inputs, chat_text, check_prompt, tokenize
from vhs.verifiers.score import answer_ids


@dataclass(frozen=True)
class Sample:
    """Sample `index` of set number `source`, its row in the table of texts, and its verdict (true for captions)."""

    source: int
    index: int
    text: int
    label: bool


@dataclass
class Batch:
    """B samples on the CPU.

    `features` (B, ...) as stored; `after` (B, Q) ids; M predictions: the token after column `columns` (M,) of row
    `rows` (M,) should be `targets` (M,), with the verdict `labels` (M,). Column -1 is the picture's last token. A
    ranking loss compares predictions of equal `groups` (M,).
    """

    features: torch.Tensor
    after: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor
    labels: torch.Tensor
    groups: torch.Tensor


@dataclass(frozen=True)
class Texts:
    """U distinct texts. `after` (U, Q) and `targets` (U, R) are padded with 0; `targets[u, r]` follows column
    `first[u] + r` of `after[u]`; `counts` (U,) says how many targets there are."""

    before: list[int]
    after: torch.Tensor
    lengths: torch.Tensor
    first: torch.Tensor
    targets: torch.Tensor
    counts: torch.Tensor


@dataclass(frozen=True)
class Streams:
    """A shuffle buffer of `buffer` samples over `count` streams of shards, for batches of `batch` (see
    `orders.streamed_order`)."""

    buffer: int
    count: int
    batch: int


AHEAD = 8
"""Steps whose shards are read ahead."""


class TrainingData:
    """Samples of one split, indexed 0 .. n - 1; everything but the features is in memory."""

    def __init__(
        self,
        sets: Sequence[CollectedSet],
        samples: Sequence[Sample],
        texts: Texts,
        feature: str,
        answers: tuple[int, int] | None,
    ) -> None:
        self.sets, self.texts, self.feature, self.answers = sets, texts, feature, answers
        self.left_out: list[Overlap] = []
        """Prompts that an evaluation asks as well, whose samples are not here."""
        self.ranks, self.ranking_group = False, 1
        self.streams: Streams | None = None
        self.samples = list(samples)
        self._text = torch.tensor([s.text for s in samples], dtype=torch.long)
        self._label = torch.tensor([s.label for s in samples], dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels(self) -> torch.Tensor:
        """(n,) bool."""
        return self._label

    @property
    def prompts(self) -> list[tuple[int, int]]:
        """What each sample's prompt is, as something to group by."""
        return [(s.source, s.index // self.sets[s.source].layout.candidates) for s in self.samples]

    def name(self, position: int) -> str:
        sample = self.samples[position]
        return self.sets[sample.source].name(sample.index)

    def divisor(self, positions: Sequence[int], loss: Loss) -> float:
        """What the sum of losses over these samples is divided by, known without reading a feature."""
        which = torch.as_tensor(positions)
        if self.answers is None:
            return float(self.texts.counts[self._text[which]].sum())
        return loss.divisor(self._label[which])

    def groups(self, positions: Sequence[int]) -> torch.Tensor:
        """What a ranking loss compares among these samples, (B,): those that stand in one block of `ranking_group` and
        answer the same prompt. Blocks, not batches: so it does not matter how a batch is divided."""
        blocks = torch.arange(len(positions)) // self.ranking_group
        return blocks * len(self.texts.lengths) + self._text[torch.as_tensor(positions)]

    def pairs(self, positions: Sequence[int]) -> int:
        """How many pairs a ranking loss has among these samples."""
        return ranked_pairs(self._label[torch.as_tensor(positions)], self.groups(positions))

    def order(self, epoch: int, seed: int) -> torch.Tensor:
        """The samples of an epoch in their order; with a ranking loss the candidates of a prompt in blocks, with a
        shuffle buffer shard by shard."""
        if self.streams is not None:
            one = self.streams
            return streamed_order(self._shards, one.buffer, one.count, one.batch, epoch, seed)
        if not self.ranks:
            return order(len(self), epoch, seed)
        return blocked_order(self._text, self.ranking_group, epoch, seed)

    @cached_property
    def _shards(self) -> torch.Tensor:
        """The shard of each sample, (n,), numbered over all sets."""
        keys = [(sample.source, self.sets[sample.source].shard_of(sample.index)) for sample in self.samples]
        numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
        return torch.tensor([numbers[key] for key in keys])

    def keep_shards(self, processes: int) -> None:
        """Reads the shards of a shuffle buffer whole from now on, and keeps as many as the streams of one of
        `processes` need at a time."""
        one, each = self.streams, len(self) / (int(self._shards.max()) + 1)
        # a sample is moved by up to `buffer` places, and the ones in use at a time stand within so many
        window = (one.buffer + (AHEAD + 1) * one.batch) / one.count
        kept = ShardCache(one.count // processes * (math.ceil(window / each) + 2))
        for data in self.sets:
            data.cache = kept

    def expect(self, positions: Sequence[int]) -> None:
        """Begins to read the shards of samples that will be asked for."""
        for source, shard in {
            (one.source, self.sets[one.source].shard_of(one.index)) for one in map(self.samples.__getitem__, positions)
        }:
            self.sets[source].expect(shard)

    def batch(self, positions: Sequence[int]) -> Batch:
        """The batch of these samples. Raises ConfigError, naming the sample, for a feature that is not finite."""
        which = torch.as_tensor(positions)
        text, label = self._text[which], self._label[which]
        features = self._features(positions)
        counts = self.texts.counts[text]
        rows = torch.arange(len(which)).repeat_interleave(counts)
        steps = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]
        targets = self.texts.targets[text[rows], steps]
        if self.answers is not None:  # the table holds a placeholder: one text has candidates of both verdicts
            targets = torch.where(label[rows], *self.answers)
        after = self.texts.after[text, : int(self.texts.lengths[text].max())].long()
        columns, groups = self.texts.first[text[rows]] + steps, self.groups(positions)[rows]
        return Batch(features, after, rows, columns, targets.long(), label[rows], groups)

    def _features(self, positions: Sequence[int]) -> torch.Tensor:
        chosen = [self.samples[p] for p in positions]
        sources = {s.source for s in chosen}
        if len(sources) == 1:
            return self.sets[sources.pop()].gather(self.feature, [s.index for s in chosen])
        return torch.cat([self.sets[s.source].gather(self.feature, [s.index]) for s in chosen])


def load_data(config: TrainConfig, tokenizer: Any) -> tuple[TrainingData, TrainingData | None]:
    """The training and the evaluation split (None where there is none). Raises ConfigError."""
    sets = [open_source(named) for named in config.data]
    held_out = [open_source(named) for named in config.eval_data]
    check_shapes([*sets, *held_out], config.feature)
    _require_order(sets, config)
    everything, left_out = _decontaminated(_samples(sets, config), config)
    kept, evaluated = _split(everything, config)
    if held_out:
        kept, evaluated = kept + evaluated, _samples(held_out, config)
    kept = _fraction(kept, config)
    more, also_left_out = _decontaminated(_more(sets, kept, evaluated, config), config)
    kept += more
    if len(kept) < config.batch_size:
        raise ConfigError(f"batch_size: {config.batch_size} samples a step, but there are only {len(kept)} to train on")
    train = _tabulated(sets, kept, config, tokenizer)
    train.ranks, train.ranking_group = config.ranking > 0, config.ranking_group
    if config.shuffle_buffer is not None:
        train.streams = Streams(config.shuffle_buffer, config.streams or 1, config.batch_size)
    train.left_out = list(dict.fromkeys([*left_out, *also_left_out]))
    if not evaluated:
        return train, None
    return train, _tabulated(held_out or sets, evaluated, config, tokenizer)


def _require_order(sets: Sequence[CollectedSet], config: TrainConfig) -> None:
    """Raises ConfigError where single samples would be picked out of a store's shards."""
    for data in sets:
        if is_remote(data.folder) and config.shuffle_buffer is None:
            raise ConfigError(
                f"{data.folder}: its samples would be read one by one, a shard each time; set shuffle_buffer (such as "
                "4096), which reads shard after shard"
            )


def check_shapes(sets: Sequence[CollectedSet], feature: str) -> tuple[int, ...]:
    """The shape that all sets store `feature` in. Raises ConfigError where they differ."""
    shapes = [data.require(feature) for data in sets]
    for data, shape in zip(sets, shapes, strict=True):
        if shape != shapes[0]:
            raise ConfigError(
                f"{data.folder}: {feature} is {shape}, in {sets[0].folder} it is {shapes[0]}; "
                "sets of one generator are needed"
            )
    return shapes[0]


@dataclass(frozen=True)
class _Raw:
    source: int
    index: int
    prompt: str
    text: str
    label: bool


def _samples(sets: Sequence[CollectedSet], config: TrainConfig) -> list[_Raw]:
    rows = []
    for source, data in enumerate(sets):
        if config.stage == "finetune":
            for index, label in sorted(read_labels(data, data.own.get("labels", config.labels)).items()):
                prompt = data.prompt(index).text
                rows.append(_Raw(source, index, prompt, prompt, label))
        else:
            for index, caption in sorted(read_captions(data, data.own.get("captions", config.captions)).items()):
                rows.append(_Raw(source, index, data.prompt(index).text, caption, True))
    if config.stage == "finetune" and len({row.label for row in rows}) < 2:
        only = "yes" if rows and rows[0].label else "no"
        raise ConfigError(
            f"{config.labels}: all {len(rows)} labels are {only}; a verifier needs candidates of both verdicts"
        )
    return rows


def _decontaminated(rows: list[_Raw], config: TrainConfig) -> tuple[list[_Raw], list[Overlap]]:
    """The rows whose prompts no evaluation asks, and the others' prompts. Raises ConfigError where none is left."""
    if not config.decontaminate:
        return rows, []
    # stage 1 learns captions of pictures, stage 2 (other prompts too) verdicts on prompts
    asked = [row.prompt if config.stage == "align" else row.text for row in rows]
    found = overlaps(asked)
    known = {one.prompt for one in found}
    kept = [row for row, text in zip(rows, asked, strict=True) if text not in known]
    if rows and not kept:
        raise ConfigError(
            f"decontaminate: all {len(rows)} samples are of prompts of {found[0].file}, first {found[0].prompt!r}; "
            "other prompts are needed, or decontaminate: false"
        )
    return kept, found


def _rank(text: str, seed: int) -> bytes:
    # a hash, not a shuffle: a prompt keeps its place when others are added, and small fractions lie inside larger ones
    return hashlib.blake2b(f"{seed}|{text}".encode(), digest_size=8).digest()


def _split(rows: list[_Raw], config: TrainConfig) -> tuple[list[_Raw], list[_Raw]]:
    """Training and evaluation rows: no prompt text is in both."""
    # always by seed 0: runs with different seeds are evaluated on the same prompts and can be compared
    texts = sorted({row.prompt for row in rows}, key=lambda text: _rank(text, 0))
    count = 0 if config.eval_data else round(config.eval_fraction * len(texts))
    if config.eval_fraction and not config.eval_data and not count:
        raise ConfigError(
            f"eval_fraction: {config.eval_fraction} of {len(texts)} prompts is none; use 0 or more prompts"
        )
    chosen = set(texts[:count])
    return [r for r in rows if r.prompt not in chosen], [r for r in rows if r.prompt in chosen]


def _fraction(rows: list[_Raw], config: TrainConfig) -> list[_Raw]:
    if config.fraction == 1:
        return rows
    texts = sorted({row.prompt for row in rows}, key=lambda text: _rank(text, config.seed + 1))
    chosen = set(texts[: max(1, round(config.fraction * len(texts)))])
    return [row for row in rows if row.prompt in chosen]


def _more(sets: Sequence[CollectedSet], kept: list[_Raw], evaluated: list[_Raw], config: TrainConfig) -> list[_Raw]:
    """The training samples again, with verdicts on other prompts; none is about a prompt that is evaluated on."""
    if config.stage != "finetune" or config.more_labels is None:
        return []
    own = {(row.source, row.index): row for row in kept}
    kept_apart = {row.text for row in evaluated}
    found = []
    for source, data in enumerate(sets):
        for index, text, label in read_more_labels(data, config.more_labels):
            row = own.get((source, index))
            if row is None or text in kept_apart:
                continue
            if text == row.prompt and label != row.label:
                where = f"{data.folder / config.more_labels}: {data.name(index)}"
                raise ConfigError(f"{where} has another verdict on its own prompt than in {config.labels}")
            found.append(_Raw(source, index, row.prompt, text, label))
    return found


def _tabulated(sets: Sequence[CollectedSet], rows: list[_Raw], config: TrainConfig, tokenizer: Any) -> TrainingData:
    distinct = {text: number for number, text in enumerate(dict.fromkeys(row.text for row in rows))}
    if config.stage == "finetune":
        texts = question_texts(tokenizer, distinct, config.use_generation_prompt)
        answers = answer_ids(tokenizer)
    else:
        texts = caption_texts(tokenizer, distinct, config.question, config.use_generation_prompt)
        answers = None
    samples = [Sample(row.source, row.index, distinct[row.text], row.label) for row in rows]
    return TrainingData(sets, samples, texts, config.feature, answers)


def question_texts(tokenizer: Any, prompts: Iterable[str], use_generation_prompt: bool) -> Texts:
    """The verifier's question about each prompt; one target, the answer, follows its last token."""
    sides = [_sides(build_inputs(tokenizer, prompt, use_generation_prompt)) for prompt in prompts]
    return _table(sides, [[0]] * len(sides), lambda after: len(after) - 1)


def caption_texts(tokenizer: Any, captions: Iterable[str], question: str | None, use_generation_prompt: bool) -> Texts:
    """Captions after the picture, in LLaVA's plain form or as the answer to `question`, each with its end of turn."""
    before, asked = [], []
    if question is not None:
        before, asked = _sides(tokenize(tokenizer, chat_text(tokenizer, question, use_generation_prompt)))
    end = tokenizer.eos_token_id
    sides, targets = [], []
    for caption in captions:
        check_prompt(tokenizer, caption)
        ids = tokenizer(caption, add_special_tokens=False).input_ids
        sides.append((before, [*asked, *ids]))
        targets.append([*ids, end])
    return _table(sides, targets, lambda after: len(asked) - 1)


def _sides(ids: list[int]) -> tuple[list[int], list[int]]:
    place = ids.index(IMAGE_INDEX)
    return ids[:place], ids[place + 1 :]


def _table(
    sides: list[tuple[list[int], list[int]]], targets: list[list[int]], first: Callable[[list[int]], int]
) -> Texts:
    before = sides[0][0]
    assert all(side[0] == before for side in sides), "the text before the picture depends on the prompt"
    after = [side[1] for side in sides]
    return Texts(
        before,
        _padded(after),
        torch.tensor([len(a) for a in after]),
        torch.tensor([first(a) for a in after]),
        _padded(targets),
        torch.tensor([len(t) for t in targets]),
    )


def _padded(rows: list[list[int]]) -> torch.Tensor:
    table = torch.zeros(len(rows), max(len(row) for row in rows), dtype=torch.int32)  # half of int64's memory
    for number, row in enumerate(rows):
        table[number, : len(row)] = torch.tensor(row, dtype=torch.int32)
    return table
