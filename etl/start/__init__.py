"""New projects: the files they begin with, and a source proposed from one look at an API."""

from etl.start.project import create_project

__all__ = ["create_project"]
