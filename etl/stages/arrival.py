"""Count in raw what an extraction brought, and hold the source to it until the numbers agree."""

from __future__ import annotations

from etl.errors import ReconciliationError
from etl.raw.counts import RootTable, root_tables
from etl.raw.pipeline import Raw
from etl.records import Reconciliation
from etl.runs import Run


def count_arrival(run: Run, raw: Raw) -> None:
    """Compare the rows, or the keys of what is merged, that came from the API with those in raw.

    Rows that a contract refused are taken off. What does not agree stays noted: each later run
    counts it again before it extracts, however the process that extracted it ended.

    Raises:
        ReconciliationError: names table, load package and both numbers.
    """
    arrival = raw.packages.accepted
    if arrival is None:
        return

    def compare(stored: RootTable, expected: int, what: str, found: int, refused: int = 0) -> None:
        result = Reconciliation(
            between="api-raw",
            subject=str(stored),
            load_id=",".join(arrival.load_ids),
            expected=expected,
            found=found,
            discarded=refused,
        )
        run.reconciliations.append(result)
        if not result.agrees:
            less = f" besides {refused} that the schema contract discards" if refused else ""
            raise ReconciliationError(
                f"{stored}: {expected} {what}{less}, {found} stand in raw "
                f"(load package {result.load_id})",
                subject=raw.source,
                hint="nothing of this source is transformed until they agree: compare the load "
                "package in data/dlt with the table, or read everything again by "
                f"`etl run --full-refresh --source {raw.source}`",
            )

    tables = root_tables(raw, arrival.tables)
    for name, came in sorted(arrival.tables.items()):
        stored = tables[name]
        if arrival.discarded is None and stored.may_discard_rows:
            run.warn(
                f"{stored} was not counted: how many rows the schema contract discarded of load "
                f"package {','.join(arrival.load_ids)} died with the run that normalised it",
                table=str(stored),
            )
            continue
        refused = sum(d.rows for d in arrival.discarded or () if d.table == stored.name)
        if stored.keeps_rows:
            there = stored.count_rows(arrival.load_ids)
            compare(stored, came.rows - refused, "rows came from the API", there, refused)
        elif (
            came.kept is not None
            and not refused  # of which keys they were nobody knows
            and {stored.column(c) for c in came.columns} == stored.merged_by
        ):
            there = stored.count_rows(arrival.load_ids)
            compare(stored, came.kept, "keys came from the API", there)
            if came.deleted:
                left = stored.count_keys(came.columns, came.deleted)
                compare(stored, 0, "of the keys to delete may remain", left)
    raw.packages.forget_accepted()
