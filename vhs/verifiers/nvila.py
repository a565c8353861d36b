"""NVILA-Lite-2B-Verifier, the verifier of SANA-1.5 (VISA), through the code in its own repository.

That code needs transformers 4.46, so it runs in an environment of its own (requirements-nvila.txt), where `vhs score`
writes a file of scores; a run takes them by `kind: scores` (configs/nvila_visa.yaml). docs/verifiers.md has the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from vhs.errors import CheckpointError, ConfigError, first_line
from vhs.records import Score
from vhs.verifiers.conversation import question


class Nvila:
    """Asks for yes or no about each picture. On its score a tournament plays by VISA's rule: of two yes the higher
    score of "yes" wins, of two others the lower score of "no", else the yes; the second of a pair wins a tie."""

    reads = "image"

    def __init__(
        self, path: str, trust_remote_code: bool = False, device: str = "cpu", dtype: str = "bfloat16"
    ) -> None:
        """`path` is a folder or Hub id; its Python code runs, which `trust_remote_code` must allow in the entry.

        Raises ConfigError where it does not, CheckpointError where the model does not load.
        """
        if trust_remote_code is not True:
            raise ConfigError(
                f"{path}: runs Python code of its own; read it, then put trust_remote_code: True into the entry's "
                "kwargs"
            )
        from transformers import AutoModel

        try:
            model = AutoModel.from_pretrained(path, trust_remote_code=True, torch_dtype=getattr(torch, dtype))
        except Exception as error:  # whatever the repository's own code raises
            raise CheckpointError(f"{path}: does not load ({first_line(error)}); see requirements-nvila.txt") from None
        if not hasattr(model, "generate_content") or not hasattr(model, "tokenizer"):
            raise CheckpointError(f"{path}: {type(model).__name__} has no generate_content; NVILA's code has")
        self.model = model.to(device).eval()
        encode = self.model.tokenizer.encode
        self.yes, self.no = (encode(word, add_special_tokens=False)[0] for word in ("yes", "no"))

    @torch.no_grad()
    def score(self, prompt: str, pictures: Sequence[Image.Image]) -> Score:
        """Scores of N pictures: above 0 for a yes, below for any other answer; p_yes and p_no from the softmax."""
        return Score.cat([self._score(picture, visa_question(prompt)) for picture in pictures])

    def _score(self, picture: Image.Image, text: str) -> Score:
        answer, steps = self.model.generate_content([picture, text])
        return visa_score(answer, steps[0][0].float().cpu(), self.yes, self.no)


def visa_question(prompt: str) -> str:
    """The published verifiers' question as VISA puts it: after the picture, without a space before the prompt."""
    return question(prompt).replace(" <image> The given prompt is: ", "\nThe given prompt is:", 1) + ".\n"


def visa_score(answer: Any, logits: torch.Tensor, yes: int, no: int) -> Score:
    """One picture's Score from the answer's text and the logits (vocabulary,) of its first token.

    VISA compares logits; they are squeezed into (0, 1) for a yes and (-1, 0) for the rest, which keeps its order.
    """
    says_yes = answer == "yes"
    raw = logits[yes] if says_yes else logits[no]
    size = (1 + raw.double() / (1 + raw.double().abs())) / 2
    p = logits.softmax(dim=-1)
    score = (size if says_yes else -size).float()
    return Score(p[yes : yes + 1], p[no : no + 1], torch.tensor([says_yes]), score[None])
