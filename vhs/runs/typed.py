"""Prompts typed on the command line, as a run over a file of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from vhs.config.run import RunConfig
from vhs.errors import PromptError
from vhs.files import write_bytes
from vhs.paths import expanded


def with_prompts(config: RunConfig, texts: Sequence[str], rename: bool = True) -> RunConfig:
    """The configuration with these prompts as its annotation: `<output_path>/prompts_<hash>.json`, written now.

    With `rename` the run is called `<name>_<hash>`, so that no other run of this configuration is started over. Raises
    PromptError for an empty prompt.
    """
    if empty := [number for number, text in enumerate(texts) if not text.strip()]:
        raise PromptError(f"--prompt: number {empty[0] + 1} is empty; a text is needed")
    data = (json.dumps(list(texts), ensure_ascii=False, indent=1) + "\n").encode()
    short = hashlib.sha256(data).hexdigest()[:8]
    file = expanded(config.output_path) / f"prompts_{short}.json"
    write_bytes(file, data)
    return config.changed(annotation=str(file), **({"name": f"{config.name}_{short}"} if rename else {}))
