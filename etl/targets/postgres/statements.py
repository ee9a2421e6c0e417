"""The statements of a change, as PostgreSQL writes them."""

from __future__ import annotations

from etl.targets.postgres.columns import Column
from etl.targets.server import applying


class Statements(applying.Statements[Column]):
    """PostgreSQL compares rows as wholes, NULL included, and updates from a second table."""

    def value(self, column: Column) -> str:
        """The staged value, jsonb made of its text."""
        return column.unstaged

    def same(self, column: Column, other: str) -> str:
        """Plain equality: keys are never NULL."""
        return f"t.{column.sql} = {other}.{column.sql}"

    def theirs(self, column: Column) -> tuple[str, ...]:
        """The value itself, a text by its characters."""
        return _exact(f"t.{column.sql}", column)

    def ours(self, column: Column) -> tuple[str, ...]:
        """The staged value in its final type."""
        return _exact(column.unstaged, column)

    @property
    def differs(self) -> str:
        """Compared as the types of both ask for."""
        return self.differs_in(*self.staged.columns)

    def differs_in(self, *columns: Column) -> str:
        """SQL: `s` and `t` differ in one of these columns."""
        theirs = ", ".join(part for c in columns for part in self.theirs(c))
        ours = ", ".join(part for c in columns for part in self.ours(c))
        return f"ROW({theirs}) IS DISTINCT FROM ROW({ours})"

    @property
    def delete_from(self) -> str:
        """The table under its alias."""
        return f"DELETE FROM {self.table} AS t"

    def update(self, where: str = "1 = 1") -> str | None:
        """Only rows that differ: a version of a row that stays the same is not written."""
        if not self.key or not self.assignments:
            return None
        return (
            f"UPDATE {self.table} AS t SET {', '.join(self.assignments)} "
            f"FROM {self.staged.sql} AS s WHERE {where} AND {self.same_key()} AND {self.differs}"
        )


def _exact(value: str, column: Column) -> tuple[str, ...]:
    """A collation, or citext, may take texts for equal that differ in case.

    char(n) fills them with blanks, which leave it when it becomes text.
    """
    if column.type == "text":
        return f'{value}::text COLLATE "C"', f"octet_length({value})"
    return (value,)
