"""The statements of a change, as SQL Server writes them.

Its equality of texts follows a collation: upper and lower case, or blanks at the end, may be the
same to it. What a mart has is told apart by its bytes and their number.
"""

from __future__ import annotations

from etl.targets.mssql.columns import Column
from etl.targets.server import applying


class Statements(applying.Statements[Column]):
    """Every change takes the whole table, so that who reads it sees one state."""

    def same(self, column: Column, other: str) -> str:
        """Equal under the table's collation, which its index knows; then exactly equal."""
        theirs, ours = f"t.{column.sql}", f"{other}.{column.sql}"
        if not (column.is_text or column.is_binary):
            return super().same(column, other)
        collated = f"{ours} COLLATE DATABASE_DEFAULT" if column.is_text else ours
        exact = zip(self.exact(theirs, column), self.exact(ours, column), strict=True)
        return " AND ".join([f"{theirs} = {collated}", *(f"{a} = {b}" for a, b in exact)])

    def exact(self, value: str, column: Column) -> tuple[str, ...]:
        """A text by its bytes and their number."""
        if not (column.is_text or column.is_binary):
            return (value,)
        sized = f"CAST({value} AS nvarchar(max))" if column.is_text else value
        return f"DATALENGTH({sized})", f"CAST({sized} AS varbinary(max))"

    def distinct(self, theirs: str, ours: str) -> str:
        """EXCEPT takes NULL for a value."""
        return f"EXISTS (SELECT {theirs} EXCEPT SELECT {ours})"

    @property
    def delete_from(self) -> str:
        """The table under its alias."""
        return f"DELETE t FROM {self.table} AS t WITH (TABLOCKX)"

    @property
    def insert_into(self) -> str:
        """The table as a whole."""
        return f"INSERT INTO {self.table} WITH (TABLOCKX)"

    def assign(self, assignments: str, where: str) -> str:
        """Any update gives a row another version."""
        return (
            f"UPDATE t SET {assignments} FROM {self.table} AS t WITH (TABLOCKX) "
            f"JOIN {self.staged.sql} AS s ON {self.same_key()} "
            f"WHERE {where} AND {self.differs(self.staged.columns)}"
        )
