"""SQL Server as a target: arrays of parameters into staging tables, versions by `rowversion`."""

from __future__ import annotations

from etl.targets.mssql.columns import map_columns
from etl.targets.mssql.server import connected
from etl.targets.mssql.session import MssqlSession
from etl.targets.server import PublishTo
from etl.targets.server.session import Server

publish = PublishTo(Server(connected, MssqlSession, map_columns))
