"""The API of all published routes as an OpenAPI 3.1 document, and as a page to read and try out."""
