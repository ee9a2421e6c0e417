"""New projects: the files they begin with, and a source proposed from one look at an API."""
