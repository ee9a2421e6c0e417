"""The four stages of a run, one module and one function each, and what they share."""
