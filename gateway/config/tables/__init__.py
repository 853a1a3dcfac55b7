"""Every TOML table as fields and a frozen dataclass, and how one is loaded and described."""
