"""Requests in the admin API: why they were answered as they were."""
