"""The data plane's sockets: the only place that knows aiohttp's server."""
