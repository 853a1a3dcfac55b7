"""HTTP/1.1 as spoken with endpoints."""
