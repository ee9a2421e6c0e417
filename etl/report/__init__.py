"""What a run tells others when it is over: metrics, spans, notifications."""
