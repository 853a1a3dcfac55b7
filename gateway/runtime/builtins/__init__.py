"""Builtins for which much has to be put together."""
