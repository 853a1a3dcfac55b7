"""`builtin = "portal"`: a partner's own page: limits, usage, failures, keys, deprecations."""
