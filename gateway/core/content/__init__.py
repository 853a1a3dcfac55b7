"""What messages hold: bodies in place of others, texts with values of the request in them."""
