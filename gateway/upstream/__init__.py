"""Forwarding to upstreams: endpoint choice, attempts and retries, connections, discovery."""
