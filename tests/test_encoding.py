"""Text files are UTF-8 whatever the locale: every call that opens one says so."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
OPENS = {"read_text", "write_text", "open", "fdopen", "NamedTemporaryFile"}
BINARY = {"Image.open", "os.open"}


def text_without_encoding(source: str) -> list[str]:
    """Calls that open a file as text and leave the encoding to the locale."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        strings = [part.value for part in call.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        binary = name in BINARY or any(set(mode) <= set("rwabx+") and "b" in mode for mode in strings)
        if name.rpartition(".")[2] in OPENS and not binary and all(key.arg != "encoding" for key in call.keywords):
            found.append(ast.unparse(call))
    return found


def test_no_file_is_opened_in_the_encoding_of_the_locale() -> None:
    files = list((ROOT / "vhs").rglob("*.py"))
    assert not {file: calls for file in files if (calls := text_without_encoding(file.read_text(encoding="utf-8")))}


def test_the_check_sees_a_missing_encoding() -> None:
    source = (
        "open(a); open(a, 'rb'); Path(a).read_text(); p.write_text(t, encoding='utf-8'); p.open('a'); Image.open(a)"
    )
    assert text_without_encoding(source) == ["open(a)", "Path(a).read_text()", "p.open('a')"]
