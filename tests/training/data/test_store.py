"""A set on disk, without a generator: what is written is what is read, and each message says what is wrong."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vhs.errors import ConfigError, RunError
from vhs.folders import REPLACES
from vhs.pictures import encode
from vhs.records import Prompt
from vhs.training.data import store
from vhs.training.data.features import stored
from vhs.training.data.layout import FORMAT, Layout, read_index, read_layout
from vhs.training.data.shards import ShardCache
from vhs.training.data.store import (
    CollectedSet,
    begin,
    close_set,
    decide_set,
    missing_shards,
    open_set,
    shard_path,
    write_shard,
)

PROMPTS = [Prompt(10 + i, f"a red {thing} – né {i}", {"tag": "x", "n": i}) for i, thing in enumerate("abcde")]
"""Five, of which two share a shard: the last shard has one."""
SHAPES = {"hidden_7": (2, 3), "latent": (2, 1, 1)}
LAYOUT = Layout(SHAPES, "float32", prompts=5, candidates=2, prompts_per_shard=2, settings={"seed": 5})
COLORS = ["red", "lime", "blue", "white"]


def values_of(shard: int) -> dict[str, torch.Tensor]:
    """A shard's tensors: sample i of the set has 100 i, 100 i + 1, ... in every feature."""
    first, rows = 4 * shard, 2 * len(LAYOUT.prompts_of(shard))
    numbers = 100.0 * torch.arange(first, first + rows)
    hidden = numbers[:, None, None] + torch.arange(6.0).reshape(2, 3)
    ids = torch.tensor([PROMPTS[p].id for p in LAYOUT.prompts_of(shard)]).repeat_interleave(2)
    return {"hidden_7": hidden, "latent": hidden[:, 0, :2, None, None], "prompt": ids}


def write(folder: Path, layout: Layout = LAYOUT) -> Path:
    for shard in begin(folder, layout, PROMPTS):
        write_shard(folder, shard, values_of(shard))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "set")


def changed(folder: Path, file: str, change) -> None:
    (folder / file).write_text(json.dumps({**json.loads((folder / file).read_text()), **change}))


# ------------------------------------------------------------------------------------------------------- the layout


def test_samples_shards_and_their_files_follow_from_the_layout() -> None:
    assert (LAYOUT.samples, LAYOUT.shards) == (10, 3)
    assert [LAYOUT.prompts_of(shard) for shard in range(3)] == [range(2), range(2, 4), range(4, 5)]
    assert shard_path(Path("a"), 12) == Path("a/shards/shard_00012.safetensors")


def test_a_set_says_of_its_generator_what_a_verifier_has_to_know() -> None:
    usual = {"pipeline": "SanaSprintPipeline", "ckpt": None, "step": 1, "steps": 1}
    at = {"block": "transformer_blocks.7", "tokens": 2, "width": 3}
    assert LAYOUT.generator_record("hidden_7") == usual | at
    assert LAYOUT.generator_record("latent") == usual
    settings = {"pipeline": "FluxPipeline", "ckpt": "flux", "num_inference_steps": 4}
    flux = Layout(SHAPES, "float32", 1, 1, 1, settings=settings | {"block_paths": {"hidden_7": "single.7"}})
    record = {"pipeline": "FluxPipeline", "ckpt": "flux", "block": "single.7", "tokens": 2, "width": 3, "steps": 4}
    assert flux.generator_record("hidden_7") == record | {"step": 4}, "the last step, where none is named"
    second = Layout(SHAPES, "float32", 1, 1, 1, settings=settings | {"hidden_step": 2})
    assert second.generator_record("latent") == {"pipeline": "FluxPipeline", "ckpt": "flux", "step": 2, "steps": 4}


def test_blocks_are_read_side_by_side_where_their_shapes_are_equal(tmp_path: Path) -> None:
    two = {"hidden_5": (2, 3), "hidden_7": (2, 3), "hidden_9": (2, 4)}
    layout = Layout(two, "float32", 1, 2, 1, settings={"block_paths": {"hidden_7": "single.7"}})
    usual = {"pipeline": "SanaSprintPipeline", "ckpt": None, "step": 1, "steps": 1, "tokens": 2, "width": 3}
    assert layout.generator_record("hidden_5+7") == usual | {"block": ["transformer_blocks.5", "single.7"]}
    assert layout.shape("hidden_5+7", "here") == (2, 6) and layout.shape("hidden_9", "here") == (2, 4)
    with pytest.raises(ConfigError) as refused:
        layout.shape("hidden_5+9", "here")
    found = "hidden_5 is (2, 3), hidden_9 is (2, 4)"
    assert str(refused.value) == f"here: {found}; blocks of one shape can be read side by side"
    begin(tmp_path, layout, PROMPTS[:1])
    numbers = torch.arange(12.0).reshape(2, 2, 3)
    write_shard(tmp_path, 0, {"hidden_5": numbers, "hidden_7": -numbers, "hidden_9": torch.zeros(2, 2, 4)})
    both = CollectedSet(tmp_path).gather("hidden_5+7", [1])
    assert both.tolist() == [[[6, 7, 8, -6, -7, -8], [9, 10, 11, -9, -10, -11]]]


def test_index_and_prompts_are_written_as_they_are_described(folder: Path) -> None:
    assert json.loads((folder / "index.json").read_text()) == {
        "features": {"hidden_7": [2, 3], "latent": [2, 1, 1]},
        "dtype": "float32",
        "prompts": 5,
        "candidates": 2,
        "prompts_per_shard": 2,
        "pictures": None,
        "settings": {"seed": 5},
        "format": 1,
    }
    lines = (folder / "prompts.jsonl").read_bytes().split(b"\n")
    assert json.loads(lines[1]) == {"id": 11, "prompt": "a red b – né 1", "metadata": {"tag": "x", "n": 1}}
    assert len(lines) == 6 and lines[5] == b""
    assert CollectedSet(folder).prompts == PROMPTS


# ------------------------------------------------------------------------------------------------- starting, going on


def test_a_folder_is_begun_gone_on_with_and_done(folder: Path) -> None:
    assert decide_set(folder / "new", LAYOUT, PROMPTS) == "start" and not (folder / "new").exists()
    assert decide_set(folder, LAYOUT, PROMPTS) == "done" and begin(folder, LAYOUT, PROMPTS) == []
    for shard in (0, 2):
        shard_path(folder, shard).unlink()
    assert decide_set(folder, LAYOUT, PROMPTS) == "continue"
    assert missing_shards(folder, LAYOUT) == begin(folder, LAYOUT, PROMPTS) == [0, 2]
    assert decide_set(folder, LAYOUT, PROMPTS, overwrite=True) == "replace"


def test_going_on_completes_what_an_interruption_left_and_writes_nothing_twice(folder: Path) -> None:
    (folder / "prompts.jsonl").unlink()
    index = (folder / "index.json").stat().st_mtime_ns
    drafts = [".index.json.tmp", ".prompts.jsonl.tmp", f".{REPLACES}.tmp"]
    drafts += ["shards/.shard_00001.safetensors.tmp", "shards/.tmpFUc8iX"]
    for name in drafts:
        (folder / name).touch()
    (folder / "shards" / "notes.tmp").touch()
    open_set("continue", folder, LAYOUT, PROMPTS)
    assert [name for name in drafts if (folder / name).exists()] == [] and (folder / "shards" / "notes.tmp").exists()
    assert (folder / "index.json").stat().st_mtime_ns == index and CollectedSet(folder).prompts == PROMPTS
    written = (folder / "prompts.jsonl").stat().st_mtime_ns
    (folder / ".prompts.jsonl.tmp").touch()
    open_set("continue", folder, LAYOUT, PROMPTS)
    assert (folder / "prompts.jsonl").stat().st_mtime_ns == written and not (folder / ".prompts.jsonl.tmp").exists()


def test_a_replaced_set_is_kept_until_the_new_one_is_closed(folder: Path) -> None:
    (folder / "labels.jsonl").touch()
    open_set("replace", folder, LAYOUT, PROMPTS)
    [aside] = folder.parent.glob("set.old-*")
    assert len(CollectedSet(aside)) == 10 and missing_shards(folder, LAYOUT) == [0, 1, 2]
    assert (folder / REPLACES).read_text() == aside.name
    close_set(folder)
    assert [path.name for path in aside.iterdir()] == ["labels.jsonl"], "what collect.py wrote, and nothing else"
    assert not (folder / REPLACES).exists() and (folder / "index.json").exists()


@pytest.mark.parametrize(
    ("layout", "prompts", "message"),
    [
        ({"candidates": 3}, PROMPTS, r"made by another set (candidates: 2, now 3); choose another output folder, or "),
        (
            {"dtype": "int8"},
            PROMPTS,
            r"(dtype: 'float32', now 'int8'); choose another output folder, or overwrite=true",
        ),
        ({"settings": {"seed": 6}}, PROMPTS, "(seed: 5, now 6)"),
        ({"settings": {"seed": 5, "b": 1, "a": 2}}, PROMPTS, "(a: None, now 2; b: None, now 1)"),
        ({"settings": {}}, PROMPTS, "(seed: 5, now None)"),
        ({"settings": {"seed": 6}, "candidates": 3}, PROMPTS, "(candidates: 2, now 3; seed: 5, now 6)"),
        ({}, PROMPTS[:4] + PROMPTS[:1], "(it is of other prompts)"),
    ],
)
def test_another_set_is_refused_with_what_differs(folder: Path, layout: dict, prompts: list, message: str) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(RunError) as refused:
        begin(folder, Layout(**{**vars(LAYOUT), **layout}), prompts)
    assert message in str(refused.value) and str(refused.value).startswith(f"{folder}: made by another set")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_models_are_compared_by_content_where_both_sets_have_a_hash(tmp_path: Path) -> None:
    def of(**content: str) -> Layout:
        return Layout(**{**vars(LAYOUT), "settings": {"seed": 5, "content": content}})

    folder = write(tmp_path / "set", of(ckpt="a", lora="b", clip="c"))
    assert decide_set(folder, of(ckpt="a", other="d"), PROMPTS) == decide_set(folder, LAYOUT, PROMPTS) == "done"
    with pytest.raises(RunError, match=r"set \(clip has other content than before; lora has other content than before"):
        begin(folder, of(ckpt="a", lora="x", clip="y"), PROMPTS)
    changed(folder, "index.json", {"settings": {"seed": 5, "content": "damaged"}})
    assert decide_set(folder, of(ckpt="x"), PROMPTS) == "done", "there is no hash to compare with"


def test_a_set_without_prompts_or_settings_is_compared_by_the_rest(folder: Path) -> None:
    """An interruption came between index.json and prompts.jsonl; or an earlier version wrote the index."""
    (folder / "prompts.jsonl").unlink()
    assert decide_set(folder, LAYOUT, PROMPTS[::-1]) == "done"
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({key: index[key] for key in index if key != "settings"}))
    with pytest.raises(RunError, match=r"set \(seed: None, now 5\)"):
        begin(folder, LAYOUT, PROMPTS)


# ---------------------------------------------------------------------------------------------------------- the index


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "not an index of format 1; collect the set again with this version"),
        ({"candidates": "2"}, "candidates: Input should be a valid integer; collect the set again"),
        ({"features": {"hidden_7": [2, 3.5]}}, "features.hidden_7.1: Input should be a valid integer"),
        ({"prompts": 0}, "prompts is 0; no set has that; collect the set again"),
        ({"candidates": -1}, "candidates is -1; no set has that"),
        ({"prompts_per_shard": 2**40 + 1}, "prompts_per_shard is 1099511627777; no set has that"),
        ({"features": {"hidden_7": [2, 0]}}, "hidden_7 is 0; no set has that"),
        ({"features": {"hidden_7": [2]}}, "hidden_7 has a shape of 1 sizes, not 2; collect the set again"),
        ({"features": {"latent": [2, 3]}}, "latent has a shape of 2 sizes, not 3; collect the set again"),
        ({"features": {"clip": [2, 3, 4]}}, "clip has a shape of 3 sizes, not 2; collect the set again"),
        ({"dtype": "f4"}, "dtype is 'f4'; one of bfloat16, float16, float32, float8, int8 is needed"),
    ],
)
def test_an_index_that_is_none_names_file_and_key(folder: Path, change: dict, message: str) -> None:
    changed(folder, "index.json", change)
    with pytest.raises(ConfigError) as refused:
        read_layout(folder)
    assert str(refused.value).startswith(f"{folder}/index.json: {message}")


def test_the_largest_sizes_and_the_smallest_are_read(folder: Path) -> None:
    changed(folder, "index.json", {"prompts": 2**40, "candidates": 1, "features": {"latent": [1, 1, 1]}})
    layout = read_layout(folder)
    assert (layout.prompts, layout.candidates, layout.features) == (2**40, 1, {"latent": [1, 1, 1]})
    assert read_index(folder)["format"] == layout.format == FORMAT


def test_a_folder_without_an_index_or_with_another_file_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"index.json: is missing; a folder that collect.py finished is needed$"):
        CollectedSet(tmp_path)
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"index.json: is not a JSON object; a folder that collect.py finished is"):
        read_layout(tmp_path)


# -------------------------------------------------------------------------------------------------------- the prompts


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("{", r"prompts.jsonl: cannot be read \(.*\); collect the set again$"),
        ('{"id": 1, "prompt": "a"}\n', r"prompts.jsonl: cannot be read \('metadata'\); collect the set again$"),
        ('{"id": 1, "prompt": "a", "metadata": null}\n\n' * 4, "4 prompts, the index says 5; collect the set again$"),
        (
            '{"id": 1, "prompt": "a", "metadata": null}\n' * 4 + '{"id": 2.5, "prompt": "b", "metadata": null}',
            r"line 5: id is a number and prompt a text; got '2.5' and 'b'; collect the set again$",
        ),
        (
            json.dumps({"id": "9" * 50, "prompt": ["p" * 50], "metadata": None})
            + '\n{"id": 1, "prompt": "a", "metadata": null}' * 4,
            rf"line 1: id is a number and prompt a text; got '{'9' * 40}' and \"\['{'p' * 38}\"; collect the set",
        ),
        (
            '{"id": 9223372036854775808, "prompt": "a", "metadata": null}\n' * 5,
            "line 1: id is a number and prompt a text",
        ),
        ('{"id": 1, "prompt": "a \\ud800", "metadata": null}\n' * 5, "line 1: id is a number and prompt a text"),
        ('{"id": 1, "prompt": "a", "metadata": []}\n' * 5, "line 1: metadata is no object; collect the set again"),
        ('{"id": 1, "prompt": "a", "metadata": {"tag": NaN}}\n' * 5, "line 1: tag is 'nan', no text; collect the set"),
    ],
)
def test_prompts_that_cannot_be_read_name_file_and_line(folder: Path, lines: str, message: str) -> None:
    (folder / "prompts.jsonl").write_text(lines)
    with pytest.raises(ConfigError, match=message):
        CollectedSet(folder)


@pytest.mark.parametrize(("dtype", "other"), [("bfloat16", torch.float16), ("int8", torch.uint8), ("int8", None)])
def test_features_of_another_type_than_the_index_says_are_refused(tmp_path: Path, dtype: str, other) -> None:
    layout = Layout({"hidden_7": (2, 3)}, dtype, prompts=1, candidates=2, prompts_per_shard=1, settings={})
    begin(tmp_path, layout, PROMPTS[:1])
    tensors = stored("hidden_7", torch.randn(2, 2, 3), dtype)
    write_shard(tmp_path, 0, tensors)
    CollectedSet(tmp_path)
    values = tensors.pop("hidden_7")
    if other is None:  # values without their scales
        tensors.clear()
    write_shard(tmp_path, 0, {"hidden_7": values if other is None else values.view(other), **tensors})
    with pytest.raises(ConfigError, match=f"hidden_7 is not in {dtype}, which the index says"):
        CollectedSet(tmp_path)


def test_a_line_separator_inside_a_prompt_is_no_new_line(tmp_path: Path) -> None:
    prompts = [Prompt(2**63 - 1, "a\u2028b\x85c", None)]
    begin(tmp_path, Layout({"hidden_7": (1, 1)}, "float32", 1, 1, 1), prompts)
    text = json.dumps({"id": prompts[0].id, "prompt": prompts[0].text, "metadata": None}, ensure_ascii=False)
    (tmp_path / "prompts.jsonl").write_bytes(text.encode())
    write_shard(tmp_path, 0, {"hidden_7": torch.zeros(1, 1, 1)})
    assert CollectedSet(tmp_path).prompts == prompts


# --------------------------------------------------------------------------------------------------------- the shards


def test_samples_are_read_in_the_order_that_is_asked_for(folder: Path) -> None:
    data = CollectedSet(folder)
    assert len(data) == 10
    assert data.gather("hidden_7", [9, 0, 4])[:, 0].tolist() == [[900, 901, 902], [0, 1, 2], [400, 401, 402]]
    assert data.gather("latent", [3]).tolist() == [[[[300]], [[301]]]] and data.require("latent") == (2, 1, 1)
    assert data.gather("hidden_7", []).shape == (0, 2, 3)
    assert (data.name(7), data.prompt(7)) == (f"{folder}: prompt 00013 candidate 1", PROMPTS[3])
    assert data.folder == folder and CollectedSet(str(folder)).own == {} and data.cache is None
    assert [data.shard_of(index) for index in (3, 4, 9)] == [0, 1, 2]
    with pytest.raises(ConfigError, match=r"set: no feature 'hidden_9'; there is hidden_7, latent$"):
        data.gather("hidden_9", [0])


def test_features_have_their_stored_type(tmp_path: Path) -> None:
    begin(tmp_path, Layout({"hidden_7": (2, 3)}, "bfloat16", 1, 2, 1), PROMPTS[:1])
    stored = torch.randn(2, 2, 3).bfloat16()
    write_shard(tmp_path, 0, {"hidden_7": stored})
    found = CollectedSet(tmp_path).gather("hidden_7", [1, 0])
    assert found.dtype == torch.bfloat16 and torch.equal(found, stored.flip(0))


def test_a_set_without_features_says_so(tmp_path: Path) -> None:
    begin(tmp_path, Layout({}, "float32", 1, 1, 1), PROMPTS[:1])
    write_shard(tmp_path, 0, {"prompt": torch.tensor([10])})
    with pytest.raises(ConfigError, match="no feature 'latent'; there is none$"):
        CollectedSet(tmp_path).require("latent")


def test_missing_shards_are_counted_and_the_first_is_named(folder: Path) -> None:
    for shard in (1, 2):
        shard_path(folder, shard).unlink()
    with pytest.raises(
        ConfigError, match=r"index.json: 2 of 3 shards are missing, first shard_00001.safetensors; finish"
    ):
        CollectedSet(folder)


def test_a_shard_is_read_once_and_only_when_it_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "read_whole", lambda path: pytest.fail("not through a memory map"))
    data = CollectedSet(folder)
    shard_path(folder, 2).write_bytes(b"no shard")
    first = data.gather("hidden_7", [1])
    shard_path(folder, 0).unlink()
    assert torch.equal(data.gather("hidden_7", [1]), first)
    with pytest.raises(ConfigError, match=r"shard_00002.safetensors: truncated or corrupt \(.*[Ee]rror.*\); remove it"):
        data.gather("hidden_7", [8])


def test_shards_that_are_read_whole_are_kept_as_long_as_they_are_among_the_last(folder: Path, monkeypatch) -> None:
    data, reads = CollectedSet(folder), []
    monkeypatch.setattr(store, "read_whole", lambda path: reads.append(path.name) or load_file(path))
    data.cache = ShardCache(2)
    data.expect(1)
    assert data.gather("latent", [4, 0, 5])[:, 0, 0, 0].tolist() == [400, 0, 500]
    data.gather("latent", [9])
    data.gather("latent", [1, 8])
    assert reads == [f"shard_0000{shard}.safetensors" for shard in (1, 0, 2, 0)]
    assert CollectedSet(folder).expect(0) is None, "a memory map is not read ahead"


def test_a_stores_set_is_hashed_by_what_the_store_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = CollectedSet(folder).fingerprint()
    monkeypatch.setattr(store, "is_remote", lambda path: True)
    said = SimpleNamespace(checksum=lambda path: f"{path}'s tag")
    monkeypatch.setattr(store, "shard_path", lambda root, shard: SimpleNamespace(fs=said, path=shard))
    data = CollectedSet.__new__(CollectedSet)
    data.folder, data.layout = folder, LAYOUT
    files = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("index.json", "prompts.jsonl")]
    tags = "".join([*files, *(f"{shard}'s tag" for shard in range(3))])
    assert data.fingerprint() == hashlib.sha256(tags.encode()).hexdigest() != here


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent": None}, "4 samples of latent are needed; remove it and run collect.py again"),
        ({"hidden_7": torch.zeros(5, 2, 3)}, "4 samples of hidden_7 are needed; remove it and run collect.py again"),
        ({"hidden_7": torch.zeros(4, 3, 2)}, "hidden_7 is (3, 2), the index says (2, 3); remove it and run"),
        ({"prompt": torch.tensor([10, 10, 11, 12])}, "has the samples of other prompts than the index says; remove it"),
        ({"prompt": torch.tensor([10, 11, 10, 11])}, "has the samples of other prompts than the index says; remove it"),
    ],
)
def test_a_shard_that_is_not_this_one_is_refused(folder: Path, change: dict, message: str) -> None:
    tensors = {name: tensor for name, tensor in (values_of(0) | change).items() if tensor is not None}
    write_shard(folder, 0, tensors)
    with pytest.raises(ConfigError) as refused:
        CollectedSet(folder).gather("latent", [0])
    assert str(refused.value).startswith(f"{shard_path(folder, 0)}: {message}")


def test_a_shard_that_does_not_say_whose_samples_it_has_is_read(folder: Path) -> None:
    write_shard(folder, 0, {name: values for name, values in values_of(0).items() if name != "prompt"})
    assert CollectedSet(folder).gather("hidden_7", [1])[0, 0, 0] == 100


def test_eight_bits_are_read_as_float32(tmp_path: Path) -> None:
    layout = Layout({"hidden_7": (2, 3)}, "int8", 1, 1, 1)
    begin(tmp_path, layout, PROMPTS[:1])
    scale = torch.tensor([[[0.5, 0.25, 2.0]]])
    whole = torch.tensor([[[1, 2, 3], [4, 5, 6]]], dtype=torch.int8)
    write_shard(tmp_path, 0, {"hidden_7": whole, "hidden_7.scale": scale})
    found = CollectedSet(tmp_path).gather("hidden_7", [0])
    assert found.dtype == torch.float32 and found.tolist() == [[[0.5, 0.5, 6], [2, 1.25, 12]]]


def test_a_feature_that_is_not_finite_names_the_sample_that_was_asked_for(folder: Path) -> None:
    tensors = values_of(1)
    tensors["hidden_7"][3, 1, 2] = float("inf")
    write_shard(folder, 1, tensors)
    with pytest.raises(
        ConfigError, match=r"prompt 00013 candidate 1: hidden_7 is NaN or infinite; collect this set agai"
    ):
        CollectedSet(folder).gather("hidden_7", [0, 7])


def test_pictures_are_the_files_that_were_given(tmp_path: Path) -> None:
    layout = Layout({"latent": (1, 1, 1)}, "float32", 2, 2, 2, pictures="png")
    begin(tmp_path, layout, PROMPTS[:2])
    files = [encode(Image.new("RGB", (5 + i, 4), color), "png") for i, color in enumerate(COLORS)]
    path = write_shard(tmp_path, 0, {"latent": torch.zeros(4, 1, 1, 1)}, files)
    data = CollectedSet(tmp_path)
    assert [(data.picture(i).size, data.picture(i).getpixel((0, 0))) for i in (3, 1)] == [
        ((8, 4), (255, 255, 255)),
        ((6, 4), (0, 255, 0)),
    ]
    kept = load_file(path)
    assert kept["picture_offsets"].tolist() == [0, *torch.tensor([len(f) for f in files]).cumsum(0).tolist()]
    assert bytes(kept["picture_bytes"].tolist()) == b"".join(files)
    data, ends = kept["picture_bytes"], kept["picture_offsets"]
    broken = [(None, None), (data, None), (None, ends), (data, ends[:-1]), (data, ends + 1), (data, ends.float())]
    broken += [(data[:-1], ends), (data.char(), ends), (data, ends[[0, 2, 1, 3, 4]])]
    for pair in broken:
        names = ("picture_bytes", "picture_offsets")
        left = {name: tensor for name, tensor in zip(names, pair, strict=True) if tensor is not None}
        write_shard(tmp_path, 0, {"latent": kept["latent"]} | left)
        with pytest.raises(ConfigError) as refused:
            CollectedSet(tmp_path)
        assert str(refused.value) == f"{path}: 4 pictures are needed; remove it and run collect.py again"
    write_shard(tmp_path, 0, kept)
    (tmp_path / "index.json").write_text((tmp_path / "index.json").read_text().replace('"png"', "null"))
    with pytest.raises(ConfigError, match=r": no pictures; collect again with pictures: png$"):
        CollectedSet(tmp_path).picture(0)
    spoiled = kept | {"picture_bytes": torch.zeros_like(kept["picture_bytes"])}
    write_shard(tmp_path, 0, spoiled)
    (tmp_path / "index.json").write_text((tmp_path / "index.json").read_text().replace("null", '"png"'))
    with pytest.raises(Exception, match="prompt 00011 candidate 1"):
        CollectedSet(tmp_path).picture(3)


def test_a_shard_may_be_read_by_whoever_reads_the_index_and_its_tensors_may_be_views(folder: Path) -> None:
    (folder / "index.json").chmod(0o640)
    turned = torch.arange(24.0).reshape(4, 3, 2).transpose(1, 2)
    path = write_shard(folder, 0, values_of(0) | {"hidden_7": turned})
    assert path == shard_path(folder, 0) and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert torch.equal(load_file(path)["hidden_7"], turned)
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(".")] == []


def test_a_shard_that_cannot_be_written_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    kept = shard_path(folder, 1).read_bytes()
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RunError) as refused:
        write_shard(folder, 1, values_of(1))
    reason = "([Errno 28] No space left on device); the shards before it are kept"
    assert str(refused.value) == f"{shard_path(folder, 1)}: cannot be written {reason}"
    assert shard_path(folder, 1).read_bytes() == kept and len(list((folder / "shards").iterdir())) == 3
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(RunError, match="cannot be written"):
        write_shard(folder, 1, values_of(1))
    with pytest.raises(RunError, match="shard_00000.safetensors: cannot be written .*No such file or directory"):
        write_shard(folder / "gone", 0, values_of(0))


def test_the_fingerprint_is_of_index_prompts_and_shards(folder: Path) -> None:
    files = [folder / "index.json", folder / "prompts.jsonl", *(shard_path(folder, shard) for shard in range(3))]
    hashes = "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    assert CollectedSet(folder).fingerprint() == hashlib.sha256(hashes.encode()).hexdigest()
