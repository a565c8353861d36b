"""Stopping a pipeline's own `__call__` in a block of one denoising step, and going on from there in a second call.

    first call    steps 1..s-1 run and the network's outputs are kept; in step s a hook on the block keeps its output
                  and ends the call
    second call   the same arguments; in steps 1..s-1 the kept outputs answer for the network, in step s the blocks that
                  have run hand on the kept state; everything later runs

The scheduler runs both times, from the same numbers, and a prompt's embeddings are computed once: the pipeline's
`encode_prompt` is answered as well. So none of the pipeline's code is repeated here, and the second call's latents
are those of an uninterrupted one, bit for bit at an equal batch size in float32.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from vhs.generators import candidates

Calls = tuple[Any, ...]
Draws = Callable[[], torch.Tensor]


class _Reached(Exception):
    """Ends a pipeline's call; never leaves this module."""


@dataclass(frozen=True)
class Stop:
    """Where a call ends: after `block` of denoising step `step` (from 0).

    `before` are the lists (or single blocks) that have run then, the block's own last; `read_again` the blocks
    among them whose outputs later blocks read; `observed` further blocks whose outputs are wanted, by name.
    """

    step: int
    block: nn.Module
    before: tuple[tuple[nn.Module, str], ...]
    read_again: tuple[nn.Module, ...] = ()
    observed: Mapping[str, nn.Module] = field(default_factory=dict)


@dataclass
class State:
    """What a stopped call leaves, candidate by candidate (see `vhs.generators.candidates`).

    `output` is what the block returned, `read_again` and `observed` what the others did, `answers` the network's
    outputs in the steps before.
    """

    output: Any
    read_again: tuple[Any, ...]
    observed: dict[str, Any]
    answers: tuple[Any, ...]

    def __getitem__(self, indices: Any) -> State:
        """The candidates at `indices`."""
        parts = (self.output, self.read_again, self.observed, self.answers)
        return State(*(candidates.take(part, indices) for part in parts))

    @staticmethod
    def cat(states: Sequence[State]) -> State:
        """The states of consecutive micro-batches as one."""
        columns = zip(*((s.output, s.read_again, s.observed, s.answers) for s in states), strict=True)
        return State(*(candidates.cat(list(column)) for column in columns))


class _Given(TorchFunctionMode):
    """Random numbers drawn inside are the candidates' own, not the global generator's."""

    def __init__(self, draw: Draws) -> None:
        super().__init__()
        self._draw = draw

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # Schedulers have no argument for their noise, and diffusers' `randn_tensor` ends in `torch.randn`.
        if function not in (torch.randn, torch.randn_like):
            return function(*args, **kwargs)
        like = args[0] if function is torch.randn_like else None
        dtype, device = (kwargs.get(key) or getattr(like, key, None) for key in ("dtype", "device"))
        return self._draw().to(device or "cpu", dtype or torch.get_default_dtype())


def encoded(pipeline: Any, call: Callable[[], Any]) -> tuple[Calls, torch.dtype]:
    """What `encode_prompt` returns, call by call, while `call()` runs until the network's first forward; and the
    precision that the pipeline asks its latents to have."""
    made: list[Any] = []
    precision = [torch.float32]
    encode, prepare = pipeline.encode_prompt, pipeline.prepare_latents

    @functools.wraps(encode)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        made.append(encode(*args, **kwargs))
        return made[-1]

    @functools.wraps(prepare)
    def asked(*args: Any, **kwargs: Any) -> Any:
        precision[0] = inspect.signature(prepare).bind(*args, **kwargs).arguments.get("dtype") or torch.float32
        return prepare(*args, **kwargs)

    def end(*args: Any, **kwargs: Any) -> None:
        raise _Reached

    with (
        _exchanged(pipeline, "encode_prompt", recorded),
        _exchanged(pipeline, "prepare_latents", asked),
        _exchanged(network_of(pipeline), "forward", end),
    ):
        _until_reached(call)
    return tuple(made), precision[0]


def network_of(pipeline: Any) -> nn.Module:
    """The network that denoises: `transformer`, or `unet`."""
    return pipeline.transformer if getattr(pipeline, "transformer", None) is not None else pipeline.unet


@contextmanager
def answering(pipeline: Any, text: Calls, count: int) -> Iterator[None]:
    """Within this context `encode_prompt` returns, in turn, what `encoded` kept, for `count` candidates."""
    turns = iter(text)

    @functools.wraps(pipeline.encode_prompt)
    def answer(*args: Any, **kwargs: Any) -> Any:
        return candidates.repeated(next(turns), count)

    with _exchanged(pipeline, "encode_prompt", answer):
        yield


def run(pipeline: Any, call: Callable[[], Any], draw: Draws) -> Any:
    """`call()` as it is, with `draw()` wherever its scheduler wants fresh noise."""
    with _counted(pipeline.scheduler, draw):
        return call()


def stopped(pipeline: Any, call: Callable[[], Any], stop: Stop, count: int, draw: Draws) -> State:
    """The state of `count` candidates that `call()` leaves where it stops."""
    network, answers, outputs = network_of(pipeline), [], {}

    def keep(key: Any, last: bool = False) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            # The scheduler's steps count, not the network's calls: with some guidance there are two of them a step.
            if steps.taken == stop.step:
                outputs[key] = candidates.split(output, count)
                if last:
                    raise _Reached

        return hook

    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        answers.append(candidates.split(output, count))

    with _counted(pipeline.scheduler, draw) as steps, ExitStack() as hooks:
        watched = [*enumerate(stop.read_again), *stop.observed.items()]
        for key, module in watched:
            hooks.callback(module.register_forward_hook(keep(key)).remove)
        hooks.callback(stop.block.register_forward_hook(keep("block", last=True)).remove)
        hooks.callback(network.register_forward_hook(record).remove)
        _until_reached(call)
    assert "block" in outputs, f"the pipeline took {steps.taken} steps and never reached the block"
    again = tuple(outputs[index] for index in range(len(stop.read_again)))
    return State(outputs["block"], again, {name: outputs[name] for name in stop.observed}, tuple(answers))


def resumed(pipeline: Any, call: Callable[[], Any], stop: Stop, state: State, draw: Draws) -> Any:
    """What `call()` returns when it goes on from `state`."""
    network = network_of(pipeline)
    forward, answers, done = network.forward, iter(state.answers), []

    @functools.wraps(forward)
    def answered(*args: Any, **kwargs: Any) -> Any:
        if steps.taken < stop.step:
            return candidates.join(next(answers))
        # `done`: in the step itself only the first call goes on from the state; a second one is another pass.
        if steps.taken > stop.step or done:
            return forward(*args, **kwargs)
        done.append(True)
        with _handing_on(stop, state):
            return forward(*args, **kwargs)

    with _counted(pipeline.scheduler, draw) as steps, _exchanged(network, "forward", answered):
        return call()


@contextmanager
def _handing_on(stop: Stop, state: State) -> Iterator[None]:
    """Within this context the blocks that have run return what they returned then.

    Only the last of them is read, unless the family says otherwise: the others of its list return the same, and lists
    before it are emptied.
    """
    kept = {id(block): output for block, output in zip(stop.read_again, state.read_again, strict=True)}
    with ExitStack() as stack:
        for parent, name in stop.before:
            listed = getattr(parent, name)
            blocks = list(listed) if isinstance(listed, nn.ModuleList) else [listed]
            if stop.block not in blocks and not all(id(block) in kept for block in blocks):
                stack.enter_context(_exchanged(parent, name, _emptied(listed)))
                continue
            for block in blocks:
                output = state.output if block is stop.block else kept.get(id(block), state.output)
                stack.enter_context(_exchanged(block, "forward", _returning(output)))
                if block is stop.block:
                    break
        yield


def _emptied(listed: nn.Module) -> nn.Module:
    return nn.ModuleList() if isinstance(listed, nn.ModuleList) else _First()


class _First(nn.Module):
    """Returns what it is given, in place of a single block that is not a list."""

    def forward(self, first: Any, *args: Any, **kwargs: Any) -> Any:
        return first


def _returning(output: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: candidates.join(output)


@dataclass
class _Steps:
    taken: int = 0


@contextmanager
def _counted(scheduler: Any, draw: Draws) -> Iterator[_Steps]:
    """Counts the scheduler's steps; its fresh noise is `draw()`."""
    steps, step = _Steps(), scheduler.step

    @functools.wraps(step)  # pipelines read its signature
    def counted(*args: Any, **kwargs: Any) -> Any:
        with _Given(draw):
            result = step(*args, **kwargs)
        steps.taken += 1
        return result

    with _exchanged(scheduler, "step", counted):
        yield steps


def _until_reached(call: Callable[[], Any]) -> None:
    with suppress(_Reached):
        call()


_ABSENT = object()


@contextmanager
def _exchanged(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within this context `owner.name` is `value`."""
    # A module keeps its parts in `_modules`, which `vars` does not show; a plain attribute may hide a method of the
    # class, and then has to be deleted, not set back.
    is_module = isinstance(value, nn.Module)
    before = getattr(owner, name) if is_module else vars(owner).get(name, _ABSENT)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


class _NoSteps:
    """A scheduler with nothing to do, so that a pipeline's call goes from the latents it is given to its ending."""

    init_noise_sigma = 1.0
    order = 1

    def __init__(self, config: Any) -> None:
        self.config = config
        self.timesteps = torch.zeros(0)

    def set_timesteps(
        self, steps: Any = None, device: Any = None, timesteps: Any = None, sigmas: Any = None, **other: Any
    ) -> None:
        """Takes whatever pipelines ask for; they look for these names."""

    def set_begin_index(self, index: int = 0) -> None:
        """As above."""

    def step(self, model_output: Any, timestep: Any, sample: Any, eta: float = 0.0, generator: Any = None) -> None:
        """Never called; pipelines read its signature."""


@contextmanager
def without_steps(pipeline: Any) -> Iterator[None]:
    """Within this context the pipeline's call decodes the latents that it is given."""
    scheduler = pipeline.scheduler
    pipeline.scheduler = _NoSteps(scheduler.config)
    try:
        yield
    finally:
        pipeline.scheduler = scheduler
