"""What is told of a run that is over: the report, metrics, spans, notifications."""
