"""OpenTelemetry traces: which requests are recorded, and their spans on the way to a collector."""
