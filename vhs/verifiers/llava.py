"""A connector and a plain Qwen2 or Qwen3 causal LM that answers yes or no about a picture's tokens.

The functions take the parts, so that training shares them: `embed_inputs` and `answer_logits` are differentiable, and
work on an LLM wrapped by an adapter library too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from vhs.batching import MicroBatches
from vhs.compiled import Graphed, compile_layers
from vhs.errors import CheckpointError
from vhs.records import Score
from vhs.verifiers import shared_text
from vhs.verifiers.base import Reader, Reads
from vhs.verifiers.checkpoint import (
    CONNECTOR_PREFIX,
    MODEL_TYPES,
    TOWER_PREFIX,
    VerifierConfig,
    fill,
)
from vhs.verifiers.connector import build_connector
from vhs.verifiers.conversation import IMAGE_INDEX, build_inputs, check_length
from vhs.verifiers.score import answer_ids, answers, as_score, says_yes

VOCABULARY_MULTIPLE = 64
QUESTION_MULTIPLE = 32
"""A graph of the language model takes questions of such lengths, filled up behind the answer's place."""
_PICTURE_KEYS = {"swap", "hidden_dim", "flatten_vae_output", "freeze_mm_mlp_adapter", "image_aspect_ratio", "s2",
                 "s2_scales", "siglip", "tokenizer_model_max_length", "tokenizer_padding_side", "tune_mm_mlp_adapter",
                 "tune_vision_tower", "use_mm_proj", "sanity_check", "vae_image_size", "model_type", "architectures",
                 "auto_map"}  # fmt: skip


def build_llm(raw: Mapping[str, Any]) -> nn.Module:
    """Qwen2ForCausalLM or Qwen3ForCausalLM of the sizes in a config.json, a verifier's or the plain LLM's own, on the
    meta device, float32."""
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

    classes = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM)}
    config_class, model_class = classes[MODEL_TYPES.get(raw["model_type"], raw["model_type"])]
    keys = {key: value for key, value in raw.items() if key not in _PICTURE_KEYS and not key.startswith("mm_")}
    with torch.device("meta"):
        return model_class(config_class(**keys))


def load_parts(config: VerifierConfig, tensors: Mapping[str, torch.Tensor]) -> tuple[nn.Module, nn.Module]:
    """LLM and connector in the checkpoint's own dtype, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: a tensor is missing, left over or of another shape; an unsupported connector or head.
    """
    heads = sorted({name.split(".")[0] for name in tensors if name.startswith(("regression_head.", "score."))})
    if heads:
        raise CheckpointError(f"{config.folder}: {heads[0]}: a regression head is not supported; use a yes/no verifier")
    own = {name: value for name, value in tensors.items() if not name.startswith((CONNECTOR_PREFIX, TOWER_PREFIX))}
    own = {name: value for name, value in own.items() if not name.endswith("rotary_emb.inv_freq")}
    with torch.device("meta"):
        connector = build_connector(config.projector_type, config.width, config.hidden_size, config.swap)
    mine = {name.removeprefix(CONNECTOR_PREFIX): t for name, t in tensors.items() if name.startswith(CONNECTOR_PREFIX)}
    fill(connector, mine, f"{config.folder}: {CONNECTOR_PREFIX}* ({config.projector_type})")
    llm = build_llm(config.raw)
    fill_llm(llm, own, str(config.folder))
    return llm.eval(), connector.eval()


def fill_llm(llm: nn.Module, tensors: dict[str, torch.Tensor], what: str) -> None:
    """Puts a checkpoint's tensors into `build_llm`'s model, ties its head and computes what no checkpoint holds.

    Raises:
        CheckpointError: see `checkpoint.fill`; or a separate head where config.json ties it.
    """
    tied = ["lm_head.weight"] if llm.config.tie_word_embeddings else []
    if tied and "lm_head.weight" in tensors:
        head = tensors.pop("lm_head.weight")
        if not head.is_meta and not torch.equal(head, tensors.get("model.embed_tokens.weight", head)):
            raise CheckpointError(
                f"{what}: lm_head.weight differs from the embedding, but config.json ties them "
                f"(tie_word_embeddings: true)"
            )
    fill(llm, tensors, what, tied)
    llm.tie_weights()
    restore_rotary(llm)


def restore_rotary(llm: nn.Module) -> None:
    """Computes the rotary embedding's frequencies anew, in float32: they are in no checkpoint, and a cast of the whole
    model to bfloat16 rounds them, which moves late positions."""
    device = llm.get_input_embeddings().weight.device
    llm.model.rotary_emb = type(llm.model.rotary_emb)(config=llm.config).to(device)


def resize_vocabulary(llm: nn.Module, tokenizer: Any) -> None:
    """The release's rule for a tokenizer without an unknown token: add `[UNK]`, cut or grow the embedding (and a
    separate head) to a multiple of 64 rows, set the last row to the mean of the others, in the checkpoint's dtype."""
    if tokenizer.unk_token is not None:
        return
    tokenizer.add_special_tokens({"unk_token": "[UNK]"})
    rows = -(-len(tokenizer) // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    embedding, head = llm.get_input_embeddings(), llm.get_output_embeddings()
    with torch.no_grad():
        tied = head.weight is embedding.weight
        embedding.weight = nn.Parameter(_resized_rows(embedding.weight, rows))
        head.weight = embedding.weight if tied else nn.Parameter(_resized_rows(head.weight, rows))
    llm.config.vocab_size = embedding.num_embeddings = head.out_features = rows
    llm.vocab_size = llm.model.vocab_size = rows


def _resized_rows(weight: torch.Tensor, rows: int) -> torch.Tensor:
    """`weight` (V, D) with `rows` rows: cut, or grown by the mean of all; the last is the mean of the others."""
    new = weight[:rows].clone()
    if len(new) < rows:
        new = torch.cat([new, new.mean(dim=0, keepdim=True).expand(rows - len(new), -1)])
    new[-1] = new[:-1].mean(dim=0)
    return new


def embed_inputs(
    llm: nn.Module, tokens: torch.Tensor, ids: Sequence[int] | Sequence[Sequence[int]]
) -> dict[str, torch.Tensor | None]:
    """The LLM's input: embeddings of `ids` with each picture's tokens in the place of its `IMAGE_INDEX`.

    Args:
        tokens: the connector's output (N, T, D).
        ids: one list for all N candidates, or N lists; each has one `IMAGE_INDEX`.

    Returns:
        `inputs_embeds` (N, L, D), `attention_mask` (N, L) and `position_ids` (N, L). Shorter rows are padded on the
        left, so that the answer's place is the last of every row; the mask and positions are None without padding.
    """
    if isinstance(ids[0], int):
        rows = [_splice(llm, tokens, ids)]
    else:
        rows = [_splice(llm, picture[None], row) for picture, row in zip(tokens, ids, strict=True)]
    lengths = [row.shape[1] for row in rows]
    if len(set(lengths)) == 1:
        return {"inputs_embeds": torch.cat(rows), "attention_mask": None, "position_ids": None}
    longest = max(lengths)
    padded = [nn.functional.pad(row, (0, 0, longest - row.shape[1], 0)) for row in rows]
    starts = torch.tensor([longest - length for length in lengths], device=tokens.device)
    positions = torch.arange(longest, device=tokens.device) - starts[:, None]
    mask = (positions >= 0).long()
    return {"inputs_embeds": torch.cat(padded), "attention_mask": mask, "position_ids": positions.clamp(min=0)}


def _splice(llm: nn.Module, tokens: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """(N, T + len(ids) - 1, D): the same text around each of N pictures."""
    place = ids.index(IMAGE_INDEX)
    text = torch.tensor(
        [*ids[:place], *ids[place + 1 :]], dtype=torch.long, device=tokens.device
    )  # none: a picture alone
    embedded = llm.get_input_embeddings()(text).to(tokens.dtype).expand(len(tokens), -1, -1)
    return torch.cat([embedded[:, :place], tokens, embedded[:, place:]], dim=1)


def answer_logits(
    llm: nn.Module, connector: nn.Module, ids: Sequence[int] | Sequence[Sequence[int]], features: torch.Tensor
) -> torch.Tensor:
    """Logits (N, vocabulary) float32 of the token that follows the question; differentiable, one forward pass.

    Args:
        ids: one prompt's ids for all N candidates, or N lists (`conversation.build_inputs`).
        features: (N, tokens, width) in the connector's dtype and on its device, normalised already.
    """
    return next_token_logits(llm, connector(features), ids)


def next_token_logits(
    llm: nn.Module, tokens: torch.Tensor, ids: Sequence[int] | Sequence[Sequence[int]]
) -> torch.Tensor:
    """`answer_logits` from the connector's output (N, T, D)."""
    inputs = embed_inputs(llm, tokens, ids)
    inputs["attention_mask"] = _causal_mask(llm, inputs["attention_mask"])
    return llm(**inputs, logits_to_keep=1, use_cache=False).logits[:, -1].float()


def _causal_mask(llm: nn.Module, mask: torch.Tensor | None) -> torch.Tensor | dict[str, None] | None:
    """Without padding, SDPA's own causal kernel, asked for in transformers' form for a mask that is made already:
    otherwise it reads the positions first, which waits for the device and cannot run on the meta device."""
    plain = llm.config._attn_implementation == "sdpa" and set(llm.config.layer_types) == {"full_attention"}
    return {"full_attention": None} if mask is None and plain else mask


class LlavaVerifier:
    """LLM, connector and a reader of the generator's features, as one `base.Verifier`."""

    independent = True

    def __init__(
        self,
        llm: nn.Module,
        connector: nn.Module,
        tokenizer: Any,
        reader: Reader,
        use_generation_prompt: bool = True,
        micro_batch: int | None = None,
        temperature: float | None = None,
    ):
        self.llm, self.connector, self.tokenizer, self.reader = llm, connector, tokenizer, reader
        self.use_generation_prompt = use_generation_prompt
        self.temperature = temperature
        self._batches = MicroBatches(micro_batch, "candidates to score")
        self._yes, self._no = answer_ids(tokenizer)
        self._affirms = says_yes(tokenizer)
        self._graph: Graphed | None = None
        self.limit = min(tokenizer.model_max_length, llm.config.max_position_embeddings)

    @property
    def reads(self) -> Reads:
        return self.reader.reads

    @property
    def block(self) -> int | None:
        return self.reader.block

    @property
    def blocks(self) -> tuple[int, ...]:
        """All blocks that are read, side by side; () where it is none."""
        return getattr(self.reader, "blocks", ())

    @property
    def width(self) -> int | None:
        return self.reader.width

    @property
    def micro_batch(self) -> int | None:
        """Candidates that go through the LLM at once; None: all."""
        return self._batches.size

    @micro_batch.setter
    def micro_batch(self, size: int | None) -> None:
        self._batches.size = size

    @property
    def dtype(self) -> torch.dtype:
        return self.llm.get_input_embeddings().weight.dtype

    @property
    def device(self) -> torch.device:
        return self.llm.get_input_embeddings().weight.device

    @torch.no_grad()
    def score(self, prompt: str, features: Any) -> Score:
        """Scores of N candidates of one prompt, on the CPU.

        Args:
            features: as the generator gave them: hidden states (N, tokens, width), latents (N, c, h, w), or a list
                of N pictures; any dtype and device.

        Raises:
            PromptError: the prompt is too long for the LLM, or contains a control token.
            CheckpointError: the features do not fit the verifier.
        """
        ids = build_inputs(self.tokenizer, prompt, self.use_generation_prompt)
        count = self.reader.check(features)
        parts = []
        for piece in self._batches.over(count):
            with self._batches:
                parts.append(self._answers(prompt, ids, features[piece]))
        probabilities, tokens = (torch.cat(column) for column in zip(*parts, strict=True))
        return as_score(probabilities, tokens, self._affirms)

    def compile(self) -> None:
        """From now on the language model runs as a graph of compiled layers; its weights must not move afterwards."""
        compile_layers(self.llm.model.layers)
        self._graph = Graphed(self._at_position)

    def _at_position(
        self, tokens: torch.Tensor, before: torch.Tensor, after: torch.Tensor, position: torch.Tensor
    ) -> torch.Tensor:
        """Logits (N, vocabulary) that follow the place `position` (1,) of [before | picture | after], (1, P) and
        (1, Q) ids; what stands behind it makes no difference to them."""
        embed, count = self.llm.get_input_embeddings(), len(tokens)
        before, after = (embed(ids).to(tokens.dtype).expand(count, -1, -1) for ids in (before, after))
        inputs = {
            "inputs_embeds": torch.cat([before, tokens, after], dim=1),
            "attention_mask": _causal_mask(self.llm, None),
        }
        hidden = self.llm.model(**inputs, use_cache=False).last_hidden_state
        return self.llm.lm_head(hidden.index_select(1, position))[:, 0]

    def _graphed_logits(self, llm: nn.Module, tokens: torch.Tensor, ids: list[int]) -> torch.Tensor:
        """`next_token_logits` of one prompt's `ids` by `_at_position`, for questions of some lengths alone."""
        place = ids.index(IMAGE_INDEX)
        after, position = ids[place + 1 :], len(ids) + tokens.shape[1] - 2
        padded = after + [0] * (-len(after) % QUESTION_MULTIPLE)
        numbers = torch.tensor([*ids[:place], *padded, position], device=tokens.device)[None]
        before, after, position = numbers.split([place, len(padded), 1], dim=1)
        return self._graph(tokens, before, after, position[0]).float()

    def _answers(self, prompt: str, ids: list[int], features: Any) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = self.image_features(features)
        check_length(ids, tokens.shape[1], self.limit, prompt)
        shared = len(tokens) > 1 and shared_text.pays(self.llm)
        forward = shared_text.next_token_logits if shared else next_token_logits
        forward = self._graphed_logits if self._graph else forward
        logits = forward(self.llm, tokens, ids)
        return answers(logits, self._yes, self._no, self.temperature)

    def answer_logits(self, ids: Sequence[int] | Sequence[Sequence[int]], features: Any) -> torch.Tensor:
        """`answer_logits` of this verifier's parts, for `features` as the generator gave them."""
        return next_token_logits(self.llm, self.image_features(features), ids)

    def image_features(self, features: Any) -> torch.Tensor:
        """The connector's output (N, T, D) for `features` as the generator gave them."""
        return self.connector(self.reader(features).to(device=self.device, dtype=self.dtype))
