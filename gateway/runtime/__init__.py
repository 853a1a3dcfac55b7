"""The snapshot a request crosses: routes, pipelines, and how one snapshot replaces another."""
