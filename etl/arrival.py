"""What an extraction brought, kept on disk until raw was seen to hold it."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from etl.errors import ReconciliationError
from etl.records import Discarded, Record
from etl.runs import write_atomically
from etl.settings import Settings

FILE = "accepted.json"


class TableArrival(Record):
    """What one table is to get: `rows`, and of a merged one the keys that are to stand there.

    `kept` is how many keys, None when that could not be told; `deleted` the keys, each value as
    text, that may not stand there any more; `columns` are the keys' columns.
    """

    rows: int
    columns: tuple[str, ...] = ()
    kept: int | None = None
    deleted: tuple[tuple[str, ...], ...] = ()


class Arrival(Record):
    """The load packages of one extraction that the guards accepted, and what is in them.

    `discarded` is what a schema contract left out of them so far, None when the process that
    normalised them died before it could say so.
    """

    load_ids: tuple[str, ...]
    tables: dict[str, TableArrival]
    discarded: tuple[Discarded, ...] | None = ()
    is_normalized: bool = False

    def write(self, folder: Path) -> None:
        """Keep it in a source's folder, in place of an earlier one."""
        write_atomically(folder / FILE, self.model_dump_json())


def read_arrival(folder: Path) -> Arrival | None:
    """The extraction that raw was not yet seen to hold; None when there is none.

    Raises:
        ReconciliationError: the file is not one that `Arrival.write` wrote.
    """
    path = folder / FILE
    try:
        # A later version, which was rolled back, may have added fields.
        return Arrival.model_validate_json(path.read_text(encoding="utf-8"), extra="ignore")
    except FileNotFoundError:
        return None
    except (ValidationError, OSError, UnicodeError) as e:
        raise ReconciliationError(
            f"{path}: cannot be read, so nobody knows what raw should hold of {folder.name}",
            subject=folder.name,
            hint="compare raw with the API, or read it whole by `etl run --full-refresh --source "
            f"{folder.name}`, after you have deleted the file",
        ) from e


def forget_arrival(folder: Path) -> None:
    """Raw holds it."""
    (folder / FILE).unlink(missing_ok=True)


def uncounted(settings: Settings, source: str) -> list[str]:
    """Load packages that were committed, but raw was not seen to hold all that they brought."""
    folder = settings.dlt_dir / source
    arrival = read_arrival(folder)
    loaded = folder / "load" / "loaded"
    return [i for i in arrival.load_ids if (loaded / i).is_dir()] if arrival else []
