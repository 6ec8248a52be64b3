"""The documents that describe the API: OpenAPI for HTTP, AsyncAPI for the streams."""
