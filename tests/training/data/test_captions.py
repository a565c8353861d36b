"""Captions by models and by a detector, CLIP-Score, and verdicts of collected pictures, on small real models."""

import json

import pytest
import torch
from PIL import Image

from tests.judge import write_clip
from vhs.errors import CheckpointError, ConfigError, RunError
from vhs.pictures import encode
from vhs.records import Detection, Prompt, Verdict
from vhs.training.data.captions import detector_captioner, sentence, write_captions
from vhs.training.data.label_commands import VerdictCounts, run_label
from vhs.training.data.labels import line_of, read_captions, read_labels, write_labels, write_rows
from vhs.training.data.language import ClipScorer, load_clip_scorer
from vhs.training.data.layout import Layout
from vhs.training.data.store import CollectedSet, begin, write_shard
from vhs.training.data.tasks import VerdictTask


def write_pictures(folder, count=3, candidates=2):
    """Pictures of one colour each; the last prompt has no metadata."""
    records = [
        {"tag": "single_object", "include": [{"class": "circle", "count": 1}], "prompt": f"p{i}"}
        for i in range(count - 1)
    ]
    prompts = [Prompt(i, f"p{i}", record) for i, record in enumerate([*records, None])]
    layout = Layout({}, "float32", count, candidates, 2, "png")
    for shard in begin(folder, layout, prompts):
        rows = [(p, c) for p in layout.prompts_of(shard) for c in range(candidates)]
        files = [encode(Image.new("RGB", (64, 64), (10 * p, 100 * c, 0)), "png") for p, c in rows]
        write_shard(folder, shard, {"prompt": torch.tensor([p for p, _ in rows])}, files)
    return CollectedSet(folder)


def judge_by_green(pictures, metadatas):
    assert all(metadata["tag"] == "single_object" for metadata in metadatas)
    return [
        Verdict(picture.getpixel((0, 0))[1] == 100, "" if picture.getpixel((0, 0))[1] else "no green")
        for picture in pictures
    ]


def test_verdicts_are_written_beside_their_samples(tmp_path):
    data = write_pictures(tmp_path)
    assert write_labels(data, judge_by_green, batch=3) == {"yes": 2, "no": 2, "unjudged": 2}
    assert read_labels(data) == {0: False, 1: True, 2: False, 3: True}
    assert json.loads((tmp_path / "labels.jsonl").read_text().splitlines()[2]) == {
        "prompt_id": 1,
        "candidate": 0,
        "correct": False,
        "reason": "no green",
    }


def test_a_stopped_labelling_goes_on_and_old_labels_stay_until_then(tmp_path, monkeypatch):
    from vhs.training.data import labels

    monkeypatch.setattr(labels, "PART", 2)
    data = write_pictures(tmp_path, count=4)
    (tmp_path / "labels.jsonl").write_text("old")
    calls = []

    def stopping(pictures, metadatas):
        calls.append(len(pictures))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return judge_by_green(pictures, metadatas)

    with pytest.raises(KeyboardInterrupt):
        write_labels(data, stopping, source="one")
    assert (tmp_path / "labels.jsonl").read_text() == "old"
    with pytest.raises(RunError, match=r"parts of another run \(one\), now two"):
        write_labels(data, stopping, source="two")
    assert write_labels(data, stopping, source="one")["yes"] == 3
    assert len(calls) == 4 and not (tmp_path / "labels.jsonl.parts").exists()


def test_captions_leave_out_what_nobody_described(tmp_path):
    data = write_pictures(tmp_path)
    write_captions(
        data, lambda pictures: ["" if p.getpixel((0, 0))[1] else f"red {p.getpixel((0, 0))[0]}" for p in pictures]
    )
    assert read_captions(data, "captions.jsonl") == {0: "red 0", 2: "red 10", 4: "red 20"}
    assert read_captions(data, None)[5] == "p2"
    write_rows(data, [], lambda indices: [], "captions.jsonl")
    with pytest.raises(ConfigError, match="no captions in it"):
        read_captions(data, "captions.jsonl")


def test_a_caption_with_any_line_separator_is_read_back_as_it_was_written(tmp_path):
    data = write_pictures(tmp_path, count=1, candidates=3)
    said = {0: "one\u2028two", 1: "one\x85two\u2029three\x0b", 2: 'a "quoted"\nline'}
    write_rows(data, range(3), lambda ids: [line_of(data, i, caption=said[i]) for i in ids], "captions.jsonl")
    assert read_captions(data, "captions.jsonl") == said


def seen(label, x, y=32.0):
    return Detection(label, 0.9, (x - 5, y - 5, x + 5, y + 5))


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ([], ""),
        ([(seen("star", 9), "orange")], "an orange star"),
        ([(seen("star", 50), "red"), (seen("ring", 10), "blue")], "a blue ring left of a red star"),
        ([(seen("star", 30, 50), "red"), (seen("ring", 32, 10), "blue")], "a blue ring above a red star"),
        ([(seen("star", 10), "red"), (seen("star", 50), "red")], "two red stars"),
        (
            [(seen("cross", 10), "red"), (seen("star", 30), "red"), (seen("cross", 50), "red")],
            "two red crosses and a red star",
        ),
        ([(seen("a", 1), "red"), (seen("b", 2), "red"), (seen("c", 3), "pink")], "a red a, a red b and a pink c"),
    ],
)
def test_sentences(objects, said):
    assert sentence(objects) == said


def test_detector_and_judge_from_a_configuration(tmp_path, judge_keys, run_keys, config_file):
    """Random weights: what is found means nothing, but it is found by the real detector and classifier."""
    from vhs.geneval.spec import judge_config, resolve_judge

    data = write_pictures(tmp_path / "set")
    path = config_file({**run_keys, **judge_keys})
    judge = resolve_judge(judge_config(tmp_path, path), "cpu").fetched().load()
    said = detector_captioner(judge, min_score=0.0)([data.picture(0), data.picture(1)])
    assert len(said) == 2 and all(any(name in text for name in judge.names) for text in said)
    done = run_label(VerdictTask(task="verdicts", data=[str(tmp_path / "set")], judge=path), print)
    assert done == VerdictCounts(yes=0, no=4, unjudged=2) and done.line() == "0 yes, 4 no, 2 unjudged"


def test_clip_score_is_hessels():
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=CLIPTextConfig(vocab_size=50, eos_token_id=49, **sizes).to_dict(),
        vision_config=CLIPVisionConfig(image_size=32, patch_size=16, **sizes).to_dict(),
        projection_dim=8,
    )
    model = CLIPModel(config)

    def processor(text, images, **options):
        from transformers import BatchEncoding

        pixels = torch.stack([torch.full((3, 32, 32), image.getpixel((0, 0))[0] / 255) for image in images])
        return BatchEncoding({"input_ids": torch.tensor([[len(t), 3, 49] for t in text]), "pixel_values": pixels})

    pictures, texts = [Image.new("RGB", (8, 8), (v, 0, 0)) for v in (0, 255)], ["a", "bcd"]
    scores = ClipScorer(model, processor)(pictures, texts)
    with torch.no_grad():
        found = model(**processor(texts, pictures))
    cosine = (found.image_embeds * found.text_embeds).sum(-1) / (
        found.image_embeds.norm(dim=-1) * found.text_embeds.norm(dim=-1)
    )
    assert scores == pytest.approx([250 * max(value, 0) for value in cosine.tolist()], rel=1e-5)


def test_an_image_text_model_answers(language_model, tmp_path):
    """A small random LLaVA of transformers: one line a picture, the same alone and in a batch."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        Qwen2Config,
    )

    from vhs.training.data.language import load_picture_model
    from vhs.verifiers.language_model import load_tokenizer

    tokenizer = load_tokenizer(language_model)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    part = "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}"
    template = "{% for m in messages %}{% for c in m.content %}" + part + "{% endfor %}{% endfor %}"
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=32, patch_size=16, **sizes),
        text_config=Qwen2Config(vocab_size=704, num_key_value_heads=1, **sizes),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    LlavaForConditionalGeneration(config).save_pretrained(tmp_path / "llava")
    processor.save_pretrained(tmp_path / "llava")
    model = load_picture_model(str(tmp_path / "llava"), device="cpu", max_tokens=5)
    pictures = [Image.new("RGB", (40, 30), color) for color in ("red", "blue")]
    both = model(pictures, "Describe the image.")
    assert len(both) == 2 and both == [model([picture], "Describe the image.")[0] for picture in pictures]
    assert all("\n" not in text for text in both)


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("tokenizer.json", lambda data: b"[" * 100_000, r"not a usable model \("),
        ("tokenizer_config.json", lambda data: data.replace(b'"pad_token"', b'"other"'), "padding token"),
        (
            "config.json",
            lambda data: data.replace(b'"num_hidden_layers": 2', b'"num_hidden_layers": 9999999'),
            "9,999,999",
        ),
        (
            "config.json",
            lambda data: data.replace(b'"num_hidden_layers": 2', b'"num_hidden_layers": 3'),
            "tensors missing",
        ),
        ("model.safetensors", lambda data: data[:-1], "not a usable model"),
    ],
)
def test_whatever_is_wrong_with_a_clip_model_is_one_line_before_any_pair(tmp_path, name, damage, said):
    write_clip(tmp_path / "clip")
    assert len(load_clip_scorer(str(tmp_path / "clip"))([Image.new("RGB", (8, 8))], ["a star " * 50])) == 1
    file = tmp_path / "clip" / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match=said) as found:
        load_clip_scorer(str(tmp_path / "clip"))
    assert "clip" in str(found.value) and len(str(found.value).splitlines()) == 1
