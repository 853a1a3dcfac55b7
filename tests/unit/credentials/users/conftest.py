from tests.redis import redis, shared_redis  # noqa: F401
from tests.unit.issuer.shared import store  # noqa: F401
