"""Prompt files of every accepted kind, and what is said about the line that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vhs.errors import PromptError
from vhs.prompts import read_prompts

RECORD = {"tag": "colors", "include": [{"class": "cup", "count": 1, "color": "red"}], "prompt": "a photo of a red cup"}
ROOT = Path(__file__).parents[1]


def written(tmp_path: Path, name: str, text: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_genevals_prompts_are_read_with_their_metadata() -> None:
    prompts = read_prompts(ROOT / "data" / "evaluation_metadata.json")
    assert len(prompts) == 553 and all(prompt.judged for prompt in prompts)
    assert prompts[0].text == "a photo of a bench" and [prompt.id for prompt in prompts] == list(range(553))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps([RECORD, {"prompt": "two"}])),
        ("a.json", "[\n" + json.dumps(RECORD) + ',\n"two"\n]\n'),
        ("a.json", json.dumps(RECORD) + "\n" + json.dumps({"prompt": "two"})),
        ("a.jsonl", json.dumps(RECORD) + "\n\n" + json.dumps("two") + "\n"),
    ],
)
def test_records_and_texts_may_stand_side_by_side(tmp_path: Path, name: str, text: str) -> None:
    first, second = read_prompts(written(tmp_path, name, text))
    assert (first.text, first.judged, second.text, second.judged) == (RECORD["prompt"], True, "two", False)
    assert second.metadata is None and second.id == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'id,prompt\r\n1,"a cat, a dog"\r\n\r\n2,snow\r\n'),
        ("a.csv", '\ufefftext,id\n"a cat, a dog",1\nsnow,2\n'),
        ("a.tsv", "prompt\tid\na cat, a dog\t1\nsnow\t2\n"),
        ("a.txt", "a cat, a dog\n\n  snow  \n"),
        ("prompts", "a cat, a dog\r\nsnow"),
    ],
)
def test_tables_and_plain_text(tmp_path: Path, name: str, text: str) -> None:
    prompts = read_prompts(written(tmp_path, name, text))
    assert [(prompt.id, prompt.text, prompt.judged) for prompt in prompts] == [
        (0, "a cat, a dog", False),
        (1, "snow", False),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "\n \n", "a.txt: no prompts in it"),
        ("a.txt", b"good\nb\xff\xfe\n", "a.txt:2: not UTF-8 text"),
        ("a.txt", b"good\n\0\n", "a.txt:2: a binary file"),
        ("a.json", '[{"prompt": "a"},\n{"prompt": }]', "a.json:2: not valid JSON"),
        ("a.json", '["a"\n"b"]', "a.json:2: not valid JSON: Expecting ',' delimiter"),
        ("a.json", '["a"\n', "a.json:2: not valid JSON"),
        ("a.json", '["a"]\nrest', "a.json:2: not valid JSON: Extra data"),
        ("a.json", '[\n"a",\n{"caption": "b"}]', "a.json: record 2: a record without 'prompt'; it has caption"),
        ("a.json", '[\n"a",\n[]]', "a.json: record 2: [] is neither a prompt nor a record"),
        ("a.jsonl", '"a"\n\n{', "a.jsonl:3: not valid JSON"),
        ("a.jsonl", '{"prompt": 3}', "a.jsonl:1: prompt is 3; a text that is not empty is needed"),
        ("a.jsonl", '{"prompt": " "}', 'a.jsonl:1: prompt is " "; a text that is not empty is needed'),
        ("a.jsonl", json.dumps({**RECORD, "include": "cup"}), 'a.jsonl:1: include is "cup"; a list of objects'),
        (
            "a.jsonl",
            json.dumps({**RECORD, "include": [{"class": "cup"}]}),
            "'class' (text) and 'count' (1 or more) are needed",
        ),
        ("a.jsonl", '"a"\n{"prompt": "a", "tag": 1, "prompt": "b"}', 'a.jsonl:2: a record has the key "prompt" twice'),
        ("a.json", '["a", {"prompt": "a", "prompt": "b"}]', 'a.json:1: a record has the key "prompt" twice'),
        ("a.json", "[" * 100_000, "a.json:1: not a prompt record: maximum recursion depth"),
        ("a.jsonl", "9" * 5000, "a.jsonl:1: not a prompt record: Exceeds the limit"),
        ("a.jsonl", '"a"\n"half \\ud800"', "a.jsonl:2: has half of a character"),
        ("a.jsonl", json.dumps({**RECORD, "tag": "mood"}), 'tag is "mood"; one of single_object, two_object'),
        ("a.jsonl", json.dumps({**RECORD, "tag": "color"}), 'tag is "color"; did you mean colors'),
        ("a.jsonl", json.dumps({**RECORD, "tag": 3}), "tag is 3; one of single_object"),
        ("a.jsonl", json.dumps({"include": RECORD["include"], "prompt": "a"}), "tag is null; one of single_object"),
        ("a.jsonl", json.dumps({**RECORD, "include": []}), "include is empty; a list is needed"),
        ("a.jsonl", json.dumps({"tag": "colors", "prompt": "a"}), "include is missing; a list is needed"),
        (
            "a.jsonl",
            json.dumps({"tag": "colors", "prompt": "a", "inclde": RECORD["include"]}),
            "include is missing; is inclde meant to be include?",
        ),
        ("a.csv", "caption\na\n", "a.csv:1: no column 'prompt' or 'text', only caption"),
        ("a.csv", "prompt,id\na,1\nb, c,2\n", "a.csv:3: 3 cells where the header has 2"),
        ("a.csv", 'prompt\n"a\n', "a.csv:2: not valid CSV"),
        ("a.csv", "prompt,id\n,1\n", 'a.csv:2: prompt is ""'),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(PromptError) as raised:
        read_prompts(written(tmp_path, name, text))
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(PromptError, match="cannot be read"):
            read_prompts(path)


def test_what_a_judge_refuses_is_told_with_its_line(tmp_path: Path) -> None:
    def refuse(record: dict, where: str) -> None:
        if "include" in record:
            raise PromptError(f"{where}: {record['include'][0]['class']} is unknown")

    path = written(tmp_path, "a.jsonl", '"free"\n' + json.dumps(RECORD))
    with pytest.raises(PromptError, match=r"a.jsonl:2: cup is unknown"):
        read_prompts(path, refuse)


def test_benchmarks_are_read_as_they_are_published(tmp_path: Path) -> None:
    """DrawBench: every cell quoted, a category each. GenEval 2: questions. T2I-CompBench: a prompt a line."""
    drawbench = '"Prompts","Category"\n"A red car, parked.","Colors"\n"""Hello"" on a sign.","Text"\n'
    first, second = read_prompts(written(tmp_path, "DrawBench.csv", drawbench))
    assert (first.text, first.record) == (
        "A red car, parked.",
        {"prompt": "A red car, parked.", "Category": "Colors"},
    )
    assert second.text == '"Hello" on a sign.' and not second.judged
    line = {"prompt": "two dogs", "atom_count": 2, "vqa_list": [["How many dogs?", "two"]], "skills": ["count"]}
    (prompt,) = read_prompts(written(tmp_path, "geneval2_data.jsonl", json.dumps(line)))
    assert prompt.record == line
    third = read_prompts(written(tmp_path, "color_val.txt", "a green bench and a blue bowl\na red car\n"))
    assert [prompt.text for prompt in third] == ["a green bench and a blue bowl", "a red car"]
    assert third[0].metadata is None and third[0].record == {"prompt": "a green bench and a blue bowl"}
