"""A replay of the APIs of Bluesky, Yahoo Finance and a shop, for trials, tests and benchmarks."""

from etl.demo.faults import Fault, parse_fault
from etl.demo.graph import ACTORS
from etl.demo.replay import Replay, Request

__all__ = ["ACTORS", "Fault", "Replay", "Request", "parse_fault"]
