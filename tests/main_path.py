"""How far it is from a YAML file to the first forward pass and to GenEval's verdict, for one prompt of the tiny world.

    python tests/main_path.py

Runs `inference_scripts/run.py --config configs/tiny.yaml` on one prompt under a profiler and prints which files of the
project have a function that ran before the verdict (what a reader has to open), and the project's calls that lie on the
stack when the generator's transformer is called first, from `run(config)` on.
"""

from __future__ import annotations

import inspect
import json
import runpy
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def project_frames(frame: FrameType | None) -> list[str]:
    """`file:function` of the project's frames, outermost first."""
    found = []
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(ROOT) and ".venv" not in file.parts and file != Path(__file__).resolve():
            found.append(f"{file.relative_to(ROOT)}:{frame.f_code.co_name}")
        frame = frame.f_back
    return found[::-1]


def main() -> None:
    from diffusers import SanaTransformer2DModel

    files: set[str] = set()
    deepest: list[str] = []
    judged: list[bool] = []
    forward = (
        SanaTransformer2DModel.forward.__wrapped__ if hasattr(SanaTransformer2DModel.forward, "__wrapped__") else None
    )
    code = (forward or SanaTransformer2DModel.forward).__code__

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event == "return" and frame.f_code.co_name == "_rows":
            judged.append(True)
        if event != "call" or judged:
            return
        if frame.f_code is code and not deepest:
            deepest.extend(project_frames(frame.f_back))
        name = frame.f_code.co_filename
        is_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED  # not the body of a module or a class
        if name.startswith(str(ROOT)) and ".venv" not in name and is_function:
            files.add(str(Path(name).relative_to(ROOT)))

    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "one.json"
        prompts.write_text(json.dumps(json.loads((ROOT / "data" / "tiny_prompts.json").read_text())[:1]))
        script = str(ROOT / "inference_scripts" / "run.py")
        sys.argv = [
            script,
            "--config",
            str(ROOT / "configs" / "tiny.yaml"),
            f"annotation={prompts}",
            f"output_path={folder}",
        ]
        sys.path.insert(0, str(ROOT))
        sys.setprofile(watch)
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as stop:
            assert not stop.code, "the run failed"
        finally:
            sys.setprofile(None)
    ours = sorted(name for name in files if name.endswith(".py") and not name.startswith("tests/"))
    print("\n".join(ours))
    start = next(i for i, call in enumerate(deepest) if call.endswith("runner.py:carry_out"))
    deepest = deepest[start:]
    print(f"\n{len(ours)} files to the verdict; {len(deepest)} calls from run() to the first forward pass:")
    print("\n".join(deepest))


if __name__ == "__main__":
    main()
