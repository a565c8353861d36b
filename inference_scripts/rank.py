"""Ranks pictures from anywhere by any verifier that reads pictures (docs/verifiers.md).

python inference_scripts/rank.py --images folder --prompt "a photo of a cat" --verifier clip_score --top 4 --copy
python inference_scripts/rank.py --pictures table.csv --verifier pick_score          columns: file, prompt
python inference_scripts/rank.py --images folder --verifier mine registry=mine.py    00000/metadata.jsonl, samples/
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.errors import VHSError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of pictures, or of prompts in GenEval's layout")
    parser.add_argument("--prompt", help="what the pictures in --images should show")
    parser.add_argument("--pictures", type=Path, help="CSV, TSV or JSONL of (file, prompt); files relative to --images")
    parser.add_argument("--verifier", help="a name of the registry (run.py --list-verifiers)")
    parser.add_argument("--top", type=int, default=1, help="how many to keep of each prompt (default: %(default)s)")
    parser.add_argument("--tournament", action="store_true", help="VISA's: the best of each contiguous N/top group")
    best = parser.add_mutually_exclusive_group()
    best.add_argument("--copy", action="store_const", const="copy", dest="best", help="copy the best to the output")
    best.add_argument("--link", action="store_const", const="link", dest="best", help="link to them instead")
    parser.add_argument("--out", type=Path, help="folder of table, sheet and best (default: outputs/rank/<name>)")
    parser.add_argument("keys", nargs="*", metavar="key=value", help="keys of the verifier and the device")
    arguments = parser.parse_intermixed_args()
    try:
        from vhs.ranking.files import RankJob, run_ranking

        run_ranking(RankJob(table=arguments.__dict__.pop("pictures"), **vars(arguments)))
    except VHSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
