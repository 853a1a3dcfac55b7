"""OpenAPI documents as operators hand them in: read, checked, and cut into operations.

What a request must look like is compiled in middlewares/validation, from an Operation.
"""
