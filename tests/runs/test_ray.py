"""`launcher: ray`: what it refuses, and that what Ray's workers make is what one process makes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vhs.config.run import RunConfig
from vhs.errors import ConfigError
from vhs.runs import runner
from vhs.runs.folder import RunFolder

ROOT = Path(__file__).parents[2]
DEADLY = '''
import os, signal
from pathlib import Path
import numpy as np

class Red:
    """The redder, the better; once, it kills its own process."""
    reads = "image"

    def score(self, prompt, pictures):
        marker = Path(__file__).with_name("kill")
        if "ring" in prompt and marker.exists():
            marker.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return [float(np.asarray(one)[..., 0].mean()) for one in pictures]
'''


@pytest.fixture
def keys(run_keys, judge_keys) -> dict[str, Any]:
    """A run over five prompts, judged."""
    prompts = Path(run_keys["annotation"])
    records = json.loads(prompts.read_text())
    prompts.write_text(json.dumps([*records, *records[:2]]))
    return {**run_keys, **judge_keys, "num_samples": 2, "generation_mode": "dev"}


@pytest.mark.parametrize("missing", ["ray", "pyarrow"])
def test_without_ray_the_extra_is_named_before_anything_is_written(keys, monkeypatch, missing: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    with pytest.raises(ConfigError, match=r'launcher: ray is not installed here; pip install "vhs\[ray\]"'):
        runner.run(RunConfig(**keys, launcher="ray"), bar=False)
    assert not Path(keys["output_path"]).exists()


def test_ray_is_not_launched_by_a_launcher(keys, monkeypatch) -> None:
    monkeypatch.setattr("vhs.runs.ray_workers.several", lambda: True)
    with pytest.raises(ConfigError, match="launcher: ray starts the workers itself"):
        runner.run(RunConfig(**keys, launcher="ray"), bar=False)


@pytest.mark.slow
def test_a_run_that_ray_ends_with_a_worker_killed_is_that_of_one_process(
    keys, tmp_path: Path, config_file, monkeypatch
) -> None:
    pytest.importorskip("ray", reason="ray is optional and not installed")
    monkeypatch.setattr("vhs.runs.manifest._git", lambda: None)
    (tmp_path / "deadly.py").write_text(DEADLY)
    (tmp_path / "registry.py").write_text("LATENT_VERIFIER = {'red': {'class': 'deadly:Red'}}")
    own = {"registry": str(tmp_path / "registry.py"), "latent_verifier_name": "red"}
    gone = ("latent_verifier_path", "vision_tower", "normalization_mean_path", "normalization_variance_path")
    keys = {key: value for key, value in keys.items() if key not in gone} | own
    del keys["resize_vocabulary"]
    whole = contents(keys)
    (tmp_path / "out").rename(tmp_path / "one")
    write, written = RunFolder.write_prompt, []

    def interrupted(folder: RunFolder, prompt: Any, *rest: Any) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(prompt.id)
        write(folder, prompt, *rest)

    monkeypatch.setattr(RunFolder, "write_prompt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.run(RunConfig(**keys), bar=False)
    monkeypatch.setattr(RunFolder, "write_prompt", write)
    (tmp_path / "kill").touch()
    config = config_file({**keys, "cont": True, "launcher": "ray"})
    code = "import sys; from vhs.commands import main; from vhs.runs import manifest; manifest._git = lambda: None\n"
    code += "sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "--config", config], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "kill").exists(), "no worker was killed"
    assert contents({**keys, "cont": True}) == whole
    noise = [line for line in done.stderr.splitlines() if line and not line.startswith("small: ")]  # the bar is ours
    assert noise == [] and "(raylet)" not in done.stdout


def contents(keys: dict[str, Any]) -> dict[str, bytes]:
    """Every file of the run but those that hold times, by name; the run is made where it is not finished."""
    runner.run(RunConfig(**keys), say=lambda line: None, bar=False)
    root = Path(keys["output_path"]) / keys["name"]
    files = (file for file in sorted(root.rglob("*")) if file.is_file())
    return {str(f.relative_to(root)): f.read_bytes() for f in files if f.name not in ("timings.json", "report.html")}
