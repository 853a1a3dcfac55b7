"""HTTP/2 towards endpoints: connections that many requests share. Needs the extra http2."""
