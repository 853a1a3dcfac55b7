"""Redis as the shared store: connections, topology, commands and feeds of changes."""
