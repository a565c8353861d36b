"""The command `vhs`: a table of what it can do.

A command is a function `f(parser, words)` in a module of this package: it adds its arguments to `parser`, parses
`words`, imports what it needs and prints its answer. Its docstring is the help text, with examples as `vhs <name> ...`.
A new command is such a function, a line of COMMANDS and, for a checkout, a script of that name beside the others.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import vhs
from vhs.commands.ending import exit_code
from vhs.errors import ConfigError


@dataclass(frozen=True)
class Command:
    """`module:function`, a line for `vhs --help`, and what Ctrl-C leaves behind."""

    entry: str
    about: str
    interrupted: str


RESUMES = "what is done stays, the same command goes on"
NOTHING = "nothing was written"

COMMANDS = {
    "run": Command(
        "vhs.commands.run:run",
        "best-of-N over a file of prompts",
        "the prompts that are done stay: go on with cont=true",
    ),
    "geneval": Command("vhs.commands.geneval:geneval", "GenEval's verdicts on a run or on any pictures", RESUMES),
    "collect": Command("vhs.commands.training:collect", "candidates to train on: hidden states, latents", RESUMES),
    "normalize": Command("vhs.commands.training:normalize", "mean and variance of a collected feature", NOTHING),
    "label": Command("vhs.commands.training:label", "verdicts, captions or metadata of what was collected", RESUMES),
    "train": Command(
        "vhs.commands.training:train",
        "one stage of training a verifier",
        "go on from the last saved state with cont=true",
    ),
    "evaluate": Command("vhs.commands.training:evaluate", "a verifier on held-out candidates", NOTHING),
    "pipeline": Command("vhs.commands.training:pipeline", "a whole training by one file", RESUMES),
    "ablations": Command("vhs.commands.training:ablations", "the paper's ablations in miniature", RESUMES),
    "rank": Command("vhs.commands.rank:rank", "the best of any pictures, by any verifier", NOTHING),
    "score": Command("vhs.commands.rank:score", "verifiers' scores of a run's candidates, or of any pictures", RESUMES),
    "download": Command("vhs.commands.download:download", "fetch and verify what a run needs", RESUMES),
    "benchmark": Command("vhs.commands.benchmark:benchmark", "what a stage costs on this machine", NOTHING),
    "report": Command(
        "vhs.commands.report:report", "the report of a run, made again", "the same command makes it again"
    ),
    "demo": Command("vhs.commands.demo:demo", "a page to play with a configuration", "the page is closed"),
    "tables": Command("vhs.commands.tables:tables", "the paper's tables: planned, run, and from run folders", RESUMES),
    "compare": Command("vhs.commands.compare:compare", "runs over the same prompts side by side", NOTHING),
}

COMMAND = re.compile(rf"(-m )?\bvhs ({'|'.join(COMMANDS)})\b")
"""How help texts name a command: `vhs <name>`, and `-m vhs <name>` behind a launcher."""


class Parser(argparse.ArgumentParser):
    """A parser that answers a mistake in one line, as everything else does, and whose help names commands as `called`
    does."""

    called: Callable[[str], str] = "vhs {}".format

    def format_help(self) -> str:
        return COMMAND.sub(self._as_called, super().format_help())

    def _as_called(self, match: re.Match[str]) -> str:
        launched, name = match.groups()
        typed = self.called(name)
        if not launched:
            return typed
        return typed.removeprefix("python ") if typed.startswith("python ") else match[0]

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see {self.prog} --help)")


def main(words: Sequence[str] | None = None, called: str = "vhs") -> int:
    """Runs `vhs <words>`, by default the process's own, and returns the exit code (vhs/commands/ending.py). `called` is
    what the user typed for `vhs`."""
    name, *rest = (sys.argv[1:] if words is None else words) or ["--help"]
    if name in COMMANDS:
        return _run(name, rest, f"{called} {{}}".format)
    return exit_code(partial(_without_command, name, called), NOTHING)


def script(file: str) -> int:
    """Runs the command that a script of `inference_scripts/` or `verifier_scripts/` is named after."""
    path = Path(file).resolve()

    def called(name: str) -> str:
        found = next(path.parents[1].glob(f"*_scripts/{name}.py"))
        return f"python {found.parent.name}/{found.name}"

    return _run(path.stem, sys.argv[1:], called)


def _run(name: str, words: Sequence[str], called: Callable[[str], str]) -> int:
    """Runs a command; `called` gives what this user types for a command's name."""

    def call() -> None:
        module, _, function = COMMANDS[name].entry.partition(":")
        command = getattr(importlib.import_module(module), function)
        text = inspect.cleandoc(command.__doc__)
        parser = Parser(called(name), description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.called = called
        command(parser, words)

    return exit_code(call, COMMANDS[name].interrupted)


def _without_command(word: str, called: str) -> None:
    if word in ("-h", "--help"):
        table = "\n".join(f"  {name:11}{command.about}" for name, command in COMMANDS.items())
        print(
            f"usage: {called} <command> ...\n\n{table}\n\n`{called} <command> --help` shows the arguments and examples."
        )
    elif word == "--version":
        print(vhs.__version__)
    else:
        near = difflib.get_close_matches(word, COMMANDS, n=1)
        known = f"did you mean {near[0]}?" if near else f"one of {', '.join(COMMANDS)}"
        raise ConfigError(f"{called}: no command {word!r}; {known}")
