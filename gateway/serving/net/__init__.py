"""Sockets of the data plane: accepting, TLS, deadlines, who the peer is. Nothing here knows
requests."""
