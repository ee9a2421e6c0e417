"""A replay of the APIs of Bluesky, Yahoo Finance and a shop, for trials, tests and benchmarks."""

from etl.demo.faults import Fault, parse_fault
from etl.demo.graph import ACTORS, Difference, Graph, difference, differences, graph
from etl.demo.replay import Replay, Request

__all__ = [
    "ACTORS",
    "Difference",
    "Fault",
    "Graph",
    "Replay",
    "Request",
    "difference",
    "differences",
    "graph",
    "parse_fault",
]
