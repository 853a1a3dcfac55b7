"""Pools of endpoints: balancing, health, circuit breakers, limits."""
