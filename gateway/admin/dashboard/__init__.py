"""The dashboard: its page and files, a browser's session, and the snapshots that feed it."""
