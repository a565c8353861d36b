"""Imports point down only: each part of the house may use the layers below it and its own, never those above."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "vhs"
LAYERS = (
    {"vhs.errors", "vhs.records", "vhs.paths"},
    {
        "vhs.files",
        "vhs.folders",
        "vhs.processes",
        "vhs.seeding",
        "vhs.select",
        "vhs.stages",
        "vhs.pictures",
        "vhs.device",
        "vhs.batching",
        "vhs.compiled",
        "vhs.bootstrap",
        "vhs.metrics",
    },
    {"vhs.config", "vhs.checkpoints", "vhs.prompts", "vhs.picture_table"},
    {"vhs.generators", "vhs.verifiers", "vhs.geneval", "vhs.judges"},
    {"vhs.choosing", "vhs.fitting", "vhs.streaming"},
    {"vhs.resolve", "vhs.best_of_n", "vhs.result"},
    {"vhs.runs", "vhs.training", "vhs.measure"},
    {"vhs.ranking", "vhs.paper"},
    {"vhs", "vhs.__main__", "vhs.commands", "vhs.tinyworld"},
)


def part(module: str) -> str:
    """`vhs.generators.base` is of the part `vhs.generators`; `vhs` itself is the package's front door."""
    return ".".join(module.split(".")[:2])


def layer(module: str) -> int:
    found = [number for number, members in enumerate(LAYERS) if part(module) in members]
    assert found, f"{part(module)} stands in no layer; add it to LAYERS where it belongs"
    return found[0]


def imports(file: Path) -> set[str]:
    """Modules of the project that a file imports when it runs; imports for type checkers do not count."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    checked = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in checked:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" if node.module == "vhs" else node.module for alias in node.names}
    return {name for name in found if name.split(".")[0] == "vhs"}


def modules() -> dict[str, Path]:
    named = {}
    for file in sorted(ROOT.rglob("*.py")):
        name = ".".join(("vhs", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        named[name] = file
    return named


@pytest.mark.parametrize("name", modules())
def test_imports_point_down(name: str) -> None:
    for used in imports(modules()[name]):
        if used == "vhs.BestOfN":
            continue
        assert layer(used) <= layer(name), f"{name} imports {used}, which stands above it"


def test_generators_and_verifiers_do_not_know_each_other() -> None:
    for name, file in modules().items():
        other = {"vhs.generators": "vhs.verifiers", "vhs.verifiers": "vhs.generators"}.get(part(name))
        assert other not in {part(used) for used in imports(file)}, name


def test_the_check_sees_a_wrong_import(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import vhs.runs.tables\n"
        "def f():\n    from vhs.runs.runner import run\n    from vhs import select\n"
    )
    assert imports(file) == {"vhs.runs.runner", "vhs.select"} and layer("vhs.runs.runner") > layer(
        "vhs.generators.base"
    )


def test_light_modules_load_no_heavy_library() -> None:
    code = (
        "import sys, vhs, vhs.config.run, vhs.prompts, vhs.seeding, vhs.runs.folder, vhs.select, vhs.geneval.summary\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'open_clip'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent)
    assert done.stdout.strip() == "[]", done.stderr
