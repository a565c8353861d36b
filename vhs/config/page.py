"""`docs/configuration.md` from the keys themselves.

    python -m vhs.config.page            # is the page stale? exit code 1 where it is
    python -m vhs.config.page --write    # make its tables again

The page's prose is its own; between `<!-- keys: X -->` and `<!-- end -->` stands the table of the class X.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from vhs.config import run
from vhs.config.keys import Keys
from vhs.paths import PROJECT

PAGE = PROJECT / "docs" / "configuration.md"
PLACES = {"file": "path", "folder": "path", "hub": "path or Hub id"}
_FREE = re.compile(r"(<!-- free -->).*?(<!-- end -->)", re.DOTALL)
_TABLE = re.compile(r"(<!-- keys: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(keys: type[Keys]) -> str:
    """Markdown: a row per key that the class itself defines."""
    own = [name for name in keys.__annotations__ if name in keys.model_fields]
    rows = [_row(name, keys.model_fields[name]) for name in own]
    return "\n".join(["| key | unit | default | what it means |", "|---|---|---|---|", *rows]) + "\n"


def made(text: str) -> str:
    """The page with every table, and the list of keys that may differ in a continued run, made anew."""
    free = ", ".join(f"`{name}`" for name in sorted(run.RunConfig.keys_where(results=False)))
    text = _FREE.sub(lambda match: f"{match[1]}\n{free}.\n{match[2]}", text)
    return _TABLE.sub(lambda match: match[1] + table(getattr(run, match[2])) + match[3], text)


def _row(name: str, field: FieldInfo) -> str:
    extra: dict[str, Any] = field.json_schema_extra or {}
    meaning = " ".join((field.description or "").split())
    choices = _choices(field.annotation)
    if choices and not any(f"`{choice}`" in meaning for choice in choices):
        meaning = f"{', '.join(f'`{choice}`' for choice in choices)}: {meaning[0].lower()}{meaning[1:]}"
    unit = PLACES.get(extra.get("path"), "") or extra.get("unit", "")
    return f"| `{name}` | {unit} | {_default(field)} | {meaning} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    if value is None:
        return "absent"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _choices(annotation: Any) -> tuple[str, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def main(arguments: list[str]) -> int:
    text = PAGE.read_text(encoding="utf-8")
    if "--write" in arguments:
        Path(PAGE).write_text(made(text), encoding="utf-8")
    elif made(text) != text:
        print(f"{PAGE.name}: stale; make it again: python -m vhs.config.page --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
