"""HTTP/2 for both sides: sessions that turn bytes into events and back. Needs the extra http2."""
