"""The table of commands: each is `vhs <name>` and a script of a checkout, and its help is quick and true for both."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vhs.commands import COMMAND, COMMANDS, main, script
from vhs.errors import ConfigError

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    file.stem: file for folder in ("inference_scripts", "verifier_scripts") for file in (ROOT / folder).glob("*.py")
}
del SCRIPTS["latent_verifier_dict"]


def help_of(call, *arguments, **keys) -> None:
    with pytest.raises(SystemExit) as stop:
        call(*arguments, **keys)
    assert not stop.value.code


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_what_the_user_would_type(name, capsys, monkeypatch) -> None:
    help_of(main, [name, "--help"])
    installed = capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["any", "--help"])
    help_of(script, str(SCRIPTS[name]))
    checkout = capsys.readouterr().out
    file = f"{SCRIPTS[name].parent.name}/{name}.py"
    examples = re.findall(rf"^ *vhs {name} .*", installed, re.MULTILINE)
    assert examples and f"usage: vhs {name} " in installed
    for example in examples:
        assert example.replace(f"vhs {name}", f"python {file}") in checkout
    launched = [line for line in installed.splitlines() if "accelerate launch" in line]
    assert all(line.replace(f"-m vhs {name}", file) in checkout.splitlines() for line in launched)
    assert not COMMAND.search(checkout)


def test_python_m_vhs_and_a_launcher_are_named_as_they_are_called(capsys) -> None:
    help_of(main, ["train", "--help"], called="python -m vhs")
    out = capsys.readouterr().out
    assert "python -m vhs train --config configs/train/align_tiny.yaml\n" in out
    assert "accelerate launch --config_file configs/accelerate/ddp.yaml -m vhs train --config" in out


def test_scripts_and_commands_are_the_same_and_only_scripts_edit_the_path() -> None:
    assert SCRIPTS.keys() == COMMANDS.keys()
    assert all(len(file.read_text(encoding="utf-8").splitlines()) <= 60 for file in SCRIPTS.values())
    edits = [file.name for file in (ROOT / "vhs").rglob("*.py") if "sys.path" in file.read_text(encoding="utf-8")]
    assert edits == ["own.py"], "only where a user's own module is imported"


def test_help_imports_no_library() -> None:
    code = (
        "import sys\nfrom vhs.commands import COMMAND, COMMANDS, main\nmain(['--help'])\n"
        "for name in COMMANDS:\n    try:\n        main([name, '--help'])\n    except SystemExit:\n        pass\n"
        "loaded = {'torch', 'numpy', 'yaml', 'pydantic', 'tqdm', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_garbage_is_collected_again_once_libraries_are_imported(monkeypatch, capsys) -> None:
    """Also where a configuration is refused."""
    seen: list[bool] = []

    def run_each(configs, say):
        seen.append(gc.isenabled())
        if configs[0].seed == 3:
            raise ConfigError("refused")
        return (f"collected: {gc.isenabled()}" for _ in configs)

    monkeypatch.setattr("vhs.runs.runner.run_each", run_each)
    try:
        assert main(["run"]) == 0 and capsys.readouterr().out == "collected: True\n"
        assert gc.get_freeze_count()
        assert main(["run", "seed=3"]) == 2 and gc.isenabled()
        assert seen == [False, False]
    finally:
        gc.unfreeze()


def test_vhs_alone_lists_the_commands(capsys) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out and command.about in out for name, command in COMMANDS.items())
    assert main(["--version"]) == 0 and capsys.readouterr().out.count(".") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu"], "error: vhs: no command 'rnu'; did you mean run?\n"),
        (["@"], "error: vhs: no command '@'; one of run, geneval, "),
        (["run", "--bogus"], "error: unrecognized arguments: --bogus (see vhs run --help)\n"),
        (["train"], "error: the following arguments are required: --config (see vhs train --help)\n"),
        (
            ["benchmark", "judge", "--side", "x"],
            "error: argument --side: invalid int value: 'x' (see vhs benchmark judge",
        ),
        (
            ["run", "--config", "~no_such_user/a.yaml"],
            "error: ~no_such_user/a.yaml: no home folder to put in the place",
        ),
    ],
)
def test_a_mistake_in_the_command_line_is_one_line_and_exit_code_2(words, message, capsys) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(message) and printed.err.count("\n") == 1 and not printed.out
