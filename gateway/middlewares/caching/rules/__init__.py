"""What RFC 9111 and its kin say, as functions of their arguments: fields, decisions, parts."""
