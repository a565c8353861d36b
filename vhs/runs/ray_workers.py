"""`launcher: ray`: Ray hands out the prompts, on this machine or on the cluster that it finds.

Ray Data does it: one actor per GPU (or as many CPUs as torch has threads) holds the models, each prompt is a task of
its own, given to whoever is free. A worker that dies is started again, wherever there is room, and its prompt with it;
machines that join get workers too. What the workers make comes back here and is written here, so results do not depend
on who made what.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from vhs.config.run import RunConfig
from vhs.errors import ConfigError, RunError, VHSError
from vhs.paths import IN_CHECKOUT, PROJECT
from vhs.processes import several
from vhs.records import Prompt
from vhs.resolve import ResolvedRun, resolve
from vhs.runs.folder import RunFolder
from vhs.runs.work import Made, Worker


def require_ray(run: ResolvedRun) -> None:
    """Raises ConfigError where Ray cannot hand out this run's prompts."""
    if several():
        raise ConfigError(
            "launcher: ray starts the workers itself; run the command without accelerate launch or torchrun"
        )
    if any(importlib.util.find_spec(name) is None for name in ("ray", "pyarrow")):
        raise ConfigError('launcher: ray is not installed here; pip install "vhs[ray]"')
    if ":" in run.models.device:
        raise ConfigError(f"device: {run.models.device}: Ray gives each worker a GPU of its own; device: cuda is right")


def ray_workers(run: ResolvedRun) -> Callable[[Sequence[Prompt]], Iterator[Made]]:
    """What makes prompts by Ray's workers, in the order in which they are finished.

    Raises what a worker has raised, and RunError where no prompt is finished for `timeout` minutes.
    """
    return partial(_made, run)


def _made(run: ResolvedRun, prompts: Sequence[Prompt]) -> Iterator[Made]:
    if not prompts:
        return
    with ThreadPoolExecutor(1) as reader, _cluster() as ray:  # the cluster ends first, and what the reader waits for
        try:
            rows = iter(_rows(ray, run, prompts))
            for _ in prompts:
                row = reader.submit(next, rows).result(60 * run.config.timeout)
                made = pickle.loads(row["made"])  # from a worker of this very command
                if isinstance(made, VHSError):
                    raise made
                yield made
        except TimeoutError:
            raise RunError(
                f"no prompt was finished for {run.config.timeout:g} minutes (timeout): Ray's workers were stopped, or "
                "there is no room for them; what is done stays: go on with cont: true"
            ) from None


def _rows(ray: Any, run: ResolvedRun, prompts: Sequence[Prompt]) -> Iterable[dict[str, Any]]:
    """One row per prompt, as they are finished."""
    import torch

    threads, gpu = torch.get_num_threads(), run.models.device == "cuda"
    needs = {"num_gpus": 1} if gpu else {"num_cpus": threads}
    free = ray.cluster_resources().get("GPU" if gpu else "CPU", 1) // (1 if gpu else threads)
    pool = ray.data.ActorPoolStrategy(
        min_size=max(1, min(int(free), len(prompts))), max_size=len(prompts), max_tasks_in_flight_per_actor=1
    )
    items = ray.data.from_items([prompt.id for prompt in prompts], override_num_blocks=len(prompts))
    config = run.config.changed(device=run.models.device, dtype=run.models.dtype)
    given = (config.model_dump(mode="json"), os.getcwd(), threads)
    return items.map(_RayWorker, fn_constructor_args=given, compute=pool, **needs).iter_rows()


class _RayWorker:
    """An actor: the run's models, loaded with its first prompt, so that what cannot be loaded is told in one line."""

    def __init__(self, config: dict[str, Any], folder: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)  # sums of floats depend on it
        if os.path.isdir(folder):
            os.chdir(folder)
        self.config = RunConfig(**config)
        self.worker: Worker | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, bytes]:
        try:
            if self.worker is None:
                run = resolve(self.config, hashed=False)
                self.prompts = run.prompts
                self.worker = Worker(run, RunFolder(self.config))
            return {"made": pickle.dumps(self.worker(self.prompts[row["item"]]))}
        except VHSError as error:
            return {"made": pickle.dumps(error)}


@contextlib.contextmanager
def _cluster() -> Iterator[Any]:
    """Ray, connected to the cluster of RAY_ADDRESS or of this machine, or else to one that ends with this command.

    It sends no usage statistics and prints nothing: what workers say is in the logs of Ray's session.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    def hush() -> None:
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.CRITICAL)

    hush()
    with contextlib.redirect_stdout(io.StringIO()):  # a thread of Ray's prints there that a worker has died
        with _no_stderr():  # it says there which log level it takes
            ray.init(
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                configure_logging=False,
                runtime_env={"env_vars": _environment()},
            )
        hush()  # Ray Data sets its own levels
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0  # a worker wherever there is room
        try:
            yield ray
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """What C++ writes to the standard error goes nowhere."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _environment() -> dict[str, str]:
    """What workers are started with: this checkout on their path, where there is one, and the user's own registry."""
    paths = [str(PROJECT)] if IN_CHECKOUT else []
    paths += [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    kept = {name: os.environ[name] for name in ("VHS_REGISTRY",) if name in os.environ}
    return {**kept, **({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})}
