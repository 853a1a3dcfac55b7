"""What other gateways call the keys of ours: nginx, HAProxy, Kong, Traefik, Caddy, Envoy, Express.

By table, by key: the words, lower case with underscores, that an operator may write for it. Of
several keys that a word may stand for, the first is meant. A middleware's own name stands
in MIDDLEWARES. tests/unit/config/test_foreign_words.py holds every key against the tables.
"""

from __future__ import annotations

from collections.abc import Mapping

TLS = {
    "certificate": "ssl_certificate ssl_cert ssl_crt crt cert cert_file cert_path certfile tls_cert"
    " certificate_file certificate_path ssl_certificate_file chain",
    "key": "ssl_certificate_key ssl_key key_file keyfile key_path private_key tls_key"
    " certificate_key",
    "min_version": "ssl_protocols tls_version min_tls_version minimum_version"
    " ssl_min_version tls_min_version",
    "ciphers": "ssl_ciphers cipher_suites ciphersuites cipher",
    "client_ca": "ssl_client_certificate ssl_ca client_ca_file ca_files client_cas mtls_ca"
    " trusted_ca ca",
    "client_auth": "ssl_verify_client client_certificate verify_client mtls client_auth_type",
}

WORDS: Mapping[str, Mapping[str, str]] = {
    "": {
        "include": "includes import imports files providers",
        "listen": "http https entrypoints entry_points listener listeners bind proxy_listen",
        "admin": "dashboard api admin_api admin_listen management",
        "store": "redis database storage",
        "tokens": "issuer_tokens login",
    },
    "listen": {
        "host": "address addr bind_address interface ip listen_host",
        "port": "ports listen_port http_port",
        "addresses": "binds sockets listen_addresses bind",
        "tls": "ssl https tls_config ssl_config",
        "proxy_protocol": "accept_proxy send_proxy",
        "redirect": "https_redirect redirect_https force_https ssl_redirect",
    },
    "listen.tls": TLS,
    "admin.tls": TLS,
    "admin": {
        "token": "admin_token api_token password secret auth_token bearer api_key",
        "readers": "read_only readonly viewers users",
        "hosts": "allowed_hosts",
    },
    "server": {
        "workers": "worker_processes num_workers worker_count processes nbproc threads cpus",
        "trusted_proxies": "real_ip set_real_ip_from real_ip_from trusted_ips trusted_proxy"
        " trust_proxy forwarded_headers trust_forward_header trust_forwarded xff"
        " forwarded_allow_ips use_remote_address",
        "shutdown_timeout": "grace_period graceful_timeout grace_timeout drain_timeout"
        " graceful_shutdown_timeout graceful_shutdown worker_shutdown_timeout stop_timeout"
        " request_accept_grace_timeout",
        "max_header_size": "large_client_header_buffers max_header_bytes header_size"
        " max_request_header_size header_buffer_size max_headers_size",
        "header_timeout": "client_header_timeout read_header_timeout timeout_http_request"
        " header_read_timeout request_headers_timeout",
        "idle_timeout": "keepalive_timeout keep_alive_timeout keep_alive keepalive idle"
        " timeout_http_keep_alive",
        "body_timeout": "client_body_timeout read_timeout timeout_client",
        "write_timeout": "send_timeout",
        "max_body": "client_max_body_size max_body_size body_limit body_size_limit"
        " max_request_body_bytes max_request_size max_content_length",
        "max_connections": "worker_connections maxconn max_conn max_conns limit_conn",
        "max_connections_per_ip": "max_connections_per_client limit_conn_per_ip",
        "abuse_penalty": "ban_time bantime",
        "watch": "hot_reload auto_reload",
    },
    "routing": {"case_sensitive": "ignore_case case_insensitive", "trailing_slash": "slash"},
    "store": {"url": "redis redis_url address dsn uri addr redis_host"},
    "errors": {
        "format": "error_format error_style error_page",
        "template": "error_template error_body",
    },
    "logging.process": {
        "level": "log_level loglevel verbosity error_log",
        "format": "log_format log_output",
    },
    "upstream.NAME": {
        "endpoints": "servers server targets backends nodes members hosts addresses instances urls"
        " server_urls load_assignment",
        "url": "address target uri host backend proxy_pass destination to",
        "balance": "lb_policy load_balancing load_balancer load_balance lb algorithm strategy"
        " balancer lb_method policy method balancing",
        "health": "health_check healthcheck healthchecks health_checks active_health check"
        " health_uri healthcheck_path health_path checks httpchk",
        "passive_health": "passive outlier_check passive_healthcheck",
        "outlier": "outlier_detection",
        "timeouts": "proxy_timeouts",
        "circuit_breaker": "breaker circuitbreaker circuit circuit_breakers",
        "retry": "proxy_next_upstream retry_policy retries_policy",
        "max_idle": "max_idle_conns max_idle_connections keepalive_connections pool_size idle_conns"
        " max_idle_conns_per_host keepalive_pool_size",
        "keepalive": "keepalive_timeout idle_timeout keepalive_idle_timeout",
        "preserve_host": "pass_host_header host_header proxy_set_host keep_host",
        "tls": "ssl proxy_ssl https transport tls_config",
        "hash": "hash_on hash_header consistent sticky sticky_cookie session_affinity affinity"
        " session_persistence",
        "slow_start": "slow_start_duration warmup ramp_up",
        "limit": "max_requests concurrency max_in_flight in_flight_req max_concurrency",
        "discover": "discovery resolver dns service_discovery resolvers",
        "zone": "locality region",
        "fallback": "backup_upstream failover",
    },
    "upstream.NAME.timeouts": {
        "connect": "connect_timeout proxy_connect_timeout dial_timeout timeout_connect dial",
        "read": "read_timeout proxy_read_timeout timeout response_header_timeout timeout_server"
        " response_timeout response",
        "write": "write_timeout proxy_send_timeout send_timeout send",
        "tunnel": "timeout_tunnel websocket_timeout websocket",
        "call": "stream_idle_timeout grpc_read_timeout grpc",
        "total": "request_timeout overall",
    },
    "upstream.NAME.endpoints": {
        "url": "address host target uri server endpoint",
        "weight": "priority",
        "max_connections": "max_conns maxconn max_conn connections",
        "backup": "standby spare failover",
        "drain": "down disabled maintenance draining",
    },
    "upstream.NAME.health": {
        "path": "uri url endpoint health_path http_path",
        "interval": "every inter period",
        "unhealthy_threshold": "fall fails failures max_fails failure_threshold threshold"
        " unhealthy_failures",
        "healthy_threshold": "rise passes successes success_threshold healthy_successes",
        "status": "expect expect_status expected_status statuses http_statuses expect_code match"
        " expected_statuses",
    },
    "upstream.NAME.passive_health": {
        "max_fails": "max_failures fails failures unhealthy_failures threshold",
        "fail_timeout": "fail_duration timeout ejection_time",
    },
    "upstream.NAME.retry": {
        "attempts": "retries max_retries max_attempts tries num_retries proxy_next_upstream_tries"
        " count",
        "base_delay": "backoff initial_interval delay base_interval try_interval retry_backoff",
        "max_delay": "max_backoff max_interval",
        "factor": "multiplier exponent",
        "on": "retry_on statuses status_codes conditions when http_codes",
    },
    "upstream.NAME.circuit_breaker": {
        "failure_threshold": "threshold failures max_failures trip consecutive_errors errors",
        "recovery_timeout": "timeout cooldown reset_timeout sleep_window open_duration"
        " recovery_duration fallback_duration break_duration",
        "half_open_requests": "half_open half_open_max_calls half_open_max half_open_calls",
    },
    "upstream.NAME.tls": {
        "verify": "insecure_skip_verify tls_insecure_skip_verify skip_verify proxy_ssl_verify"
        " insecure tls_verify ssl_verify reject_unauthorized",
        "ca": "proxy_ssl_trusted_certificate ca_file ca_cert root_ca root_cas cacert ca_certs"
        " trust_pool ca_certificate",
        "server_name": "sni proxy_ssl_name tls_server_name",
        **{key: TLS[key] for key in ("certificate", "key", "min_version")},
    },
    "upstream.NAME.discover": {"dns": "dns_name srv hostname", "every": "interval refresh ttl"},
    "upstream.NAME.queue": {"size": "max_queue queue_size max_pending", "timeout": "queue_timeout"},
    "upstreams.toml": {
        "upstream": "upstreams backend backends cluster clusters service services server servers"
        " pool pools target targets",
    },
    "pipeline": {
        "request": "middlewares middleware plugins filters handlers chain policies before",
        "response": "after response_filters",
        "error": "errors on_error error_handlers",
        "route": "routes location locations routers router rules paths handle",
        "openapi": "swagger oas openapi_spec spec",
    },
    "route": {
        "path": "uri url exact path_exact match",
        "prefix": "location path_prefix pathprefix base_path root",
        "methods": "method verbs http_methods allowed_methods",
        "hosts": "host server_name domain domains hostname hostnames host_header vhost sni",
        "headers": "header match_headers",
        "upstream": "service backend proxy_pass target cluster upstream_url forward_to to"
        " reverse_proxy destination use_backend",
        "strip_prefix": "strip_path strip stripprefix handle_path strip_path_prefix",
        "rewrite": "rewrite_target uri_rewrite path_rewrite replace_path rewrite_path"
        " prefix_rewrite replace_path_regex regex_rewrite",
        "redirect": "redir return redirect_to redirect_url location_redirect",
        "respond": "static response_body static_response direct_response body content",
        "builtin": "handler internal",
        "request": "middlewares middleware plugins filters",
        "error": "errors on_error",
        "timeout": "request_timeout route_timeout read_timeout proxy_read_timeout",
        "mirror": "shadow request_mirror_policies mirroring",
        "sticky": "session_affinity",
    },
    "auth": {
        "require": "permissions permission scopes scope required_scopes required_permissions"
        " required_roles acl requires authorization groups",
        "methods": "type types method schemes mode providers strategies",
        "api_key": "apikey key_auth api_keys key_names keyauth",
        "jwt": "oidc jwts openid",
        "optional": "anonymous allow_anonymous credentials_optional permissive",
        "revocations": "blacklist denylist revoked",
        "allow": "ip_allowlist whitelist allowed",
        "deny": "ip_denylist blocklist",
    },
    "auth.api_key": {
        "header": "header_name key_header key_in_header name",
        "query": "query_param key_in_query param",
        "file": "keys_file keys path",
    },
    "auth.jwt": {
        "issuer": "iss issuers",
        "audience": "aud audiences",
        "algorithms": "alg algs algorithm signing_method",
        "jwks": "jwks_url jwks_uri jwk_url remote_jwks jwk_set",
        "secret": "secret_key hmac_secret shared_secret signing_key",
        "key": "public_key pem rsa_public_key",
        "leeway": "clock_skew skew clock_skew_seconds tolerance",
        "claims": "claims_to_verify claim_mapping mapping",
    },
    "rate_limit": {
        "limit": "rate requests average rps requests_per_second limit_req max max_requests count"
        " quota requests_per_minute",
        "window": "per interval time_window window_size duration unit",
        "burst": "burst_size max_burst",
        "refill": "fill_rate refill_rate tokens_per_fill",
        "tokens": "capacity bucket_size max_tokens",
        "key": "by limit_by key_by identifier source_criterion header_name",
        "algorithm": "strategy type",
        "on_store_failure": "fail_open fault_tolerant",
        "exempt": "whitelist allowlist skip except",
        "mode": "policy sync",
    },
    "cors": {
        "origins": "origin allow_origin allow_origins allowed_origins access_control_allow_origin"
        " allow_origin_list cors_origins",
        "methods": "allow_methods allowed_methods access_control_allow_methods",
        "headers": "allow_headers allowed_headers access_control_allow_headers",
        "expose": "expose_headers exposed_headers access_control_expose_headers",
        "credentials": "allow_credentials access_control_allow_credentials",
        "max_age": "preflight_max_age access_control_max_age",
    },
    "caching": {
        "default_ttl": "ttl cache_ttl expires proxy_cache_valid max_age",
        "max_size": "size memory memory_size proxy_cache_path",
        "max_entry": "max_object_size max_file_size",
        "statuses": "response_code status_codes cache_statuses",
        "stale_if_error": "stale proxy_cache_use_stale",
        "invalidate": "purge",
        "key": "cache_key proxy_cache_key vary_headers",
    },
    "compression": {
        "algorithms": "encodings encoding gzip",
        "minimum": "min_length gzip_min_length min_size minimum_length min_response_body_bytes"
        " threshold",
        "types": "gzip_types content_types mime_types included_content_types",
        "gzip_level": "level gzip_comp_level compression_level",
    },
    "logging": {
        "file": "access_log path output filename file_path log_file destination",
        "mask": "redact hide mask_headers sensitive_headers filter",
        "sample": "sampling rate",
    },
    "validation": {
        "max_body": "max_body_size client_max_body_size body_limit max_size max_content_length"
        " limit allowed_payload_size",
        "body": "schema json_schema body_schema",
        "content_types": "allowed_content_types content_type",
    },
    "transform": {
        "request": "request_headers headers proxy_set_header custom_request_headers"
        " request_transformer header_up",
        "response": "response_headers custom_response_headers add_header response_transformer"
        " header_down",
    },
    "transform.request": {"set": "headers replace", "add": "append", "remove": "delete hide"},
    "transform.response": {"set": "headers replace", "add": "append", "remove": "delete hide"},
    "forward_auth": {
        "url": "address uri auth_url auth_request endpoint",
        "send": "auth_request_headers request_headers headers",
        "keep": "copy_headers auth_response_headers response_headers",
        "on_failure": "fail_open failure_mode_allow",
    },
}

MIDDLEWARES: Mapping[str, str] = {
    "auth": "jwt jwt_auth key_auth apikey api_key basic_auth basicauth authentication oauth2"
    " authorization mtls_auth oidc auth_basic authenticate",
    "caching": "cache proxy_cache http_cache",
    "compression": "gzip compress encode brotli gzip_filter deflate",
    "cors": "cross_origin access_control",
    "error_handler": "errors error error_pages error_page handle_errors exceptions",
    "fallback": "failover default_response",
    "forward_auth": "auth_request ext_authz external_auth forwardauth authz",
    "logging": "log access_log file_log http_log logger access_logs",
    "metrics": "prometheus stats telemetry",
    "rate_limit": "ratelimit limit_req rate_limiting rate_limiter throttle limit throttling limiter"
    " local_ratelimit",
    "security_headers": "secure_headers hsts helmet csp",
    "transform": "headers request_transformer response_transformer header add_header"
    " request_header rewrite_headers",
    "validation": "request_validator request_validation validate buffering request_size_limiting"
    " body_limit",
}
"""Names for middlewares."""

FILES: Mapping[str, str] = {
    "upstream": "[upstream.NAME] tables stand in upstreams.toml",
    "upstreams": "[upstream.NAME] tables stand in upstreams.toml",
    "route": "[[route]] tables stand in pipelines/NAME.toml",
    "routes": "[[route]] tables stand in pipelines/NAME.toml",
    "pipeline": "a pipeline is a file of its own, pipelines/NAME.toml",
    "pipelines": "a pipeline is a file of its own, pipelines/NAME.toml",
    "middlewares": "middlewares are named in the lists of pipelines/NAME.toml",
    "plugins": "middlewares are named in the lists of pipelines/NAME.toml",
}
"""Hints for what is written into gateway.toml and has a file of its own."""

VALUES: Mapping[str, str] = {
    "least_connections": "least_conn leastconn least_request least_connection",
    "round_robin": "roundrobin rr wrr weighted weighted_round_robin",
    "ip_hash": "source source_ip iphash client_ip_hash",
    "hash": "consistent_hash consistent_hashing ring_hash maglev uri_hash header cookie",
    "random_two": "p2c power_of_two random_two_choices",
    "sliding_window": "sliding sliding_log sliding_window_counter",
    "fixed_window": "fixed window",
    "token_bucket": "bucket leaky_bucket tokens",
    "api_key": "key apikey key_auth key_auth_enc api_keys",
    "jwt": "bearer oidc jwt_auth openid",
    "basic": "basic_auth basicauth http_basic password",
    "mtls": "client_certificate client_cert tls certificate",
    "signature": "hmac hmac_auth",
    "introspection": "oauth2 opaque oauth",
    "problem": "rfc9457 rfc7807 problem_json json",
    "closed": "deny block reject fail_closed",
    "open": "allow pass fail_open",
    "br": "brotli",
    "zstd": "zstandard",
}
"""Words for values that are a choice of a few; taken where the value is one of the choices."""
