"""The gateway's own answers, as targets of routes beside upstreams."""
