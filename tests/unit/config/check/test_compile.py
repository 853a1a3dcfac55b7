from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from gateway.config.check.compile import LoadedConfig
from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.pipeline import BUILTINS
from gateway.config.tables.server import GatewayConfig
from gateway.config.toml.problems import ConfigErrors
from tests.unit.config.tree import ROUTE, AuthConfig, Tree


def test_a_whole_tree(tree: Tree) -> None:
    tree.write("gateway.toml", "listen.port = 9000")
    tree.pipeline("request = ['auth']\nauth.realm = 'x'", "partner")
    config = tree.compile()
    assert config.gateway.listen.port == 9000
    assert config.upstreams["one"].name == "one"
    assert config.upstreams["one"].endpoints == (EndpointConfig("http://127.0.0.1:3001"),)
    (pipeline,) = config.pipelines
    assert (pipeline.name, pipeline.file) == ("partner", tree.root / "pipelines/partner.toml")
    assert (pipeline.request, pipeline.response, pipeline.error) == (
        ("auth",),
        (),
        ("error_handler",),
    )
    assert pipeline.settings == {"auth": AuthConfig(realm="x"), "error_handler": {}}
    assert [route.name for route in pipeline.routes] == ["/"]
    assert [path.relative_to(tree.root).as_posix() for path in config.files] == [
        "gateway.toml",
        "upstreams.toml",
        "pipelines/partner.toml",
    ]
    assert config.warnings == ()
    with pytest.raises(FrozenInstanceError):
        config.hash = ""  # type: ignore[misc]


def test_defaults_do_for_an_empty_file(tree: Tree) -> None:
    tree.pipeline("name = 'x'")
    assert tree.compile().gateway == GatewayConfig()


def test_a_gateway_without_pipelines_says_so(tree: Tree) -> None:
    problem = tree.only()
    assert (problem.severity, problem.message) == (
        "warning",
        "there are no pipelines: every request is answered 404",
    )


def test_nothing_but_the_one_file_is_said_to_be_missing(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    (tmp_path / "gateway.toml").unlink()
    with pytest.raises(ConfigErrors, match="cannot be read"):
        tree.compile()
    assert len(tree.problems()) == 1


def test_a_broken_gateway_toml_is_all_that_is_said(tree: Tree) -> None:
    tree.write("gateway.toml", "[listen\n")
    tree.pipeline("reqest = []")
    assert [problem.file.name for problem in tree.problems()] == ["gateway.toml"]


def test_warnings_come_with_errors(tree: Tree) -> None:
    tree.pipeline("response = ['logging']\nrequest = ['x']")
    with pytest.raises(ConfigErrors) as caught:
        tree.compile()
    assert [problem.severity for problem in caught.value.problems] == ["warning", "error"]
    assert len(caught.value.errors) == 1


@pytest.mark.parametrize(
    ("what", "text", "said"),
    [
        ("an unknown key", "lisen.port = 1", ["1: error: lisen: is not a known key"]),
        ("one in a table", "[listen]\nprot = 1", ["2: error: listen.prot: is not a known key"]),
        (
            "a wrong type",
            '[listen]\nport = "80"',
            ["2: error: listen.port: must be a whole number, not '80'"],
        ),
        (
            "an impossible port",
            "[listen]\nport = 65536",
            ["2: error: listen.port: must be from 0 to 65535"],
        ),
        ("no table", "listen = 5", ["1: error: listen: must be a table, not 5"]),
        (
            "the wrong kind of include",
            "include = 5",
            ["1: error: include: must be an array, not 5"],
        ),
        (
            "one port for both",
            "listen.port = 9901",
            ["1: error: admin.port: 9901 is where listen listens"],
        ),
        ("two ports of one address", "[listen]\nport = 1\n[admin]\nport = 2", []),
        (
            "one port of two addresses",
            '[listen]\nport = 1\nhost = "10.0.0.1"\n[admin]\nport = 1',
            [],
        ),
        (
            "one port of every address",
            '[listen]\nport = 1\nhost = "0.0.0.0"\n[admin]\nport = 1',
            ["5: error: admin.port: 1 is where listen listens"],
        ),
        (
            "one port of all addresses of both families",
            '[listen]\naddresses = ["unix:/a", "[::]:1"]\n[admin]\nport = 1',
            ["4: error: admin.port: 1 is where listen listens"],
        ),
        (
            "one port of two families",
            '[listen]\naddresses = ["[::1]:1", "127.0.0.2:1"]\n[admin]\nport = 1',
            [],
        ),
        (
            "a redirect of Unix sockets",
            '[listen]\naddresses = ["unix:/a"]\nredirect = { port = 80 }',
            [
                "3: error: listen.redirect.host: listen has Unix sockets only",
                "3: error: listen.redirect.https_port: listen has Unix sockets only",
                "3: warning: listen.redirect: sends clients to https, which is not spoken here",
            ],
        ),
        ("any port twice", "[listen]\nport = 0\n[admin]\nport = 0", []),
        (
            "an open admin listener",
            '[admin]\nhost = "0.0.0.0"',
            ["2: warning: admin.host: '0.0.0.0' lets others in, and there is no token"],
        ),
        (
            "a redirect to where it comes from",
            "[listen]\nport = 80\nredirect = { port = 80, https_port = 443 }",
            ["3: error: listen.redirect.port: 80 is where listen listens"],
        ),
        (
            "a redirect to nothing",
            "[listen]\nredirect = { port = 80 }",
            ["2: warning: listen.redirect: sends clients to https, which is not spoken here"],
        ),
        (
            "a redirect to what is in front",
            "[listen]\nredirect = { port = 80, https_port = 443 }",
            [],
        ),
        (
            "a PROXY protocol for everybody",
            "[listen]\nproxy_protocol = true",
            ["2: warning: listen.proxy_protocol: anybody who connects can say to be anybody"],
        ),
        (
            "one for proxies",
            '[listen]\nproxy_protocol = true\n[server]\ntrusted_proxies = ["10.0.0.0/8"]',
            [],
        ),
        ("one with a token", '[admin]\nhost = "0.0.0.0"\ntoken = "x"', []),
    ],
)
def test_gateway_toml(tree: Tree, what: str, text: str, said: list[str]) -> None:
    tree.pipeline("name = 'x'")
    tree.write("gateway.toml", text)
    assert [line for line in tree.said() if line.startswith("gateway")] == [
        f"gateway.toml:{line}" for line in said
    ], what


def test_numbers_may_come_from_the_environment(tree: Tree) -> None:
    tree.environ = {"PORT": "9000", "STRICT": "false"}
    tree.pipeline("name = 'x'")
    tree.write(
        "gateway.toml",
        (
            "listen.port = '${PORT}'\nrouting.case_sensitive = '${STRICT}'\nserver.idle_timeout = "
            "'${IDLE:-5}'"
        ),
    )
    gateway = tree.compile().gateway
    assert (gateway.listen.port, gateway.routing.case_sensitive, gateway.server.idle_timeout) == (
        9000,
        False,
        5.0,
    )


@pytest.mark.parametrize(
    "written", ["'hunter2'", "'${TOKEN}'", "'${NONE:-hunter2}'", "{ file = 'token' }"]
)
def test_the_token_is_shown_nowhere(tree: Tree, written: str) -> None:
    tree.environ = {"TOKEN": "hunter2"}
    tree.write("token", "hunter2\n")
    tree.pipeline("name = 'x'")
    tree.write("gateway.toml", f"admin.token = {written}")
    config = tree.compile()
    assert config.gateway.admin is not None
    assert config.gateway.admin.token == "hunter2"
    assert "hunter2" not in repr(config)


@pytest.mark.parametrize(
    ("what", "text", "said"),
    [
        ("no endpoints", "[upstream.a]", ["1: error: upstream 'a' has no endpoints"]),
        (
            "a fallback that is not there",
            "[upstream.a]\nurl = 'http://a'\nfallback = 'bb'\n[upstream.b]\nurl = 'http://b'",
            ["3: error: fallback: there is no upstream 'bb'"],
        ),
        (
            "fallbacks in a circle",
            (
                "[upstream.a]\nurl = 'http://a'\nfallback = 'b'\n[upstream.b]\nurl = "
                "'http://b'\nfallback = 'a'"
            ),
            [
                "3: error: fallback: leads in a circle: a -> b -> a",
                "6: error: fallback: leads in a circle: b -> a -> b",
            ],
        ),
        (
            "a handshake with what has no TLS",
            "[upstream.a]\nurl = 'http://a'\nhealth.type = 'tls'",
            ['3: error: health.type: "tls" is for endpoints with TLS'],
        ),
        (
            "a name without a port",
            "[upstream.a]\ndiscover.dns = 'cameras.internal'",
            [
                "2: error: upstream.a.discover.dns: must be a name and a port, such as "
                '"cameras.internal:3001", '
                'or a service, "_http._tcp.name"'
            ],
        ),
        (
            "discovery without a source",
            "[upstream.a]\ndiscover.every = '1s'",
            ["2: error: upstream.a.discover: names no source: file, env, dns, or api = true"],
        ),
        (
            "balancing by hash without saying by what",
            "[upstream.a]\nurl = 'http://a'\nbalance = 'hash'",
            ['1: error: upstream.a.hash: balance = "hash" and a hash table belong together'],
        ),
        (
            "a breaker that would never open",
            "[upstream.a]\nurl = 'http://a'\ncircuit_breaker.failure_threshold = 0",
            [
                (
                    "3: error: upstream.a.circuit_breaker.failure_threshold: is 0 and there is no "
                    "failure_rate: it would never open"
                )
            ],
        ),
        (
            "a time that is no longer than its peers'",
            "[upstream.a]\nurl = 'http://a'\noutlier.latency = 1",
            [
                (
                    "3: error: upstream.a.outlier.latency: must be more than 1, or 0 to leave time "
                    "out of it"
                )
            ],
        ),
        (
            "none in the list",
            "[upstream.a]\nendpoints = []",
            ["2: error: upstream 'a' has no endpoints"],
        ),
        (
            "the wrong kind of them",
            "[upstream.a]\nendpoints = 5",
            ["2: error: upstream.a.endpoints: must be an array, not 5"],
        ),
        (
            "an endpoint that is none",
            "[upstream.a]\nendpoints = [5]",
            ["2: error: upstream.a.endpoints: must be a table, not 5"],
        ),
        (
            "one without a url",
            "[upstream.a]\nendpoints = [{}]",
            ["2: error: upstream.a.endpoints.url: is missing"],
        ),
        (
            "an endpoint twice",
            (
                "[upstream.a]\nendpoints = [\n{ url = 'http://a:80' },\n{ url = 'http://b' },\n{ "
                "url "
                "= 'http://A/' }]"
            ),
            ["5: error: 'http://A/' is an endpoint of 'a' already"],
        ),
        (
            "an endpoint that is the url",
            "[upstream.a]\nurl = 'http://a'\nendpoints = [{ url = 'http://a' }]",
            ["3: error: 'http://a' is an endpoint of 'a' already"],
        ),
        (
            "the same in another upstream",
            "[upstream.a]\nurl = 'http://a'\n[upstream.b]\nurl = 'http://a'",
            [],
        ),
        (
            "another path",
            "[upstream.a]\nendpoints = [{ url = 'http://a/x' }, { url = 'http://a/y' }]",
            [],
        ),
        (
            "bad ports",
            "[upstream.a]\nendpoints = [{ url = 'http://a:x' }, { url = 'http://a:x' }]",
            ["2: error: upstream.a.endpoints.url: is not a URL: 'http://a:x'"] * 2,
        ),
        (
            "an unknown key deep in",
            "[upstream.a]\nurl = 'http://a'\nhealth = { path = '/', intervall = 5 }",
            ["3: error: upstream.a.health.intervall: is not a known key"],
        ),
        (
            "checks that outlast their interval",
            "[upstream.a]\nurl = 'http://a'\nhealth = { interval = '2s', timeout = '2500ms' }",
            ["3: warning: a check may take 2.5 s but the next is due after 2 s"],
        ),
        (
            "waits that start beyond their end",
            "[upstream.a]\nurl = 'http://a'\n[upstream.a.retry]\nbase_delay = '3s'",
            ["4: warning: waits start at 3 s but may be 2 s at most"],
        ),
        ("no tables", "upstream = 5", ["1: error: upstream: must be tables"]),
        ("no table", "[upstream]\na = 5", ["2: error: upstream.a: must be a table"]),
        ("another key", "[cors]", ["1: error: cors: is not a known key"]),
    ],
)
def test_upstreams(tree: Tree, what: str, text: str, said: list[str]) -> None:
    tree.pipeline("name = 'x'")
    tree.write("pipelines/more.toml", text)
    found = [line for line in tree.said() if "no route leads to" not in line]
    assert found == [f"pipelines/more.toml:{line}" for line in said], what


def test_a_url_stands_before_the_endpoints(tree: Tree) -> None:
    tree.pipeline("name = 'x'")
    tree.write(
        "upstreams.toml",
        "[upstream.one]\nurl = 'http://a'\nendpoints = [{ url = 'http://b', weight = 2 }]",
    )
    assert tree.compile().upstreams["one"].endpoints == (
        EndpointConfig("http://a"),
        EndpointConfig("http://b", 2),
    )


def test_an_upstream_in_two_files(tree: Tree) -> None:
    tree.pipeline("name = 'x'")
    tree.write("pipelines/more.toml", "[upstream.one]\nurl = 'http://a'\n")
    problem = tree.only()
    assert (problem.file.name, problem.line, problem.message) == (
        "more.toml",
        1,
        "upstream 'one' is there twice",
    )
    assert problem.hint.endswith("upstreams.toml:1")


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("key", "a file of keys must lie where"),
        ("upstreem", "did you mean 'upstream'?"),
        ("reqest", "did you mean 'request'?"),
        ("cors", "a pipeline has one of "),
    ],
)
def test_hints_for_files_of_neither_kind(tree: Tree, key: str, hint: str) -> None:
    tree.pipeline("name = 'x'")
    tree.write("pipelines/more.toml", f"[{key}]")
    assert tree.only().hint.startswith(hint)


@pytest.mark.parametrize(
    ("what", "text", "said"),
    [
        (
            "an unknown upstream",
            "upstream = 'on'\nprefix = '/'",
            ["6: error: route.upstream: no upstream is called 'on'"],
        ),
        (
            "keys of the wrong type",
            "upstream = 5\nprefix = 5\nmethods = ['get', 5]\nrequest = ['x', 5]",
            [
                "6: error: route.upstream: must be a string, not 5",
                "7: error: route.prefix: must be a string, not 5",
                "8: error: route.methods: must be a string, not 5",
                "9: error: no middleware is called 'x'",
                "9: error: route.request: must be a string, not 5",
            ],
        ),
        (
            "a builtin that is none",
            "prefix = '/'\nbuiltin = 'helth'",
            ["7: error: route.builtin: must be one of " + ", ".join(BUILTINS)],
        ),
        (
            "an override beside a wrong key",
            "prefix = '/'\nupstream = 'one'\ntimeout = 'x'\nauth = 5",
            [
                """8: error: route.timeout: must be a duration such as "30s", "500ms" or "5m", or a number of seconds, not 'x'""",
                "9: error: auth: must be a table, or false to leave it out",
            ],
        ),
    ],
)
def test_routes(tree: Tree, what: str, text: str, said: list[str]) -> None:
    tree.pipeline("name = 'x'\nrequest = ['auth']\n\n", route=f"\n[[route]]\n{text}")
    assert tree.said() == [f"pipelines/main.toml:{line}" for line in said], what


@pytest.mark.parametrize(
    ("what", "text", "said"),
    [
        ("one table", "[route]\npath = '/'", ["1: error: route: must be an array, not a table"]),
        ("no table in it", "route = [5]", ["1: error: route: must be a table, not 5"]),
        (
            "lists that are none",
            "request = 'auth'\nname = 5",
            [
                "1: error: request: must be an array, not 'auth'",
                "2: error: name: must be a string, not 5",
            ],
        ),
        (
            "items that are none",
            "request = ['auth', '',\n5, 'x']",
            [
                "1: error: request: must not be empty",
                "2: error: no middleware is called 'x'",
                "2: error: request: must be a string, not 5",
            ],
        ),
    ],
)
def test_pipelines(tree: Tree, what: str, text: str, said: list[str]) -> None:
    tree.write("pipelines/main.toml", text)
    assert sorted(tree.said()) == sorted(f"pipelines/main.toml:{line}" for line in said), what


def test_pipelines_with_one_name(tree: Tree) -> None:
    tree.pipeline("name = 'b'", "a", route="")
    tree.pipeline("request = []", "b", route="")
    problem = tree.only()
    assert (problem.file.name, problem.message) == ("b.toml", "'b' is the name of another pipeline")
    assert problem.hint.endswith("a.toml")


def test_upstreams_are_not_missed_while_a_file_that_may_hold_them_is_broken(tree: Tree) -> None:
    tree.pipeline("name = 'x'")
    tree.write("upstreams.toml", "[upstream.one]\nurl = \n")
    assert [problem.message for problem in tree.problems()] == ["not TOML: invalid value"]


def test_upstreams_that_did_not_load_are_there(tree: Tree) -> None:
    tree.pipeline("name = 'x'")
    tree.write("upstreams.toml", "[upstream.one]\nurl = 5")
    assert [problem.message for problem in tree.problems()] == [
        "upstream.one.url: must be a string, not 5"
    ]


def test_the_hash_is_of_all_that_was_read(tree: Tree) -> None:
    tree.environ = {"A": "1", "B": "1"}
    tree.write("gateway.toml", "admin.host = '${A}'\nadmin.token = { file = 'token' }")
    hashes = set()
    for name, text in (
        ("token", "x"),
        ("token", "y"),
        ("upstreams.toml", "[upstream.one]\nurl = 'http://a'"),
    ):
        tree.write(name, text)
        tree.pipeline("name = 'x'")
        hashes.add(tree.compile().hash)
    assert len(hashes) == 3
    tree.environ = {"A": "1", "B": "2"}
    assert tree.compile().hash in hashes
    tree.environ = {"A": "2"}
    assert tree.compile().hash not in hashes
    tree.pipeline("name = 'x'\n# more")
    assert tree.compile().hash not in hashes


PLACES = """
    name = "x"
    request = ["rate_limit.ip", "auth", "rate_limit", "company.edge:build", "transform"]
    [rate_limit.ip]
    limit = 1
    [rate_limit]
    limit = 2
    classes.a = { tokens = 1 }
    ["company.edge:build"]
    script = "x"
    [transform]
    script = "x"
    [[route]]
    name = "r"
    prefix = "/"
    upstream = "one"
    rate_limit = { classes.a.refill = 2 }
    rate_limit.ip.limit = 3
"""


@pytest.mark.parametrize(
    ("what", "pipeline", "path", "route", "place"),
    [
        ("a key", "x", ("rate_limit", "limit"), "", ("pipelines/x.toml", 6, 1)),
        ("a key of an instance", "x", ("rate_limit.ip", "limit"), "", ("pipelines/x.toml", 4, 1)),
        (
            "an instance in two words",
            "x",
            ("rate_limit", "ip", "limit"),
            "",
            ("pipelines/x.toml", 4, 1),
        ),
        (
            "a key that is not written",
            "x",
            ("rate_limit", "window"),
            "",
            ("pipelines/x.toml", 5, 2),
        ),
        (
            "an operator's own",
            "x",
            ("company.edge:build", "script"),
            "",
            ("pipelines/x.toml", 9, 1),
        ),
        ("one without a table", "x", ("auth", "methods", 0), "", ("pipelines/x.toml", 2, 29)),
        (
            "what a route overrides",
            "x",
            ("rate_limit", "classes", "a", "refill"),
            "r",
            ("pipelines/x.toml", 16, 26),
        ),
        (
            "what it does not",
            "x",
            ("rate_limit", "classes", "a", "tokens"),
            "r",
            ("pipelines/x.toml", 7, 15),
        ),
        (
            "an instance it overrides",
            "x",
            ("rate_limit.ip", "limit"),
            "r",
            ("pipelines/x.toml", 17, 15),
        ),
        ("another route", "x", ("rate_limit", "limit"), "s", ("pipelines/x.toml", 6, 1)),
        ("a path of the file", "x", ("route", 0, "prefix"), "", ("pipelines/x.toml", 14, 1)),
        ("nothing of it", "x", (), "", ("pipelines/x.toml", 1, 1)),
        ("an upstream", "", ("upstream", "one", "url"), "", ("upstreams.toml", 2, 1)),
        ("an upstream that is not there", "", ("upstream", "two"), "", ("gateway.toml", 1, 1)),
        ("gateway.toml", "", ("listen", "port"), "", ("gateway.toml", 2, 1)),
    ],
)
def test_locate(
    tree: Tree,
    what: str,
    pipeline: str,
    path: tuple[str | int, ...],
    route: str,
    place: tuple[str, int, int],
) -> None:
    text = PLACES.replace(
        "rate_limit = { classes.a.refill = 2 }", "rate_limit.classes.a = { refill = 2 }"
    )
    tree.write("gateway.toml", "[listen]\nport = 1")
    tree.write("pipelines/x.toml", text)
    file, line, column = tree.compile().locate(pipeline, path, route)
    assert (file.relative_to(tree.root).as_posix(), line, column) == place, what


def test_routes_of_one_file_share_what_they_do_not_override(tree: Tree) -> None:
    tree.pipeline("request = ['auth']", route=ROUTE + "auth = {}")
    pipeline = tree.compile().pipelines[0]
    assert pipeline.routes[0].settings["auth"] == pipeline.settings["auth"]


def test_a_config_made_by_hand_has_no_places() -> None:
    config = LoadedConfig(GatewayConfig(), {}, (), (Path("/gateway.toml"),), "")
    assert config.locate("x", ("auth",)) == (Path("/gateway.toml"), 1, 1)
