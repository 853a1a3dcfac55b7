from tests.unit.admin.conftest import admin, guarded, state

__all__ = ["admin", "guarded", "state"]
