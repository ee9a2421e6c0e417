"""The statements of a change, as SQL Server writes them.

Its equality of texts follows a collation: upper and lower case, or blanks at the end, may be the
same to it. What a mart has is told apart by its bytes and their number.
"""

from __future__ import annotations

from etl.targets.mssql.columns import Column
from etl.targets.server import applying


class Statements(applying.Statements[Column]):
    """Every change takes the whole table, so that who reads it sees one state."""

    def value(self, column: Column) -> str:
        """The staged value."""
        return f"s.{column.sql}"

    def same(self, column: Column, other: str) -> str:
        """Equal under the table's collation, which its index knows; then exactly equal."""
        theirs, ours = f"t.{column.sql}", f"{other}.{column.sql}"
        if not (column.is_text or column.is_binary):
            return f"{theirs} = {ours}"
        collated = f"{ours} COLLATE DATABASE_DEFAULT" if column.is_text else ours
        exact = zip(_exact(theirs, column), _exact(ours, column), strict=True)
        return " AND ".join([f"{theirs} = {collated}", *(f"{a} = {b}" for a, b in exact)])

    def theirs(self, column: Column) -> tuple[str, ...]:
        """A text by its bytes."""
        return _exact(f"t.{column.sql}", column)

    def ours(self, column: Column) -> tuple[str, ...]:
        """The same of the staged one."""
        return _exact(f"s.{column.sql}", column)

    @property
    def differs(self) -> str:
        """EXCEPT takes NULL for a value."""
        columns = self.staged.columns
        theirs = ", ".join(part for c in columns for part in self.theirs(c))
        ours = ", ".join(part for c in columns for part in self.ours(c))
        return f"EXISTS (SELECT {theirs} EXCEPT SELECT {ours})"

    @property
    def delete_from(self) -> str:
        """The table under its alias."""
        return f"DELETE t FROM {self.table} AS t WITH (TABLOCKX)"

    @property
    def insert_into(self) -> str:
        """The table as a whole."""
        return f"INSERT INTO {self.table} WITH (TABLOCKX)"

    def update(self, where: str = "1 = 1") -> str | None:
        """Only rows that differ: any update gives a row another version."""
        if not self.key or not self.assignments:
            return None
        return (
            f"UPDATE t SET {', '.join(self.assignments)} FROM {self.table} AS t WITH (TABLOCKX) "
            f"JOIN {self.staged.sql} AS s ON {self.same_key()} WHERE {where} AND {self.differs}"
        )


def _exact(value: str, column: Column) -> tuple[str, ...]:
    if column.is_text:
        text = f"CAST({value} AS nvarchar(max))"
        return f"DATALENGTH({text})", f"CAST({text} AS varbinary(max))"
    if column.is_binary:
        return f"DATALENGTH({value})", f"CAST({value} AS varbinary(max))"
    return (value,)
