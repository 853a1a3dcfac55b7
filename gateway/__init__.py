"""An edge API gateway: TOML in, traffic through, SIGHUP reloads. See ARCHITECTURE.md."""

__version__ = "0.1.0"
