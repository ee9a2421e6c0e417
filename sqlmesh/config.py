"""SQLMesh's configuration for its own commands, UI and editor: the job's settings, written once."""

from pathlib import Path

from etl.project.engine import project_config

config = project_config(Path(__file__).parent)
