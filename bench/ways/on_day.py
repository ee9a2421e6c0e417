"""Runs a script or command with another clock, so that nobody has to wait for midnight.

Arguments: the time, the path of the script or command, its arguments.
"""

from __future__ import annotations

import runpy
import sys

from time_machine import travel

moment, path, *arguments = sys.argv[1:]
sys.argv = [path, *arguments]
with travel(moment, tick=True):
    runpy.run_path(path, run_name="__main__")
