"""The statements of a change, as PostgreSQL writes them."""

from __future__ import annotations

from etl.targets.postgres.columns import Column
from etl.targets.server import applying


class Statements(applying.Statements[Column]):
    """PostgreSQL compares rows as wholes, NULL included, and updates from a second table."""

    def value(self, column: Column) -> str:
        """The staged value, jsonb made of its text."""
        return column.unstaged

    def exact(self, value: str, column: Column) -> tuple[str, ...]:
        """A collation, or citext, may take texts for equal that differ in case.

        char(n) fills them with blanks, which leave it when it becomes text.
        """
        if column.type == "text":
            return f'{value}::text COLLATE "C"', f"octet_length({value})"
        return (value,)

    def distinct(self, theirs: str, ours: str) -> str:
        """Compared as the types of both ask for."""
        return f"ROW({theirs}) IS DISTINCT FROM ROW({ours})"

    @property
    def delete_from(self) -> str:
        """The table under its alias."""
        return f"DELETE FROM {self.table} AS t"

    def assign(self, assignments: str, where: str) -> str:
        """Both tables are joined by its WHERE."""
        return (
            f"UPDATE {self.table} AS t SET {assignments} FROM {self.staged.sql} AS s "
            f"WHERE {where} AND {self.same_key()} AND {self.differs(self.staged.columns)}"
        )
