"""Several workers under one supervisor: processes, sockets, and what they tell one another."""
