"""Protocols without sockets, for both sides: WebSocket, certificates and TLS contexts."""
