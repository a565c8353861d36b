"""Vision-language models as yes/no scorers: any image-text-to-text model of transformers, through its own processor and
chat template.

`VisionLanguageModel` gives the probability of any answer to any question about a picture, in one forward pass for a
batch; `VlmVerifier` asks one question per candidate. The soft score is VQAScore's (Lin et al., 2024), the sum over
spellings that of Soft-TIFA (arXiv 2512.16853).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vhs.batching import MicroBatches
from vhs.errors import CheckpointError, ConfigError, PromptError, first_line, is_failure
from vhs.pictures import Picture, rgb
from vhs.records import Score
from vhs.verifiers.base import Reads

QUESTION = 'Does this image show "{prompt}"? Answer the question with Yes or No.'
"""GenEval 2's wording of VQAScore."""
ANSWERS = {"yes": ("Yes",), "no": ("No",)}
YES_SPELLINGS = ("Yes", "yes", " yes", " Yes")
NO_SPELLINGS = ("No", "no", " no", " No")
VLM_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")


@dataclass(frozen=True)
class AnswerProbabilities:
    """What a model says to N questions, on the CPU.

    `probabilities` (N,) float32: each the sum over the tokens that were asked for, under the softmax over the whole
    vocabulary. `tokens` (N,) int64: the most probable token.
    """

    probabilities: torch.Tensor
    tokens: torch.Tensor


class VisionLanguageModel:
    """A model and its processor: pictures and questions in, probabilities of the next token out."""

    def __init__(self, model: torch.nn.Module, processor: Any, name: str, micro_batch: int | None = None) -> None:
        """`name` is how messages call the model; `micro_batch` questions go through it at once (None: all)."""
        self.model, self.processor, self.name = model, processor, name
        self.tokenizer = prepare_tokenizer(processor)
        self.batches = MicroBatches(micro_batch, "questions")

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str = "cpu",
        dtype: str = "float32",
        micro_batch: int | None = None,
        trust_remote_code: bool = False,
    ) -> VisionLanguageModel:
        """Loads a folder. `trust_remote_code` runs the Python code that lies beside the weights.

        Raises CheckpointError where files are missing, damaged, or of no such model.
        """
        processor = load_processor(folder, trust_remote_code)
        model = _load_model(folder, getattr(torch, dtype), trust_remote_code)
        return cls(model.to(device).eval(), processor, str(folder), micro_batch)

    def single_tokens(self, spellings: Sequence[str]) -> list[int]:
        """Ids of the spellings that are one token, each once."""
        return single_tokens(self.tokenizer, spellings)

    def first_tokens(self, spellings: Sequence[str]) -> list[int]:
        """The id of each spelling's first token, in order; two spellings may share it."""
        return [self.tokenizer.encode(spelling, add_special_tokens=False)[0] for spelling in spellings]

    def answer_probabilities(
        self, pictures: Sequence[Picture], questions: Sequence[str], answers: Sequence[Sequence[int]]
    ) -> AnswerProbabilities:
        """Probabilities of answers to N questions about N pictures.

        Args:
            pictures: N PIL pictures or paths; the same one may come several times.
            questions: N texts, each the user's whole message beside the picture.
            answers: N lists of token ids (`single_tokens`, `first_tokens`); an id that is listed twice counts twice.

        Raises PromptError for a question with one of the tokenizer's control tokens, ImageError for a bad picture.
        """
        sums, tops = [], []
        for part, probabilities in self._next_token(pictures, questions):
            rows = zip(probabilities, answers[part], strict=True)
            sums += [row[torch.tensor(ids, dtype=torch.long)].sum() for row, ids in rows]
            tops.append(probabilities.argmax(dim=-1))
        return AnswerProbabilities(torch.stack(sums), torch.cat(tops))

    def _next_token(
        self, pictures: Sequence[Picture], questions: Sequence[str]
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """(which questions, (n, vocabulary) float32 on the CPU) of consecutive micro-batches."""
        assert len(pictures) == len(questions) > 0, "one question a picture"
        for question in questions:
            check_question(self.tokenizer, question, self.name)
        for part in self.batches.over(len(questions)):
            probabilities = None
            with self.batches:
                probabilities = self._probabilities(pictures[part], questions[part])
            if probabilities is not None:
                yield part, probabilities

    @torch.no_grad()
    def _probabilities(self, pictures: Sequence[Picture], questions: Sequence[str]) -> torch.Tensor:
        """`generate` for one token knows how each model counts the positions of a padded row."""
        images = [rgb(one) for one in pictures]
        texts = [chat_text(self.processor, question) for question in questions]
        bos = self.tokenizer.bos_token
        inputs = self.processor(
            images=[[image] for image in images],
            text=texts,
            return_tensors="pt",
            padding=True,
            add_special_tokens=not (bos and texts[0].startswith(bos)),
        ).to(self.model.device, dtype=self.model.dtype)
        made = self.model.generate(
            **inputs,
            max_new_tokens=1,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=self.tokenizer.pad_token_id,
            output_logits=True,
            return_dict_in_generate=True,
        )
        return made.logits[0].float().softmax(dim=-1).cpu()


class VlmVerifier:
    """Asks a vision-language model one question per candidate.

    The score is p(yes) where the most probable token is a spelling of yes, and -p(no) elsewhere, as the published
    verifiers' is; with `score="p_yes"` it is p(yes), as VQAScore's.
    """

    reads: Reads = "image"
    block = width = None
    independent = True

    def __init__(
        self,
        model: VisionLanguageModel,
        question: str = QUESTION,
        answers: Mapping[str, Sequence[str]] = ANSWERS,
        score: str = "signed",
    ) -> None:
        """`question` holds {prompt}; the spellings in `answers["yes"]` and `["no"]` that are one token are added up.

        Raises ConfigError where none of them is.
        """
        self.model, self.question, self.signed = model, question, score == "signed"
        self.yes, self.no = answer_tokens(model.tokenizer, answers, model.name)
        self._affirms = {word.strip().lower() for word in answers["yes"]}

    @property
    def micro_batch(self) -> int | None:
        return self.model.batches.size

    def score(self, prompt: str, features: Sequence[Picture]) -> Score:
        """Scores of N pictures (PIL or paths). Raises PromptError or ImageError, as `answer_probabilities`."""
        questions = [self.question.replace("{prompt}", prompt)] * len(features)
        p_yes, p_no, tops = [], [], []
        for _, probabilities in self.model._next_token(features, questions):
            p_yes.append(probabilities[:, self.yes].sum(dim=1))
            p_no.append(probabilities[:, self.no].sum(dim=1))
            tops += probabilities.argmax(dim=-1).tolist()
        yes, no = torch.cat(p_yes), torch.cat(p_no)
        said = [self.model.tokenizer.decode([token]).strip().lower() for token in tops]
        correct = torch.tensor([word in self._affirms for word in said])
        return Score(yes, no, correct, torch.where(correct, yes, -no) if self.signed else yes)


def single_tokens(tokenizer: Any, spellings: Sequence[str]) -> list[int]:
    """Ids of the spellings that are one token, each once, in order."""
    encoded = [tokenizer.encode(spelling, add_special_tokens=False) for spelling in spellings]
    return list(dict.fromkeys(ids[0] for ids in encoded if len(ids) == 1))


def answer_tokens(tokenizer: Any, answers: Mapping[str, Sequence[str]], name: str) -> tuple[list[int], list[int]]:
    """Token ids of (yes, no). Raises ConfigError where no spelling of an answer is one token, or both share one."""
    found = []
    for answer in ("yes", "no"):
        tokens = single_tokens(tokenizer, answers[answer])
        if not tokens:
            pieces = tokenizer.convert_ids_to_tokens(tokenizer.encode(answers[answer][0], add_special_tokens=False))
            raise ConfigError(
                f"{name}: its tokenizer splits {', '.join(map(repr, answers[answer]))} ({' + '.join(pieces)}); "
                f"give answers: {{{answer}: [...]}} with a word that is one token, and ask for it in question"
            )
        found.append(tokens)
    if shared := set(found[0]) & set(found[1]):
        word = tokenizer.decode([min(shared)])
        raise ConfigError(f"{name}: answers: yes and no share the token {word!r}; give words that differ")
    return found[0], found[1]


def check_question(tokenizer: Any, question: str, name: str) -> None:
    """Raises PromptError for a text that would change the layout of the conversation."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special = [*tokenizer.all_special_tokens, *(token.content for token in added if token.special)]
    found = next((token for token in special if token and token in question), None)
    if found is not None:
        raise PromptError(f"{question!r}: contains {found!r}, which {name} reads as a control token; remove it")


def chat_text(processor: Any, question: str) -> str:
    """The conversation that ends where the answer begins: the picture first, then the question."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


def prepare_tokenizer(processor: Any) -> Any:
    """The processor's tokenizer, set to pad on the left, so that the answer's place is the last of every row."""
    tokenizer = processor.tokenizer
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_processor(folder: Path, trust_remote_code: bool = False) -> Any:
    """The processor of a folder. Raises CheckpointError where it is missing, damaged, or has no chat template."""
    from transformers import AutoProcessor

    with _explained(folder, trust_remote_code):
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
        getattr(processor, "tokenizer", str)("yes")
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise CheckpointError(
            f"{folder}: {type(processor).__name__} takes no pictures; kind vlm needs a processor of pictures and text"
        )
    if not (processor.chat_template or processor.tokenizer.chat_template):
        raise CheckpointError(
            f"{folder}: no chat template; chat_template.jinja of the instruction-tuned model is needed"
        )
    return processor


def check_vlm(folder: Path, answers: Mapping[str, Sequence[str]], name: str, trust_remote_code: bool = False) -> None:
    """All that is known of a model without reading a weight: its class, its processor, how its tokenizer spells the
    answers. Raises CheckpointError or ConfigError."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

    with _explained(folder, trust_remote_code):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    if config.model_type not in KNOWN and not trust_remote_code:
        raise CheckpointError(
            f"{folder / 'config.json'}: model_type is {config.model_type!r}, which is no image-text-to-text model"
        )
    answer_tokens(prepare_tokenizer(load_processor(folder, trust_remote_code)), answers, name)


def _load_model(folder: Path, dtype: torch.dtype, trust_remote_code: bool) -> torch.nn.Module:
    from transformers import AutoModelForImageTextToText

    with _explained(folder, trust_remote_code):
        model, info = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    if info["missing_keys"]:
        raise CheckpointError(f"{folder}: tensors missing: {', '.join(sorted(info['missing_keys'])[:3])}")
    return model


@contextmanager
def _explained(folder: Path, trusted: bool) -> Iterator[None]:
    """Turns whatever transformers raises about a folder into one line."""
    try:
        yield
    except BaseException as error:
        if not is_failure(error):
            raise
        reason = first_line(error)
        if "trust_remote_code" in str(error) and not trusted:
            reason = "runs Python code of its own; read it, then put trust_remote_code: true into the entry"
        raise CheckpointError(f"{folder}: not a usable vision-language model ({reason})") from None
