"""A job that lives for many runs, and what a 0 promises after each of them.

`python -m tests.soak` changes an API, the project, the targets and the job's files at random, lets
things fail, kills the job, and compares after each exit code 0 every mart at every target with what
the API has. It stops at the first promise that is not kept; the same seed does the same again, as
far as clocks allow.
"""
