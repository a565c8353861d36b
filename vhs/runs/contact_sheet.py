"""One row a prompt: every candidate with its score, the winner framed, GenEval's verdict and reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from vhs.files import write_bytes
from vhs.pictures import encode
from vhs.records import Prompt
from vhs.runs.folder import RunFolder

if TYPE_CHECKING:
    from vhs.runs.tables import Run

TILE, GAP, CAPTION, LABEL = 96, 8, 16, 320
ROW = TILE + CAPTION + GAP
ROWS_A_PAGE = 60
INK, FAINT, RIGHT, WRONG, FRAME, EMPTY = "#202020", "#808080", "#1a7f37", "#c62828", "#f2a100", "#eeeeee"


def save_contact_sheets(folder: RunFolder, run: Run) -> list[str]:
    """Writes contact_sheet.png, and contact_sheet_2.png ... where a run has more than 60 prompts; returns the names."""
    names = []
    for page, start in enumerate(range(0, len(run.prompts), ROWS_A_PAGE), start=1):
        names.append("contact_sheet.png" if page == 1 else f"contact_sheet_{page}.png")
        sheet = draw_sheet(folder, run, run.prompts[start : start + ROWS_A_PAGE])
        write_bytes(folder.root / names[-1], encode(sheet, "png"))
    return names


def draw_sheet(folder: RunFolder, run: Run, prompts: list[Prompt]) -> Image.Image:
    """The sheet of some prompts, RGB."""
    width = LABEL + run.num_samples * (TILE + GAP) + GAP
    sheet = Image.new("RGB", (width, len(prompts) * ROW + GAP), "white")
    canvas = ImageDraw.Draw(sheet)
    for number, prompt in enumerate(prompts):
        top = GAP + number * ROW
        rows, winner = run.rows[prompt.id], run.winners[prompt.id]
        _draw_label(canvas, prompt, rows[winner], top)
        for index, row in enumerate(rows):
            left = LABEL + index * (TILE + GAP)
            _draw_tile(sheet, canvas, folder.picture(prompt.id, index), (left, top))
            _draw_caption(canvas, row, (left, top + TILE + 1))
            if index == winner:
                canvas.rectangle((left - 3, top - 3, left + TILE + 2, top + TILE + 2), outline=FRAME, width=3)
    return sheet


def _draw_label(canvas: ImageDraw.ImageDraw, prompt: Prompt, winner: Mapping[str, Any], top: int) -> None:
    """Prompt, tag, and the verdict on the winner with its reason."""
    lines = [(line, INK) for line in _wrapped(canvas, f"{prompt.id}: {prompt.text}", 14, 3)]
    if "correct" in winner:
        lines.append(
            (f"{winner['tag']}: {'correct' if winner['correct'] else 'wrong'}", RIGHT if winner["correct"] else WRONG)
        )
        reason = "; ".join(winner["reason"].split("\n"))
        lines += [(line, FAINT) for line in (_wrapped(canvas, reason, 12, 6 - len(lines)) if reason else [])]
    for number, (line, color) in enumerate(lines):
        canvas.text((GAP, top + number * 17), line, fill=color, font=_font(14 if color != FAINT else 12))


def _draw_tile(sheet: Image.Image, canvas: ImageDraw.ImageDraw, file: Path, place: tuple[int, int]) -> None:
    """The picture, or an empty square where none was decoded."""
    if not file.is_file():
        canvas.rectangle((*place, place[0] + TILE - 1, place[1] + TILE - 1), fill=EMPTY)
        return
    with Image.open(file) as picture:
        picture = picture.convert("RGB")
    scale = TILE / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    sheet.paste(
        picture.resize(size, Image.Resampling.LANCZOS),
        (place[0] + (TILE - size[0]) // 2, place[1] + (TILE - size[1]) // 2),
    )


def _draw_caption(canvas: ImageDraw.ImageDraw, row: Mapping[str, Any], place: tuple[int, int]) -> None:
    """Score in black; green or red with the verdict where there is one."""
    score = "" if row["score"] is None else f"{row['score']:+.3f}"
    verdict = "" if "correct" not in row else " correct" if row["correct"] else " wrong"
    color = INK if not verdict else RIGHT if row["correct"] else WRONG
    canvas.text(place, score + verdict, fill=color, font=_font(12))


def _wrapped(canvas: ImageDraw.ImageDraw, text: str, size: int, most: int) -> list[str]:
    """`text` in lines that fit the label, at most `most` of them."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if canvas.textlength(longer, font=_font(size)) <= LABEL - 3 * GAP:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1] + " ..."]
    return lines


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
