"""Commands that ask a running gateway, through its admin listener."""
