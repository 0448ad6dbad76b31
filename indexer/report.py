"""What a job tells afterwards: counts, an exit code, and `errors.csv` with a line for every row that did not go in.

`errors.csv` (UTF-8) has the columns row, id, reason, code. Cells that a spreadsheet would run as a formula begin with an
apostrophe. `report.json` beside it is written last: where it is missing, the job was killed.
"""

import csv
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

import orjson

from engine.errors import InvalidCatalogue, SemblanceError
from indexer.shard import RowError, ShardReport

CODES: Mapping[str, str] = {
    "quoting": "A quote opens and does not close where it should (CSV).",
    "columns": "The row has more or fewer cells than the header (CSV).",
    "encoding": "The row is not in the file's text encoding.",
    "json": "The line is not a JSON object (JSONL).",
    "too_long": "The line is longer than 8 MB.",
    "type": "A value is of a type that its field cannot hold.",
    "invalid": "A value breaks a limit: too long, or a character that cannot be stored.",
    "id_missing": "The row has no id.",
    "id_duplicate": "An earlier row has the same id; the earlier one counts.",
    "id_collision": "The id cannot be told apart from another stored one; change one of them.",
    "nothing_to_search": "The row has neither a title nor a picture.",
    "image_missing": "The picture file is not there or may not be read.",
    "image_empty": "The picture has no bytes or no pixels.",
    "image_not_an_image": "The file is not a picture.",
    "image_truncated": "The picture is damaged or incomplete.",
    "image_too_many_pixels": "The picture has more pixels than `SEMBLANCE_MAX_MEGAPIXELS`.",
    "image_too_large": "The picture's file is larger than `SEMBLANCE_MAX_IMAGE_MB`.",
    "image_unsupported": "The picture is of a kind that cannot be read.",
    "image_synthetic": "The picture was drawn by a model: it shows no product.",
    "image_explicit": "The picture is explicit, and `SEMBLANCE_MODERATION` covers catalogues.",
    "fetch": "The picture's URL is not allowed, did not answer, or answered with an error.",
    "encoder": "The model could not encode the row.",
    "unexpected": "Something went wrong that was not foreseen; the log has the details.",
    "picture_left_out": "Remark: the product went in without this picture, because others of the row are good.",
    "amount_expected": "Remark: a price is not a number; the product went in, but filters on that price do not find it.",
    "attribute_left_out": "Remark: a column holds values that nothing can filter by; it was left out.",
}
HEADER = ("row", "id", "reason", "code")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@dataclass(slots=True)
class JobReport:
    """What became of a catalogue: `read` is always the sum of `created`, `updated`, `unchanged` and `refused`.

    `errors` is the path of errors.csv, None when every row went in whole; `notes` are sentences for the user.
    """

    collection: str
    catalogue: Path
    folder: Path
    read: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    remarks: int = 0
    pruned: int = 0
    seconds: float = 0.0
    status: Literal["running", "done", "failed", "stopped"] = "running"
    errors: Path | None = None
    codes: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 when every row is in, 3 when some were refused, 1 when the job did not reach its end."""
        if self.status != "done":
            return 1
        return 3 if self.refused else 0

    def as_dict(self) -> dict[str, object]:
        """Return everything as plain values."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    def take(self, counts: ShardReport) -> None:
        """Take over the counts."""
        for name, count in counts.as_dict().items():
            setattr(self, name, count)
        self.codes = dict(counts.codes)


class JobFailed(SemblanceError):
    """The job stopped before its end. What was committed stays; `report` says how far it came."""

    def __init__(self, message: str, report: JobReport) -> None:
        super().__init__(message)
        self.report = report


class JobLog:
    """Writes the folder of one job. Use it as a context manager; lines are on disk when it is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path: Path | None = None
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, error: RowError) -> None:
        """Write one line of errors.csv."""
        if self._file is None:
            self.path = self.folder / "errors.csv"
            self._file = self.path.open("w", newline="", encoding="utf-8", buffering=1)
            csv.writer(self._file).writerow(HEADER)
        cells = (error.row, safe_cell(error.id or ""), safe_cell(error.reason), error.code)
        csv.writer(self._file).writerow(cells)

    def finish(self, report: JobReport) -> None:
        """Write report.json, whole or not at all."""
        partial = self.folder / ".report.json.part"
        partial.write_bytes(orjson.dumps(report.as_dict(), option=orjson.OPT_INDENT_2))
        os.replace(partial, self.folder / "report.json")


def job_folder(data: Path, collection: str) -> Path:
    """Make a new folder for a job: `<data>/_jobs/<collection>-<UTC time>`. No collection can have that name."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for attempt in range(1000):
        folder = data / "_jobs" / f"{collection}-{stamp}{f'-{attempt}' if attempt else ''}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{data / 'jobs'} has a thousand jobs of this second: try again")


def safe_cell(text: str) -> str:
    """Make a cell that no spreadsheet runs: one line, an apostrophe before anything like a formula."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split(" ")) if not text.isprintable() else text
    line = line.encode("utf-8", "replace").decode()
    return f"'{line}" if _like_a_formula(line) else line


def _like_a_formula(line: str) -> bool:
    """Say whether a spreadsheet may run a cell; one that only looks guarded counts too, so that guards can be told from text."""
    return line.lstrip().lstrip("'").lstrip().startswith(_FORMULA)


class Retry:
    """The rows an earlier job refused, read from its errors.csv."""

    def __init__(self, errors: Path) -> None:
        path = errors / "errors.csv" if errors.is_dir() else errors
        self._ids: set[str] = set()
        self._rows: set[int] = set()
        try:
            with path.open(newline="", encoding="utf-8") as file:
                for line in _lines(file, path):
                    self._take(line)
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidCatalogue(f"{path} cannot be read ({error}): name the errors.csv of an earlier job") from None

    def wants(self, row: int, id: str | None) -> bool:
        """Say whether a row is one of them: by id where it was known, else by number."""
        return (id is not None and id in self._ids) or row in self._rows

    def _take(self, line: Mapping[str, str]) -> None:
        if line["id"]:
            self._ids.add(line["id"][1:] if line["id"].startswith("'") and _like_a_formula(line["id"]) else line["id"])
        elif line["row"].isdigit():
            self._rows.add(int(line["row"]))


def _lines(file: IO[str], path: Path) -> Iterator[Mapping[str, str]]:
    lines = csv.DictReader(file)
    if tuple(lines.fieldnames or ()) != HEADER:
        raise InvalidCatalogue(f"{path} is no errors.csv of a job: its columns must be {', '.join(HEADER)}")
    yield from lines
