"""What each client asked for: counted exactly, kept for a while."""
