"""What the process says of itself: logs, metrics, traces, usage, alerts."""
