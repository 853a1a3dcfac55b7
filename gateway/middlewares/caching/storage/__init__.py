"""Where stored responses lie, and how they get there."""
