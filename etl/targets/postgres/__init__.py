"""PostgreSQL as a target: COPY into staging tables, versions of rows by `xmin`."""

from __future__ import annotations

from etl.targets.postgres.columns import Column, map_columns
from etl.targets.postgres.server import Connection, connected
from etl.targets.server import PublishTo
from etl.targets.server.session import Server, Session


def _open_session(connection: Connection, target: str) -> Session[Column]:
    """Imported once there is a connection: its modules need the driver, an extra, and numpy."""
    from etl.targets.postgres.session import PostgresSession

    return PostgresSession(connection, target)


publish = PublishTo(Server(connected, _open_session, map_columns))
