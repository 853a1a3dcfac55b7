"""An edge API gateway: TOML in, traffic through, SIGHUP reloads. See ARCHITECTURE.md."""

from importlib.machinery import ExtensionFileLoader
from importlib.util import find_spec

__version__ = "0.1.0"


def is_compiled(module: str = "gateway.core.drive") -> bool:
    """Return True if `module`, one of those that a compiled build compiles (setup.cfg), is so."""
    spec = find_spec(module)
    return spec is not None and isinstance(spec.loader, ExtensionFileLoader)


def described_version() -> str:
    """Return the version for people, such as '0.1.0 (compiled)'."""
    return f"{__version__} (compiled)" if is_compiled() else __version__
