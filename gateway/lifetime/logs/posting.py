"""Post batches to a URL from a thread: over one kept connection, with more attempts and pauses."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from threading import Event
from urllib.parse import urlsplit

ANSWER_MAX = 1024 * 1024
"""Bytes of an answer that are read."""
FIRST_PAUSE = 0.2
"""Seconds before the second attempt; each further pause doubles, to at most LONGEST_PAUSE."""
LONGEST_PAUSE = 5.0
_AGAIN = (408, 429, 500, 502, 503, 504)


class Poster:
    """Posts to one URL. Used by one thread.

    retries: further attempts at a batch. timeout: seconds for each. stopping: set when pauses are
    to be cut short, and no further attempt is to be made.
    """

    def __init__(
        self,
        url: str,
        fields: Mapping[str, str],
        *,
        timeout: float,
        retries: int,
        stopping: Event,
    ) -> None:
        self._url = urlsplit(url)
        self._target = self._url.path or "/"
        self._fields = fields
        self._timeout = timeout
        self._retries = retries
        self._stopping = stopping
        self._connection: http.client.HTTPConnection | None = None

    def send(self, body: bytes) -> bytes | Exception:
        """Return what a 2xx answer says, at most ANSWER_MAX bytes, or what kept it from coming."""
        error: Exception = OSError("not sent")
        for attempt in range(self._retries + 1):
            if attempt and self._stopping.wait(
                min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1))
            ):
                break
            try:
                status, said = self._post(body)
            except (OSError, http.client.HTTPException, ValueError) as failed:
                self.close()
                error = failed
                continue
            if 200 <= status < 300:
                return said
            error = OSError(f"answered {status}")
            if status not in _AGAIN:
                break
        return error

    def close(self) -> None:
        """Close the connection; the next batch opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, body: bytes) -> tuple[int, bytes]:
        connection = self._connection
        if connection is None:
            host, port, timeout = self._url.hostname or "", self._url.port, self._timeout
            connection = self._connection = (
                http.client.HTTPSConnection(
                    host, port, timeout=timeout, context=ssl.create_default_context()
                )
                if self._url.scheme == "https"
                else http.client.HTTPConnection(host, port, timeout=timeout)
            )
        connection.request("POST", self._target, body, dict(self._fields))
        answer = connection.getresponse()
        said = answer.read(ANSWER_MAX)
        if answer.will_close or not answer.isclosed():
            self.close()
        return answer.status, said
