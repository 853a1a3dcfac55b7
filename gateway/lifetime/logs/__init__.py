"""Logs on their way out: the queue, files, other sinks, and the process's own log."""
