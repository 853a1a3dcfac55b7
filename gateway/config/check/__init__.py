"""The whole configuration: cross references, routes, lints, compiled to one value."""
