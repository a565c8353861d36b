"""Full-size architectures, as the config.json of each part: for shape checks and costs without a weight.

`hidden_7_qwen2.5-0.5b`, `latent_qwen2.5-0.5b`, `clip_qwen2.5-0.5b` are verifiers, `clip-vit-large-patch14-336` is a
vision tower.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def load_architecture(name: str) -> dict[str, Any]:
    """The content of `<name>.json` in this folder."""
    return json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8"))
