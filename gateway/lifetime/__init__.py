"""Objects that outlive a snapshot and work that goes on in the background."""
