"""The benchmark's rows on small real models: what is counted adds up, and the files say the same."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from tests.test_best_of_n import generator, verifier  # noqa: F401 - fixtures
from vhs import BestOfN
from vhs.commands import main
from vhs.commands.bench_run import milliseconds
from vhs.errors import ConfigError
from vhs.measure.profile import profile
from vhs.measure.write import as_table, flat
from vhs.records import Prompt

MID_SIZE = Path("configs/bench/mid_size")
VERIFIERS = ("hidden_1", "latent", "clip")


@pytest.fixture
def bench(tmp_path, run_keys):
    """`bench(*words)`: runs the command on golden D's sizes with random weights; returns its files' folder."""
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "image_size": 28}
    for name in ("tower", "verifier"):
        values = json.loads((MID_SIZE / f"{name}.json").read_text())
        (tmp_path / f"{name}.json").write_text(json.dumps(values | {key: small[key] for key in small if key in values}))
    verifiers = {name: {"architecture": str(tmp_path / "verifier.json")} for name in VERIFIERS}
    verifiers["clip"]["tower"] = str(tmp_path / "tower.json")
    keys = {
        key: run_keys[key]
        for key in ("ckpt", "image_width", "image_height", "complex_human_instruction", "max_sequence_length")
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**keys, "latent_verifier": False, "num_samples": 1}))
    config = {"name": "small", "run": str(tmp_path / "run.yaml"), "verifiers": verifiers, "num_samples": [1, 2],
              "repeats": 1, "micro_batch": 2, "output_path": str(tmp_path / "out"), "random_weights": True}  # fmt: skip
    (tmp_path / "bench.yaml").write_text(yaml.safe_dump(config))

    def call(*words):
        return main(["benchmark", "run", "--config", str(tmp_path / "bench.yaml"), "device=cpu", *words])

    return call


def test_every_verifier_and_n_has_a_row_in_all_files(bench, tmp_path, capsys):
    assert bench() == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    rows = {(row["verifier"], row["num_samples"]): row for row in last["rows"]}
    assert set(rows) == {(name, count) for name in VERIFIERS for count in (1, 2)}
    for (_, count), row in rows.items():
        assert 0 < row["p5_ms"] <= row["median_ms"] <= row["p95_ms"]
        assert row["candidates_per_second"] == pytest.approx(1000 * count / row["median_ms"], rel=1e-3)
        assert row["tflop"] == pytest.approx(sum(row["flops"].values()) / 1e12, abs=1e-6)
    for name in VERIFIERS:
        one, two = rows[name, 1]["flops"], rows[name, 2]["flops"]
        assert one["LLM"] < two["LLM"] < 2 * one["LLM"], "the text before the picture is shared"
        assert two["text"] == one["text"]
        assert two["decode"] == (2 if name == "clip" else 1) * one["decode"], "only a reader of pictures decodes all"
    assert set(rows["hidden_1", 2]["flops"]) == {"text", "prefix", "suffix", "decode", "connector", "LLM"}
    assert rows["clip", 2]["flops"]["re-encode"] > 0 and "re-encode" not in rows["latent", 2]["flops"]
    assert json.loads((tmp_path / "out" / "small.json").read_text())["rows"] == last["rows"]
    with open(tmp_path / "out" / "small.csv") as file:
        assert [float(row["median_ms"]) for row in csv.DictReader(file)] == [row["median_ms"] for row in last["rows"]]
    assert "| hidden_1 | 2 |" in (tmp_path / "out" / "small.md").read_text()
    # Counted without weights it is the same; text and question have their published lengths there, other ones here.
    assert bench("--flops") == 0
    counted = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    for row, other in zip(counted, last["rows"], strict=True):
        for stage in set(row["flops"]) - {"text", "LLM"}:
            assert row["flops"][stage] == other["flops"][stage], (row["verifier"], stage)
        assert row["flops"].keys() == other["flops"].keys() and row["peak_gib"] > 0
    by_name = {(row["verifier"], row["num_samples"]): row for row in counted}
    clip, hidden = by_name["clip", 2], by_name["hidden_1", 2]
    assert clip["flops_saving"] == clip["vram_saving"] == 0
    assert hidden["flops_saving"] == pytest.approx(100 * (1 - hidden["tflop"] / clip["tflop"]), abs=0.1)


def test_a_profile_leaves_two_per_cent_to_no_stage(generator, verifier, tmp_path):  # noqa: F811
    """Of the wall clock, in the quietest of five: a busy machine may take its time between two stages as well."""
    method = BestOfN(generator, verifier)
    method.generator.micro_batch = method.verifier.micro_batch = 8
    shares = (one["other_ms"] / one["whole_ms"] for one in _profiles(method, tmp_path))
    assert any(0 <= share <= 0.02 for share in shares)


def _profiles(method, tmp_path):
    for attempt in range(5):
        yield profile(method, Prompt(0, "a red star"), 8, 1, tmp_path / f"{attempt}.json")


def test_a_profile_names_its_stages(bench, tmp_path, capsys):
    assert bench("--profile", str(tmp_path / "traces"), "num_samples=[2]") == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"][0]
    assert sum(row["stages_ms"].values()) + row["other_ms"] == pytest.approx(row["whole_ms"])
    spans = {
        event["name"] for event in json.loads((tmp_path / "traces" / "small_hidden_1.json").read_text())["traceEvents"]
    }
    assert {"prefix", "score", "finish", "decode"} <= spans


def test_mistakes_are_one_line(bench, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert bench("--profile", str(tmp_path / "file" / "traces")) == 2
    assert "--profile: " in capsys.readouterr().err
    assert bench("--flops", "--budget", "1s") == 2
    assert "argument --budget: not allowed with argument --flops" in capsys.readouterr().err
    assert bench("--budget", "soon") == 2
    assert "--budget: 'soon' is no time; 550ms or 1.65s is right" in capsys.readouterr().err
    assert bench("verifiers={block_7: {}}") == 2
    assert "'block_7' is not a choice; hidden_<block>, latent or clip is" in capsys.readouterr().err
    assert bench("random_weights=false", "part=decoder") == 2
    assert "part: is measured with random weights" in capsys.readouterr().err
    assert bench("random_weights=false") == 2
    assert "no keys that name a verifier" in capsys.readouterr().err
    assert bench(f"repeats={10**30}") == 2
    assert "is out of range; at most 10000 is needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "file", "change"),
    [
        ((), "verifier.json", {"num_attention_heads": 3}),
        (("part=tower",), "tower.json", {"patch_size": 0.5}),
        (("--flops",), "verifier.json", {"hidden_act": "none such"}),
        (("--flops", "part=language_model"), "verifier.json", {"num_attention_heads": 3}),
    ],
)
def test_sizes_of_which_there_is_no_model_are_one_line(bench, tmp_path, capsys, words, file, change):
    values = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps(values | change))
    assert bench(*words, "num_samples=[1]") == 2
    said = capsys.readouterr().err
    assert said.count("error: ") == 1 and "not a usable architecture (" in said and file in said


def test_times_are_read_in_milliseconds():
    assert [milliseconds(text) for text in ("550ms", "1.65s", "20")] == [550, 1650, 20]
    with pytest.raises(ConfigError):
        milliseconds("0ms")


def test_tables_hold_nested_values_and_gaps():
    rows = [{"a": 1, "b": {"c": 2.5}}, {"a": 12345}]
    assert flat(rows[0]) == {"a": 1, "b.c": 2.5}
    assert as_table(rows, {"a": "A", "b.c": "C"}) == "| A | C |\n|---|---|\n| 1 | 2.5 |\n| 12,345 |  |"
