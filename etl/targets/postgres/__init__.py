"""PostgreSQL as a target: COPY into staging tables, versions of rows by `xmin`."""

from __future__ import annotations

from etl.targets.postgres.columns import map_columns
from etl.targets.postgres.server import connected
from etl.targets.postgres.session import PostgresSession
from etl.targets.server import PublishTo
from etl.targets.server.session import Server

publish = PublishTo(Server(connected, PostgresSession, map_columns))
