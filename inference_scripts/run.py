"""Best-of-N over a file of prompts.

    python inference_scripts/run.py --config configs/tiny.yaml
    python inference_scripts/run.py --config configs/tiny.yaml num_samples=16 seed=3 annotation=my_prompts.txt
    python inference_scripts/run.py --config configs/tiny.yaml --prompt "a photo of a red circle and a blue star"
    accelerate launch inference_scripts/run.py --config configs/sana_sprint_hidden_bo32.yaml

Every key of the configuration (docs/configuration.md) can be given as key=value. Prompts are GenEval JSON or JSONL, CSV
with a column prompt or text, or plain text, one a line. Exit code 2: a mistake in what was given, in one line.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.config.run import load_config
from vhs.errors import VHSError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/tiny.yaml", help="YAML file (default: %(default)s)")
    parser.add_argument("--prompt", action="append", metavar="TEXT", help="a prompt instead of a file; repeatable")
    parser.add_argument("--dry-run", action="store_true", help="print what would run and be loaded; load nothing")
    parser.add_argument("--list-verifiers", action="store_true", help="print the registered verifiers")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration keys that replace the file's")
    arguments = parser.parse_intermixed_args()
    try:
        if arguments.list_verifiers:
            from vhs.runs.dry_run import verifiers

            print(verifiers())
            return 0
        config = load_config(arguments.config, arguments.overrides)
        if arguments.prompt:
            from vhs.runs.typed import with_prompts

            named = any(override.startswith("name=") for override in arguments.overrides)
            config = with_prompts(config, arguments.prompt, rename=not named)
        if arguments.dry_run:
            from vhs.runs.dry_run import describe

            print(describe(config))
            return 0
        from vhs.runs.runner import run

        print(run(config, say=lambda line: print(line, file=sys.stderr)))
    except VHSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the prompts that are done stay: go on with cont=true", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
