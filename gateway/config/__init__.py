"""Text to frozen values: read TOML, know where everything stands, check it all, report every error
at once."""
