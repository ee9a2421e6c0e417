"""Lost constraints at PostgreSQL; what holds at every server is in test_target_servers.py."""

from __future__ import annotations

import pytest

from tests.integration.servers import A, Postgres, counts, pg, warehouse

__all__ = ["pg", "warehouse"]


@pytest.mark.parametrize(
    "foreign",
    [
        "ALTER TABLE a DROP CONSTRAINT a_pkey; INSERT INTO a VALUES (4, 'theirs')",
        """ALTER TABLE a DROP CONSTRAINT a_pkey; ALTER TABLE a ALTER id DROP NOT NULL;
            INSERT INTO a VALUES (NULL, 'theirs')""",
    ],
)
def test_rows_that_a_lost_constraint_let_in_are_mended(pg: Postgres, foreign: str) -> None:
    pg.publish(A)
    pg.query(foreign)
    assert pg.publish(A)["a"].reconciled
    assert pg.query("SELECT id, v FROM a ORDER BY id") == pg.mart()
    assert counts(pg.publish(A)["a"]) == ("unchanged", 0, 0, 0, 10, True)
