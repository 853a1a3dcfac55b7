"""Discovery of endpoints: files, the environment, DNS, the admin API."""
