"""Pretrained rewards on pictures that are a CLIP with at most a small head: CLIPScore, PickScore, HPSv2.1, aesthetics.

They give a score and no answer: `p_yes`, `p_no` and `correct` are None. Text that is longer than the text tower takes
is cut, as each of them was published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import nn

from vhs.batching import MicroBatches
from vhs.checkpoints.boundary import loading, quiet
from vhs.checkpoints.open_clip_files import check_open_clip, try_out, unasked
from vhs.errors import CheckpointError, first_line
from vhs.pictures import Picture, rgb
from vhs.records import Score
from vhs.verifiers.base import Reads
from vhs.verifiers.clip import Preprocessing

CLIP_SCALE = 100.0


class Clip(Protocol):
    """A picture tower and a text tower with one space, in one dtype on one device."""

    logit_scale: float

    def pictures(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Unit vectors (N, D) float32, on the CPU."""
        ...

    def text(self, prompt: str) -> torch.Tensor:
        """A unit vector (D,) float32, on the CPU."""
        ...


class ImageVerifier:
    """Scores pictures `micro_batch` at once (None: all); a subclass says how."""

    reads: Reads = "image"
    block = width = None
    independent = True

    def __init__(self, clip: Clip, micro_batch: int | None = None) -> None:
        self.clip, self.micro_batch = clip, micro_batch
        self.batches = MicroBatches(micro_batch, "pictures")

    @torch.no_grad()
    def score(self, prompt: str, features: Sequence[Picture]) -> Score:
        """Scores of N pictures (PIL or paths). Raises ImageError for a file that is none."""
        parts = []
        for part in self.batches.over(len(features)):
            pictures = [rgb(one) for one in features[part]]
            with self.batches:
                parts.append(self._score(prompt, self.clip.pictures(pictures)))
        return Score.plain(torch.cat(parts))

    def _score(self, prompt: str, embedded: torch.Tensor) -> torch.Tensor:
        """(N,) from unit vectors (N, D)."""
        raise NotImplementedError


class SimilarityVerifier(ImageVerifier):
    """scale * cos(picture, prompt).

    CLIPScore (Hessel et al., 2021) has scale 100 in common libraries, which also clip it at 0; it is not clipped here,
    so that pictures keep their order. PickScore's scale is its own `logit_scale` (Kirstain et al., 2023), HPSv2's is 1.
    """

    def __init__(self, clip: Clip, scale: float, micro_batch: int | None = None) -> None:
        super().__init__(clip, micro_batch)
        self.scale = scale

    def _score(self, prompt: str, embedded: torch.Tensor) -> torch.Tensor:
        return self.scale * (embedded @ self.clip.text(prompt))


class AestheticVerifier(ImageVerifier):
    """LAION's aesthetic predictor, about 1 to 10: a head on the picture's unit vector. The prompt plays no part."""

    def __init__(self, clip: Clip, head: nn.Module, micro_batch: int | None = None) -> None:
        super().__init__(clip, micro_batch)
        self.head = head

    def _score(self, prompt: str, embedded: torch.Tensor) -> torch.Tensor:
        return self.head(embedded).squeeze(1)


class TransformersClip:
    """`CLIPModel` with the picture arithmetic of transformers 4, which these rewards were published with."""

    def __init__(self, model: nn.Module, tokenizer: Any, preprocessing: Preprocessing) -> None:
        self.model, self.tokenizer, self.preprocessing = model, tokenizer, preprocessing
        self.logit_scale = model.logit_scale.detach().float().exp().item()

    @classmethod
    def from_folder(
        cls, folder: Path, processor: Path | None = None, device: str = "cpu", dtype: str = "float32"
    ) -> TransformersClip:
        """`processor`: the folder of tokenizer and preprocessor, where it is not the model's own.

        Raises CheckpointError where a folder is incomplete or damaged.
        """
        from transformers import AutoTokenizer, CLIPModel

        processor = processor or folder
        with loading("CLIP model", folder), quiet():
            model, info = CLIPModel.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                trust_remote_code=False,
            )
            tokenizer = AutoTokenizer.from_pretrained(processor, local_files_only=True, trust_remote_code=False)
            tokenizer("yes")
        if info["missing_keys"]:
            raise CheckpointError(f"{folder}: CLIP tensors missing: {', '.join(sorted(info['missing_keys'])[:3])}")
        preprocessing = Preprocessing.from_file(processor / "preprocessor_config.json")
        return cls(model.to(device).eval(), tokenizer, preprocessing)

    def pictures(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        pixels = torch.stack([self.preprocessing(picture) for picture in pictures])
        seen = self.model.vision_model(pixels.to(self.model.device, self.model.dtype)).pooler_output
        return unit(self.model.visual_projection(seen))

    def text(self, prompt: str) -> torch.Tensor:
        limit = self.model.config.text_config.max_position_embeddings
        ids = self.tokenizer(prompt, truncation=True, max_length=limit, return_tensors="pt").to(self.model.device)
        read = self.model.text_model(input_ids=ids.input_ids, attention_mask=ids.attention_mask).pooler_output
        return unit(self.model.text_projection(read))[0]


class OpenClip:
    """An open_clip model with its own transform and tokenizer."""

    def __init__(self, model: nn.Module, transform: Callable[[Image.Image], torch.Tensor], tokenizer: Any) -> None:
        self.model, self.transform, self.tokenizer = model.eval(), transform, tokenizer
        self.logit_scale = model.logit_scale.detach().float().exp().item()

    @classmethod
    def from_folder(cls, folder: Path, device: str = "cpu", dtype: str = "float32") -> OpenClip:
        """A folder with open_clip_config.json and open_clip_model.safetensors. Raises CheckpointError."""
        import open_clip

        name = f"local-dir:{folder}"
        check_open_clip(folder, "latent_verifier_path")
        with loading("open_clip model", folder), unasked():
            model, _, transform = open_clip.create_model_and_transforms(name, require_pretrained=True, device=device)
            tokenizer = open_clip.get_tokenizer(name)
            try_out(model.eval(), transform, tokenizer)
            return cls(model.to(getattr(torch, dtype)), transform, tokenizer)

    @classmethod
    def from_checkpoint(cls, architecture: str, file: Path, device: str = "cpu", dtype: str = "float32") -> OpenClip:
        """HPSv2's file: `state_dict` of an architecture that open_clip knows. Pictures that are not square are made to
        fit the longer side and padded with black, as HPSv2 does.

        Raises CheckpointError where the file is damaged, of another architecture, or would run code when read.
        """
        import open_clip

        state = read_state(file)
        model = open_clip.create_model(architecture, load_weights=False, device=device)
        _fill(model, state, file)
        transform = open_clip.image_transform(
            model.visual.image_size,
            is_train=False,
            mean=model.visual.image_mean,
            std=model.visual.image_std,
            resize_mode="longest",
        )
        return cls(model.to(getattr(torch, dtype)), transform, open_clip.get_tokenizer(architecture))

    @property
    def _place(self) -> tuple[torch.device, torch.dtype]:
        parameter = next(self.model.parameters())
        return parameter.device, parameter.dtype

    def pictures(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        pixels = torch.stack([self.transform(picture) for picture in pictures])
        return unit(self.model.encode_image(pixels.to(*self._place)))

    def text(self, prompt: str) -> torch.Tensor:
        return unit(self.model.encode_text(self.tokenizer([prompt]).to(self._place[0])))[0]


def unit(x: torch.Tensor) -> torch.Tensor:
    """x / |x| over the last dimension, float32 on the CPU."""
    return nn.functional.normalize(x.float(), dim=-1).cpu()


def load_head(file: Path, width: int) -> nn.Module:
    """LAION's head: one linear layer (keys `weight`, `bias`) or the improved predictor's five without activations
    between them (`layers.0` to `layers.7`), for embeddings of `width` channels.

    Raises CheckpointError where the file is damaged, of another shape, or would run code when read.
    """
    state = {name.removeprefix("layers."): tensor for name, tensor in read_state(file).items()}
    head: nn.Module = nn.Linear(width, 1)
    if set(state) != {"weight", "bias"}:
        sizes = (width, 1024, 128, 64, 16, 1)
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        for place in (3, 2, 1):  # where the dropouts of training were; they keep the layers' numbers
            layers.insert(place, nn.Identity())
        head = nn.Sequential(*layers)
    _fill(head, state, file)
    return head.eval()


def read_state(file: Path) -> dict[str, torch.Tensor]:
    """Tensors of a `.pt` or `.pth` file, those under `state_dict` where it has that key; never runs code.

    Raises CheckpointError.
    """
    try:
        raw = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        what = (
            "missing"
            if isinstance(error, FileNotFoundError)
            else f"cannot be read as plain tensors ({first_line(error)})"
        )
        raise CheckpointError(f"{file}: {what}") from None
    state = raw.get("state_dict", raw) if isinstance(raw, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{file}: not a state dict; a file of named tensors is needed")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _fill(model: nn.Module, state: Mapping[str, torch.Tensor], file: Path) -> None:
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[1:2] or [first_line(error)]
        raise CheckpointError(f"{file}: not this architecture's tensors ({reason[0].strip()[:160]})") from None
