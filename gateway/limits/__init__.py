"""Rate limits and quotas: algorithms, buckets and leases. Pure decisions and the states they work
on."""
