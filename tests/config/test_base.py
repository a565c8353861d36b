"""A configuration starts from another one: `base: other.yaml`, for every kind of configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from vhs.config.run import RunConfig, load_config
from vhs.config.yamlfile import load
from vhs.errors import ConfigError


class Fruit(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    colors: list[str] = []
    count: int = 1


@pytest.fixture
def files(tmp_path: Path):
    """`files({"a.yaml": text, ...})` writes them and returns the folder."""

    def write(texts: dict[str, str]) -> Path:
        for name, text in texts.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return write


def fails(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load(Fruit, path, overrides)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_own_keys_replace_those_of_the_base_and_overrides_replace_both(files) -> None:
    folder = files(
        {
            "shared/apple.yaml": "name: apple\ncolors: [red, green]\ncount: 2\n",
            "shared/pear.yaml": "base: apple.yaml\nname: pear\n",
            "mine.yaml": "base: shared/pear.yaml\ncolors: [brown]\n",
        }
    )
    assert load(Fruit, folder / "mine.yaml") == Fruit(name="pear", colors=["brown"], count=2)
    assert load(Fruit, folder / "mine.yaml", ["count=5", "name=quince"]) == Fruit(
        name="quince", colors=["brown"], count=5
    )


def test_a_run_configuration_has_a_base_too(files) -> None:
    folder = files({"a.yaml": "ckpt: there\nlatent_verifier_path: v\nseed: 4\n", "b.yaml": "base: a.yaml\nfmt: jpg\n"})
    config = load_config(folder / "b.yaml", ["num_samples=2"])
    assert isinstance(config, RunConfig) and (config.seed, config.fmt, config.num_samples) == (4, "jpg", 2)


def test_a_mistake_is_named_where_the_key_stands(files) -> None:
    folder = files({"a.yaml": "name: apple\ncount: many\n", "b.yaml": "base: a.yaml\ncolor: red\n"})
    assert fails(folder / "b.yaml").startswith(f"{folder}/a.yaml:2: count: 'many' is of the wrong type")
    assert fails(folder / "b.yaml", "count=1") == f"{folder}/b.yaml:2: color: unknown key; did you mean colors?"
    assert fails(folder / "b.yaml", "count=none").startswith("command line: count: 'none' is of the wrong type")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: none.yaml\n", "mine.yaml:1: base: 'none.yaml' is no file; a path beside mine.yaml is needed"),
        ("name: a\nbase: 3\n", "mine.yaml:2: base: 3 is not a path; a YAML file to start from is needed"),
        ("base:\n", "mine.yaml:1: base: None is not a path; a YAML file to start from is needed"),
        (
            "base: a.yaml\n",
            "a.yaml:1: base: 'mine.yaml' comes back to itself (mine.yaml -> a.yaml -> mine.yaml); remove one of these",
        ),
    ],
)
def test_a_base_that_cannot_be_followed_is_one_line(files, text: str, message: str) -> None:
    folder = files({"mine.yaml": text, "a.yaml": "base: mine.yaml\n"})
    assert fails(folder / "mine.yaml") == f"{folder}/{message}"
