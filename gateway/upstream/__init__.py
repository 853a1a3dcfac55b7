"""The way to the endpoints: which one is asked (pool, balancing, health, breaker), how often
(retry), over what (transport)."""
