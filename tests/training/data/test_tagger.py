"""An LLM's answers are parsed strictly, and nothing is written over when one is no answer."""

import json
from pathlib import Path

import pytest

from vhs.errors import ConfigError, PromptError
from vhs.training.data.label_commands import run_label
from vhs.training.data.prompt_sets import read_llava, read_reflect_dit
from vhs.training.data.tagger import ask_records, paper_prompt, parse_record, parse_tag, record_message, tag_message
from vhs.training.data.tasks import MetadataTask, PromptsTask, VerdictTask, load_label_config

NAMES = ("cat", "dog", "cup")


def test_the_papers_prompt_is_asked():
    message = tag_message("a {cat}", paper_prompt("tag"))
    assert (
        message.rstrip().endswith("The prompt is a {cat}.")
        and "color_attr" in message
        and "{input_prompt}" not in message
    )
    assert "cat, dog, cup" in record_message("a {cat}", "colors", NAMES) and "a {cat}" in record_message(
        "a {cat}", "x", NAMES
    )
    with pytest.raises(ConfigError, match="no prompt 'poem'"):
        paper_prompt("poem")


@pytest.mark.parametrize("answer", ["counting", " Counting\n", "`counting`", '"counting"'])
def test_a_tag(answer):
    assert parse_tag(answer, "three cats") == "counting"


@pytest.mark.parametrize(
    "answer", ["", "The tag is counting", "counting, colors", "count", "counting\n\nBecause there are three"]
)
def test_no_tag(answer):
    with pytest.raises(
        PromptError, match="prompt 'three cats': the LLM answered .* which is no tag; one of single_object"
    ):
        parse_tag(answer, "three cats")


def test_a_record():
    fenced = '```json\n{"include": [{"class": "cat", "count": 3}]}\n```'
    assert parse_record(fenced, "counting", "some cats", NAMES) == {
        "tag": "counting",
        "include": [{"class": "cat", "count": 3}],
        "exclude": [{"class": "cat", "count": 4}],
        "prompt": "some cats",
    }
    placed = {"include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["above", 0]}]}
    assert parse_record(json.dumps(placed), "position", "p", NAMES)["include"] == placed["include"]


@pytest.mark.parametrize(
    ("answer", "tag", "message"),
    [
        ("cat and dog", "two_object", "is not JSON"),
        ('["cat"]', "single_object", "an object with include"),
        ('{"include": [], "why": 1}', "single_object", "an object with include"),
        ('{"include": [{"class": "horse", "count": 1}]}', "single_object", "unknown class 'horse'"),
        ('{"include": [{"class": "cat", "count": 1, "color": "teal"}]}', "colors", "unknown color 'teal'"),
        ('{"include": [{"class": "cat", "count": 2}]}', "single_object", "not of the kind single_object"),
        ('{"include": [{"class": "cat", "count": 1}]}', "colors", "not of the kind colors"),
        (
            '{"include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1}]}',
            "position",
            "not of the kind position",
        ),
        ('{"include": [{"class": "cat", "count": 1, "position": ["above", 1]}]}', "position", "position target 1"),
        ('{"include": [{"class": "cat", "count": "3"}]}', "counting", "count '3'"),
    ],
)
def test_no_record(answer, tag, message):
    with pytest.raises(PromptError, match=message):
        parse_record(answer, tag, "a prompt", NAMES)


def test_what_is_rejected_is_told_and_the_rest_is_kept():
    """A stand-in for the LLM's text: the parser and the order of questions are what is tested."""

    def answers(messages):
        if "one of six categories" in messages[0]:
            return ["single_object" if "my cat" in m else "colors" if "teal" in m else "poem" for m in messages]
        assert len(messages) == 2
        return ['{"include": [{"class": "cat", "count": 1}]}', '{"include": [{"class": "cup", "count": 1}]}']

    rejected = {}
    records = ask_records(
        ["my cat sleeping", "a poem", "a teal cup"], answers, NAMES, lambda p, e: rejected.update({p: str(e)})
    )
    assert [record["prompt"] for record in records] == ["my cat sleeping"]
    assert "no tag" in rejected["a poem"] and "not of the kind colors" in rejected["a teal cup"]


def metadata_task(tmp_path: Path, **changes) -> MetadataTask:
    (tmp_path / "prompts.txt").write_text("a photo of a cat\na cat dreaming of a dog\na photo of two dogs\n")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    return MetadataTask(**(metadata_keys(tmp_path) | changes))


def metadata_keys(tmp_path: Path) -> dict[str, str]:
    return {
        "task": "metadata",
        "annotation": str(tmp_path / "prompts.txt"),
        "output": str(tmp_path / "out.json"),
        "object_names": str(tmp_path / "names.txt"),
    }


def with_records(tmp_path: Path) -> bytes:
    """A finished file of records, of another prompt; its bytes."""
    (tmp_path / "prompts.txt").write_text("a photo of a dog\n")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    run_label(MetadataTask(**metadata_keys(tmp_path)), print)
    return (tmp_path / "out.json").read_bytes()


def test_rules_stop_or_skip(tmp_path):
    before = with_records(tmp_path)
    with pytest.raises(PromptError, match="'a cat dreaming of a dog': not of GenEval's shape"):
        run_label(metadata_task(tmp_path, overwrite=True), print)
    assert (tmp_path / "out.json").read_bytes() == before
    (tmp_path / "dreams.txt").write_text("a cat dreaming of a dog\n")
    with pytest.raises(PromptError, match="no record for any of its 1 prompts; .* with the classes of .*names.txt"):
        own = {"annotation": str(tmp_path / "dreams.txt"), "output": str(tmp_path / "none.json")}
        run_label(metadata_task(tmp_path, on_error="skip", **own), print)
    assert not (tmp_path / "none.json").exists()
    done = run_label(metadata_task(tmp_path, on_error="skip", overwrite=True), print)
    records = json.loads((tmp_path / "out.json").read_text())
    assert [record["tag"] for record in records] == ["single_object", "counting"] and done.rejected == 1
    assert json.loads((tmp_path / "out.json.rejected.jsonl").read_text())["prompt"] == "a cat dreaming of a dog"


def test_a_real_llm_that_gives_no_tag(tmp_path, language_model):
    """Golden A's random LLM answers with noise: refused, and the file there stays."""
    before = with_records(tmp_path)
    task = metadata_task(tmp_path, backend="model", model=str(language_model), max_tokens=4, device="cpu",
                         overwrite=True)  # fmt: skip
    with pytest.raises(PromptError, match="'a cat dreaming of a dog': the LLM answered .* which is no tag"):
        run_label(task, print)
    assert (tmp_path / "out.json").read_bytes() == before


def test_llava(tmp_path):
    turns = [{"from": "human", "value": "Describe.\n<image>"}, {"from": "gpt", "value": "a  cat\n"}]
    rows = [{"id": "1", "conversations": turns}, {"id": "2", "blip_caption": "a dog"}, {"blip_caption": "a cat"}]
    (tmp_path / "llava.json").write_text(json.dumps(rows))
    assert read_llava(tmp_path / "llava.json") == ["a cat", "a dog"]
    (tmp_path / "llava.json").write_text(json.dumps([*rows, {"id": "4", "conversations": []}]))
    with pytest.raises(PromptError, match="llava.json: row 4: no caption"):
        read_llava(tmp_path / "llava.json")
    (tmp_path / "llava.json").write_text("[" * 100_000)
    with pytest.raises(PromptError, match="llava.json: not valid JSON .maximum recursion depth"):
        read_llava(tmp_path / "llava.json")


def test_reflect_dit_becomes_a_prompt_file(tmp_path):
    from vhs.prompts import read_prompts

    record = {"tag": "single_object", "include": [{"class": "cat", "count": 1}], "prompt": "a cat"}
    quoted = json.dumps(record).replace('"', '""')
    (tmp_path / "t.csv").write_text(
        f'filename,prompt,metadata\n1.png,a cat,"{quoted}"\n2.png,a cat,"{quoted}"\n3.png,"my dog, asleep",\n'
    )
    assert read_reflect_dit(tmp_path / "t.csv") == [record, "my dog, asleep"]
    done = run_label(
        PromptsTask(
            task="prompts", source=str(tmp_path / "t.csv"), format="reflect_dit", output=str(tmp_path / "p.json")
        ),
        print,
    )
    prompts = read_prompts(tmp_path / "p.json")
    assert done.count == 2 and prompts[0].judged and prompts[1].text == "my dog, asleep" and not prompts[1].judged
    (tmp_path / "t.csv").write_text("filename,text\n1.png,a cat\n")
    with pytest.raises(PromptError, match="t.csv: row 1: no prompt"):
        read_reflect_dit(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text(f"prompt\n{'a' * 140_000}\n")
    with pytest.raises(PromptError, match="t.csv:1: not valid CSV, from here on: field larger"):
        read_reflect_dit(tmp_path / "t.csv")


def test_the_task_is_named(tmp_path):
    (tmp_path / "c.yaml").write_text("task: verdict\ndata: [x]\n")
    with pytest.raises(ConfigError, match=r"c.yaml:1: task: 'verdict' is not a choice.*did you mean verdicts"):
        load_label_config(tmp_path / "c.yaml")
    assert isinstance(load_label_config(tmp_path / "c.yaml", ["task=verdicts", "judge=configs/tiny.yaml"]), VerdictTask)
    with pytest.raises(ConfigError, match="captions: unknown key"):
        load_label_config(tmp_path / "c.yaml", ["task=verdicts", "judge=x", "captions=y"])
