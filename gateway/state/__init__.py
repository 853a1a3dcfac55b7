"""What outlives a snapshot."""
