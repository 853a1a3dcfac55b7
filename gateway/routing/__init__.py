"""Which route a request belongs to, and the target it is sent on with."""
