"""An operator's session: what people type who know nginx, HAProxy, Kong, Traefik, Caddy or Envoy,
misspell a word, or write it into the wrong table. Every hint names the right key.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.config.toml.problems import ConfigErrors, Problem
from gateway.runtime.reload import load

GATEWAY = """
[listen]
#listen
[admin]
#admin
[server]
#server
#gateway
"""
UPSTREAMS = """
[upstream.origin]
url = "http://127.0.0.1:1"
#upstream
#upstreams
"""
PIPELINE = """
request = ["rate_limit", "auth", "validation", "caching"]
response = ["caching", "cors", "logging"]
error = ["cors"]
#pipeline
[auth]
methods = ["api_key"]
#auth
[rate_limit]
key = "ip"
#rate_limit
[cors]
origins = ["https://app.example.com"]
#cors
[caching]
#caching
[logging]
#logging
[[route]]
name = "cameras"
prefix = "/cameras"
upstream = "origin"
#route
"""

TYPOS = [
    # nginx
    ("listen", 'ssl_certificate = "edge.pem"', "tls.certificate"),
    ("listen", "ssl = true", "tls"),
    ("server", 'client_max_body_size = "10MB"', "max_body"),
    ("server", "worker_processes = 4", "workers"),
    ("server", 'keepalive_timeout = "75s"', "idle_timeout"),
    ("server", 'set_real_ip_from = ["10.0.0.0/8"]', "trusted_proxies"),
    ("upstream", 'servers = ["10.0.0.1:80"]', "endpoints"),
    ("upstream", 'proxy_read_timeout = "30s"', "timeouts.read"),
    ("upstream", "endpoints = [{ url = 'http://127.0.0.1:2', max_conns = 5 }]", "max_connections"),
    ("route", 'proxy_pass = "http://127.0.0.1:3001"', "upstream"),
    ("route", 'server_name = "api.example.com"', "hosts"),
    ("caching", 'proxy_cache_valid = "60s"', "default_ttl"),
    # HAProxy
    ("upstream", 'balance = "leastconn"', "least_connections"),
    ("upstream", 'balance = "roundrobin"', "round_robin"),
    ("upstream", "health = { path = '/', fall = 3 }", "unhealthy_threshold"),
    ("server", "maxconn = 1000", "max_connections"),
    # Kong
    ("route", "strip_path = true", "strip_prefix"),
    ("route", 'service = "origin"', "upstream"),
    ("route", 'plugins = ["key-auth"]', "request"),
    ("upstream", 'targets = ["10.0.0.1:80"]', "endpoints"),
    ("upstream", "retries = 5", "retry.attempts"),
    # Traefik
    ("gateway", "[entryPoints.web]\naddress = ':80'", "listen"),
    ("upstream", "passHostHeader = true", "preserve_host"),
    ("rate_limit", "average = 100", "limit"),
    ("route", 'middlewares = ["auth"]', "request"),
    ("upstream", "circuitBreaker = { failure_threshold = 5 }", "circuit_breaker"),
    # Caddy
    ("upstream", 'lb_policy = "ip_hash"', "balance"),
    ("upstream", "health_uri = '/health'", "health"),
    ("route", 'reverse_proxy = "origin"', "upstream"),
    # Envoy
    ("upstream", "outlier_detection = { interval = '10s' }", "outlier"),
    ("upstream", "timeouts = { connect_timeout = '5s' }", "connect"),
    ("cors", 'allow_origin = ["*"]', "origins"),
    # the meaning is there, the word is another
    ("auth", 'permissions = ["cameras:read"]', "require"),
    ("auth", "anonymous = true", "optional"),
    ("auth", "jwt = [{ issuer = 'x', jwks_uri = 'https://x/jwks' }]", "jwks"),
    ("auth", "jwt = [{ issuer = 'x', secret = 's', aud = 'edge' }]", "audience"),
    ("rate_limit", "rate = 100", "limit"),
    ("rate_limit", 'per = "1m"', "window"),
    ("cors", "allow_credentials = true", "credentials"),
    ("logging", 'redact = ["authorization"]', "mask"),
    ("admin", 'password = "x"', "token"),
    # in the wrong table
    ("upstream", 'timeout = "30s"', "timeouts.read"),
    ("upstream", "weight = 2", "endpoints.weight"),
    ("upstream", 'prefix = "/api"', "[[route]]"),
    ("server", "port = 8080", "[listen]"),
    ("listen", "workers = 2", "[server]"),
    ("route", 'permissions = ["cameras:read"]', "auth.require"),
    ("route", 'allowed_origins = ["*"]', "cors.origins"),
    ("route", 'ttl = "60s"', "caching.default_ttl"),
    ("gateway", '[cors]\norigins = ["*"]', "the pipeline that lists it"),
    ("gateway", "[upstream.other]\nurl = 'http://127.0.0.1:2'", "upstreams.toml"),
    ("gateway", "[[route]]\nprefix = '/'", "pipelines/NAME.toml"),
    ("upstreams", "[listen]\nport = 80", "gateway.toml"),
    # names of tables and middlewares
    ("upstreams", "[upstreams.other]\nurl = 'http://127.0.0.1:2'", "upstream"),
    ("upstreams", "[backend.other]\nurl = 'http://127.0.0.1:2'", "upstream"),
    ("pipeline", "[[routes]]\nprefix = '/'\nupstream = 'origin'", "route"),
    ("list", '"ratelimit"', "rate_limit"),
    ("list", '"gzip"', "compression"),
    ("list", '"key-auth"', "auth"),
    ("list", '"cache"', "caching"),
    ("list", '"jwt"', "auth"),
    # misspelt
    ("server", 'hedaer_timeout = "10s"', "header_timeout"),
    ("upstream", 'balance = "least_conections"', "least_connections"),
    ("upstream", "circut_breaker = {}", "circuit_breaker"),
    ("route", 'metods = ["GET"]', "methods"),
    ("auth", "api-key = { header = 'X-Key' }", "api_key"),
    ("rate_limit", 'algoritm = "fixed_window"', "algorithm"),
    # the right key with a value of another kind
    ("listen", 'port = "8080"', "8080, without quotes"),
    ("upstream", 'health = "/health"', "{ path = "),
    ("upstream", 'endpoints = ["http://127.0.0.1:2"]', "url = "),
    ("route", 'methods = "GET"', "['GET']"),
    ("cors", 'credentials = "yes"', "true, without quotes"),
    ("auth", 'methods = ["key"]', "api_key"),
]


def write(root: Path, where: str, text: str) -> None:
    (root / "pipelines").mkdir()
    for name, whole in (
        ("gateway.toml", GATEWAY),
        ("upstreams.toml", UPSTREAMS),
        ("pipelines/partner.toml", PIPELINE),
    ):
        if where == "list":
            whole = whole.replace('["rate_limit"', f'[{text}, "rate_limit"')
        key = text.partition(" =")[0]
        kept = [
            line
            for line in whole.replace(f"#{where}\n", f"{text}\n").splitlines()
            if line == text or where == "list" or not line.startswith(f"{key} =")
        ]
        (root / name).write_text("\n".join(kept) + "\n")


def errors(root: Path) -> list[Problem]:
    try:
        load(root / "gateway.toml", {})
    except ConfigErrors as found:
        return list(found.errors)
    return []


def test_the_configuration_without_typos_is_right(tmp_path: Path):
    write(tmp_path, "nowhere", "# nothing")
    assert errors(tmp_path) == []


@pytest.mark.parametrize(("where", "text", "right"), TYPOS, ids=[one[1][:40] for one in TYPOS])
def test_the_hint_names_the_right_key(where: str, text: str, right: str, tmp_path: Path):
    write(tmp_path, where, text)
    found = errors(tmp_path)
    shown = right if re.search(r"[\[ /]", right) or right.endswith(".toml") else f"'{right}'"
    assert any(shown in one.hint for one in found), "\n".join(map(str, found))
    assert all(one.hint for one in found), "\n".join(map(str, found))


def test_it_was_a_long_session():
    assert len({one[:2] for one in TYPOS}) == len(TYPOS) >= 35
