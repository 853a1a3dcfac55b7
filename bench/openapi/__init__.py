"""Benches of OpenAPI documents, and verdicts to compare with."""
