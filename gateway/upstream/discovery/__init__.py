"""Where endpoints come from that the configuration does not list: files, the environment, DNS, the
admin API."""
