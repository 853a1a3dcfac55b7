"""USR2: a new program takes the place of one that serves."""
