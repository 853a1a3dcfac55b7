"""OpenAPI documents, requests for them, and what openapi-core says of these (bench/openapi)."""
