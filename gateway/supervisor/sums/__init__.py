"""What several processes count and know, as that of one gateway."""
