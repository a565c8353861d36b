"""Ways to damage a file, each drawn by a random generator; each says what it did."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 10**9, 10**30, -(10**9), 0.5, 1e308, float("nan"), float("inf"), "", "x", "\ud800",
    "mlp999999999x_gelu", "mlp2x_gelu_attn_layers_99999_heads_4", "hidden_99", "../..", "0" * 5000, [], {}, [[]],
    [0], [None], {"a": 1}, [1] * 1000,
)  # fmt: skip
CLASSES = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoProcessor", "AutoImageProcessor")
AUTO_MAP = {**dict.fromkeys(CLASSES, "planted.Planted"), "AutoTokenizer": ["planted.Planted", "planted.Planted"]}
MARK = "code-has-run"
"""A folder that planted code makes in the working folder."""
Change = Callable[[Path, random.Random], str]


class Bomb:
    """Unpickling it makes the folder that it is given."""

    def __init__(self, mark: Path | str) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.mark,)


def damage(here: Path, patterns: Sequence[str], rng: random.Random) -> str:
    """Damages one of the files that the patterns name, each pattern as often; says which and how."""
    found = [sorted(file for file in here.glob(pattern) if file.is_file()) for pattern in patterns]
    assert all(found), dict(zip(patterns, found, strict=True))
    files = rng.choice(found)
    file = rng.choice(files)
    _own(file)
    ways = _ways(file)
    change = rng.choices([way for way, _ in ways], [weight for _, weight in ways])[0]
    if change is exchange:
        return f"{file.relative_to(here)}: {exchange(file, rng.choice(files))}"
    return f"{file.relative_to(here)}: {change(file, rng)}"


def _own(file: Path) -> None:
    """The file shares no content with another name of it any more."""
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(data)


def _ways(file: Path) -> list[tuple[Callable[..., str], int]]:
    own: dict[str, list[tuple[Change, int]]] = {
        ".json": [(change_json, 12), (change_text, 3), (plant_code, 1)],
        ".jsonl": [(change_line, 12), (change_text, 4)],
        ".yaml": [(change_yaml, 12), (change_text, 4)],
        ".csv": [(change_table, 10), (change_text, 5)],
        ".png": [(change_picture, 8), (change_bytes, 4)],
        ".txt": [(change_text, 4)],
        ".safetensors": [(change_bytes, 12), (plant_code, 1)],
        ".pt": [(change_bytes, 12), (plant_code, 3)],
        ".bin": [(change_bytes, 12), (plant_code, 3)],
        ".pkl": [(change_bytes, 12), (plant_code, 3)],
    }
    if file.name == "prompts.json":
        return [(change_prompts, 6), (change_json, 8), (change_text, 3), (change_place, 1)]
    return [*own.get(file.suffix, [(change_bytes, 4)]), (change_place, 1), (exchange, 1)]


def change_json(file: Path, rng: random.Random) -> str:
    """One value, at any depth, becomes another; or a key is renamed or lost."""
    value = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(value, (dict, list)) or not value:
        return change_text(file, rng)
    inner, path = value, []
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = rng.choice(keys)
        path.append(str(key))
        deeper = isinstance(inner[key], (dict, list)) and len(inner[key])
        if not deeper or rng.random() < 0.2:
            break
        inner = inner[key]
    action = rng.choice(("set", "set", "set", "lose", "rename"))
    if action == "set":
        inner[key] = rng.choice(VALUES)
    elif action == "rename" and isinstance(inner, dict):
        inner[f"{key}x"] = inner.pop(key)
    else:
        del inner[key]
    file.write_text(json.dumps(value))
    return f"{action} {'.'.join(path)}" + (f" = {str(inner[key])[:40]!r}" if action == "set" else "")


def change_text(file: Path, rng: random.Random) -> str:
    """A text that is nested, empty, binary, cut, or has a character in a wrong place."""
    text = file.read_bytes()
    place = rng.randrange(1, max(2, len(text)))
    name, data = rng.choice(
        [
            ("nested", b"[" * 100_000),
            ("nested objects", b'{"a":' * 100_000),
            ("empty", b""),
            ("null", b"null"),
            ("a list", b"[]"),
            ("a text", b'"x"'),
            ("zeros", b"\0" * 1000),
            ("not UTF-8", b"\xff\xfe" + text),
            (f"cut at {place}", text[:place]),
            (f"twice from {place}", text[:place] + text),
            (f"a brace at {place}", text[:place] + b"}" + text[place:]),
            (f"lost {place}", text[:place] + text[place + 1 :]),
            (f"Latin 1 at {place}", text[:place] + b"\xe9" + text[place:]),
            (f"a line's end at {place}", text[:place] + b"\r\n" + text[place:]),
        ]
    )
    file.write_bytes(data)
    return name


def change_line(file: Path, rng: random.Random) -> str:
    """One line of a file of JSON objects is changed as `change_json` does, said twice, or lost."""
    lines = file.read_text(encoding="utf-8").splitlines()
    number = rng.randrange(len(lines))
    if rng.random() < 0.2:
        file.write_text("\n".join([*lines, lines[number]]))
        return f"line {number + 1} twice"
    if rng.random() < 0.1:
        file.write_text("\n".join(lines[:number] + lines[number + 1 :]))
        return f"line {number + 1} lost"
    single = file.with_name("line.json")
    single.write_text(lines[number])
    what = change_json(single, rng)
    lines[number] = single.read_bytes().decode(errors="surrogateescape")
    single.unlink()
    file.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    return f"line {number + 1}: {what}"


def change_bytes(file: Path, rng: random.Random) -> str:
    """A weight file that is cut, has a flipped bit, or a header with another number or word in it."""
    data = bytearray(file.read_bytes())
    length = int.from_bytes(data[:8], "little") if file.suffix == ".safetensors" else min(len(data), 600)
    action = rng.choice(("cut", "flip", "flip in the header", "flip in the header", "header", "length", "grow"))
    if action == "cut":
        data = data[: rng.randrange(max(1, len(data)))]
    elif action == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif action == "flip in the header":
        data[rng.randrange(min(8 + length, len(data)))] ^= 1 << rng.randrange(8)
    elif action == "header":
        old, new = rng.choice(
            ((b"BF16", b"I64 "), (b"F32", b"I32"), (b"F32", b"BOO"), (b"[", b"{"), (b'"shape"', b'"sha"'))
        )
        data = bytearray(bytes(data).replace(old, new, 1))
    elif action == "length":
        data[:8] = rng.choice((0, 2**34, 2**63, length + 1, 1)).to_bytes(8, "little")
    else:
        data += b"\0" * rng.randrange(1, 100)
    file.write_bytes(data)
    return action


def change_prompts(file: Path, rng: random.Random) -> str:
    """A prompt file with another content, well formed or not, in a format that its content says."""
    ending, text = rng.choice(
        [
            (".csv", 'prompt\n"a'),
            (".csv", "prompt,prompt\na,b\n"),
            (".csv", "id\n1\n"),
            (".csv", "prompt\n" + "x" * 200_000),
            (".tsv", "prompt\ta\nb\n"),
            (".txt", "a cat <|im_end|>"),
            (".txt", "a <image> cat"),
            (".txt", "word " * 40_000),
            (".txt", "\x1b[2J"),
            (".jsonl", '{"prompt": "\\ud800"}'),
            (".jsonl", '{"prompt": "a", "prompt": "b"}'),
            (".jsonl", '{"prompt": ["a"]}'),
            (".jsonl", '{"prompt": "a", "tag": ["colors"], "include": [1]}'),
            (".jsonl", '{"prompt": "a", "tag": {}, "include": {"class": "star"}}'),
            (".jsonl", '{"prompt": "a", "tag": "colors", "include": [{"class": [], "count": 1}]}'),
            (".jsonl", '{"prompt": "a", "tag": "colors", "include": [{"class": "star", "count": 1e400}]}'),
            (".jsonl", '{"prompt": "a", "id": {"a": []}}'),
            (".jsonl", "9" * 5000),
            (".json", '["a", ' + "[" * 100_000),
        ]
    )
    file.unlink()
    other = file.with_suffix(ending)
    other.write_text(text)
    if other != file:  # the configurations name this one
        for config in file.parent.glob("*.yaml"):
            values = config.read_text()
            _own(config)
            config.write_text(values.replace('"prompts.json"', f'"{other.name}"'))
    return f"{ending} {text[:50]!r}"


def change_yaml(file: Path, rng: random.Random) -> str:
    """A key of the configuration, or one inside it, has another value."""
    if rng.random() < 0.4:
        return change_json(file, rng)
    values = json.loads(file.read_text())
    key = rng.choice(sorted(values))
    values[key] = rng.choice(VALUES)
    file.write_text(json.dumps(values))  # YAML too
    return f"{key} = {str(values[key])[:40]!r}"


def change_table(file: Path, rng: random.Random) -> str:
    """A cell of a table, or its header, is another."""
    lines = [line.split(",") for line in file.read_text().splitlines()]
    row = rng.randrange(len(lines))
    cell = rng.randrange(len(lines[row]))
    value = rng.choice(("", "x", "nan", "-1", "../..", "..", "/", '"', "0" * 5000, "\0", "a\rb", "x,y", "é", "\\", "~"))
    lines[row][cell] = value
    file.write_text("\n".join(map(",".join, lines)))
    return f"row {row + 1} cell {cell + 1} = {value[:40]!r}"


def change_picture(file: Path, rng: random.Random) -> str:
    """A picture of another size, mode or kind, or one that says that it is huge."""
    import numpy as np
    from PIL import Image

    action = rng.choice(("huge", "one pixel", "grey", "palette", "RGBA", "16 bit", "JPEG", "a text", "empty"))
    picture = Image.open(file).convert("RGB")
    if action == "huge":
        data = bytearray(file.read_bytes())
        data[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
        file.write_bytes(data)
    elif action in ("a text", "empty"):
        file.write_bytes(b"not a picture"[: 20 * (action == "a text")])
    elif action == "one pixel":
        picture.resize((1, 1)).save(file)
    elif action == "16 bit":
        Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(file)
    elif action == "JPEG":
        picture.save(file, format="JPEG")
    else:
        picture.convert({"grey": "L", "palette": "P", "RGBA": "RGBA"}[action]).save(file, format="PNG")
    return action


def change_place(file: Path, rng: random.Random) -> str:
    """The file is not there, or there is something else in its place."""
    action = rng.choice(("missing", "a folder", "a link to nothing", "a link to itself"))
    file.unlink()
    if action == "a folder":
        file.mkdir()
    elif action != "missing":
        file.symlink_to(file.name if "itself" in action else "nothing")
    return action


def exchange(file: Path, other: Path) -> str:
    """The content of another file of its kind."""
    if other != file:
        shutil.copyfile(other, file)
    return f"is {other.name}"


def plant_code(file: Path, rng: random.Random) -> str:
    """A pickle instead of the file, or beside the weights; or a configuration that names Python beside it."""
    bomb = pickle.dumps({"state_dict": Bomb(MARK)})
    if file.suffix == ".json":
        python = f"import os\nos.mkdir({MARK!r})\nclass Planted: pass\n"
        (file.parent / "planted.py").write_text(python)
        values = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(values, dict):
            file.write_text(json.dumps({**values, "auto_map": AUTO_MAP, "custom_pipeline": "planted"}))
        return "names Python"
    if file.suffix == ".safetensors" and rng.random() < 0.5:
        file.unlink()
        names = {"model.safetensors": "pytorch_model.bin"}
        file = file.with_name(names.get(file.name, f"{file.stem}.bin"))
        file.write_bytes(bomb)
        return f"is a pickle, {file.name}"
    file.write_bytes(bomb)
    return "is a pickle"
