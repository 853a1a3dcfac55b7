"""TOML text to data with positions, the environment and files put in, and problems."""
