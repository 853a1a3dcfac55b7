"""Middlewares in lists and tables, through whole trees: what is loaded, what is said, and where."""

import pytest

from gateway.config.check.settings import Kinds, UnknownKind, kind_of
from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Whole
from tests.unit.config.tree import ROUTE, TABLES, AuthConfig, LimitConfig, TransformConfig, Tree


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("auth", "auth"),
        ("rate_limit.ip", "rate_limit"),
        ("company.edge:build", "company.edge:build"),
    ],
)
def test_kind_of(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_each_kind_is_looked_up_once() -> None:
    asked = []

    def schema_for(name: str) -> None:
        asked.append(name)
        raise LookupError

    kinds = Kinds(schema_for, ["a"])
    for _ in range(2):
        assert not kinds.knows("a")
        with pytest.raises(UnknownKind, match="no middleware is called 'a'"):
            kinds.table("a")
    assert asked == ["a"]


def test_every_listed_middleware_is_loaded(tree: Tree) -> None:
    tree.pipeline("""
        request = ["rate_limit.ip", "auth", "rate_limit", "company.edge:build"]
        response = ["logging"]
        error = ["logging"]
        [rate_limit.ip]
        limit = 5
        [rate_limit]
        key = "client"
        [logging]
        file = "-"
        ["company.edge:build"]
        script = "x"
    """)
    config = tree.compile()
    assert config.pipelines[0].settings == {
        "rate_limit.ip": LimitConfig(limit=5),
        "auth": AuthConfig(),
        "rate_limit": LimitConfig(key="client"),
        "company.edge:build": TransformConfig("x"),
        "logging": {"file": "-"},
    }
    assert config.warnings == ()


@table
class DeclaredConfig:
    """An operator's own table, declared in one piece."""

    script: str = setting(doc="what to run")
    level: int = setting(Whole(least=0), default=3, doc="how much")


def test_an_operator_s_table_may_be_declared(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "company.edge:build", DeclaredConfig)
    name = '"company.edge:build"'
    tree.pipeline(f"request = [{name}]\n[{name}]\nscript = 'x'\n")
    assert tree.compile().pipelines[0].settings["company.edge:build"] == DeclaredConfig("x")
    tree.pipeline(f"request = [{name}]\n[{name}]\nlevle = -1\n")
    assert tree.said() == [
        "pipelines/main.toml:2: error: company.edge:build.script: is missing",
        "pipelines/main.toml:3: error: company.edge:build.levle: is not a known key",
    ]


def test_a_list_may_be_one_string_from_the_environment(tree: Tree) -> None:
    tree.environ = {"BEFORE": "rate_limit.ip, auth", "NOTHING": ""}
    tree.pipeline("request = '${BEFORE}'\nresponse = '${NOTHING}'\nerror = '${NOTHING}'")
    config = tree.compile().pipelines[0]
    assert (config.request, config.response, config.error) == (("rate_limit.ip", "auth"), (), ())
    tree.environ = {"BEFORE": "auth, auht", "NOTHING": ""}
    assert tree.said() == ["pipelines/main.toml:1: error: no middleware is called 'auht'"]


def test_a_name_may_be_quoted_whole(tree: Tree) -> None:
    tree.pipeline("""
        request = ["rate_limit.ip"]
        ["rate_limit.ip"]
        limit = 5
    """)
    assert tree.compile().pipelines[0].settings["rate_limit.ip"] == LimitConfig(limit=5)


def test_an_instance_inherits_nothing(tree: Tree) -> None:
    tree.pipeline("""
        request = ["rate_limit.ip", "rate_limit"]
        [rate_limit]
        limit = 5
    """)
    assert tree.compile().pipelines[0].settings["rate_limit.ip"] == LimitConfig()


def test_a_middleware_without_a_schema_gets_its_table_in_ordinary_values(tree: Tree) -> None:
    tree.environ = {"X": "x"}
    tree.pipeline("""
        request = ["validation"]
        [validation]
        body = { file = "a.json" }
        text = "${X}"
    """)
    table = tree.compile().pipelines[0].settings["validation"]
    assert table == {"body": {"file": "a.json"}, "text": "x"}
    assert [type(table["body"]), type(table["text"])] == [dict, str]


@pytest.mark.parametrize(
    ("what", "text", "said"),
    [
        (
            "an unknown middleware",
            'request = ["auth",\n"rate_limt"]',
            ["2: error: no middleware is called 'rate_limt'"],
        ),
        (
            "an unknown one with a table",
            'request = ["rate_limt"]\n[rate_limt]\nlimit = 1',
            ["1: error: no middleware is called 'rate_limt'"],
        ),
        (
            "an instance of an unknown one",
            'response = ["x.ip"]',
            ["1: error: no middleware is called 'x'"],
        ),
        (
            "one that cannot be loaded",
            'request = ["company.broken:build"]',
            ["1: error: cannot load company.broken:build: ZeroDivisionError: while importing"],
        ),
        (
            "a name twice",
            'request = ["auth", "cors", "auth"]\nerror = ["cors"]',
            ["1: error: request: 'auth' is listed twice"],
        ),
        (
            "an instance without a name",
            'request = ["rate_limit."]',
            ["1: error: 'rate_limit.': an instance is named in letters, digits, '-' and '_'"],
        ),
        (
            "an instance of an instance",
            'request = ["rate_limit.a.b"]',
            ["1: error: 'rate_limit.a.b': an instance is named in letters, digits, '-' and '_'"],
        ),
        (
            "an instance called like a key",
            'request = ["rate_limit.classes"]',
            [
                (
                    "1: error: 'rate_limit.classes': 'classes' is a key of [rate_limit] and cannot "
                    "name an instance"
                )
            ],
        ),
        (
            "a table that is in no list",
            "name = 'x'\n[rate_limit]\nlimit = 0",
            ["2: warning: [rate_limit] has no effect: it is in none of the lists"],
        ),
        (
            "a table of an instance only that is in no list",
            "name = 'x'\n[rate_limit.ip]\nlimit = 0",
            ["2: warning: [rate_limit] has no effect: it is in none of the lists"],
        ),
        (
            "keys for one of which only the instance is listed",
            "request = ['rate_limit.ip']\n[rate_limit]\nlimit = 0\n[rate_limit.ip]\nlimit = 1",
            ["2: warning: [rate_limit] has no effect: it is in none of the lists"],
        ),
        (
            "an instance that is not listed",
            "request = ['rate_limit']\n[rate_limit.ip]\nlimit = 1",
            ["2: error: rate_limit.ip: is not a known key"],
        ),
        (
            "a key that is none",
            "name = 'x'\nreqest = ['auth']\n[auht]\n",
            ["2: error: reqest: is not a known key", "3: error: auht: is not a known key"],
        ),
        (
            "an operator's own that is not listed",
            "name = 'x'\n['company.edge:build']\nscript = ''",
            ["2: warning: [company.edge:build] has no effect: it is in none of the lists"],
        ),
        (
            "no table",
            "request = ['auth', 'logging']\nauth = 5\nlogging = true",
            ["2: error: auth: must be a table", "3: error: logging: must be a table"],
        ),
        (
            "a table twice",
            "request = ['rate_limit.ip']\n[rate_limit.ip]\nlimit = 1\n['rate_limit.ip']\nlimit = 2",
            ["4: error: 'rate_limit.ip' is configured twice"],
        ),
        (
            "a missing key in a table",
            "request = ['transform']\n[transform]\nbuffer = 1",
            ["2: error: transform.script: is missing"],
        ),
        (
            "a missing key without a table",
            "name = 'x'\nrequest = ['auth',\n'transform']",
            ["3: error: transform.script: is missing"],
        ),
        (
            "faults in tables",
            "request = ['rate_limit.ip', 'company.edge:build']\n[rate_limit.ip]\nlimit = "
            "0\nclasses.a = { tokens = 0 }\n"
            "['company.edge:build']\nscript = 'x'\nbufer = 1",
            [
                "3: error: rate_limit.ip.limit: must be at least 1",
                "4: error: rate_limit.ip.classes.a.tokens: must be at least 1",
                "7: error: company.edge:build.bufer: is not a known key",
            ],
        ),
    ],
)
def test_what_is_wrong_with_middlewares(tree: Tree, what: str, text: str, said: list[str]) -> None:
    tree.pipeline(text)
    assert tree.said() == [f"pipelines/main.toml:{line}" for line in said], what


@pytest.mark.parametrize(
    ("what", "text", "hint"),
    [
        ("a slip in a list", 'request = ["rate_limt"]', "did you mean 'rate_limit'?"),
        ("an operator's own", 'request = ["company.edge:biuld"]', ""),
        ("one that is broken", 'request = ["company.broken:build"]', ""),
        (
            "a name twice",
            'request = ["cors", "cors"]\nerror = ["cors"]',
            "the same thing twice is an instance: 'NAME.second'",
        ),
        ("a slip in a table", "name = 'x'\n[auht]", "did you mean 'auth'?"),
        ("an upstream", "name = 'x'\n[upstream.x]", "upstreams stand in a file without pipelines"),
        ("a slip in a key", "reqest = []", "did you mean 'request'?"),
        (
            "a slip in an operator's own",
            (
                "request = ['company.edge:build']\n['company.edge:build']\nscript = "
                "''\n['company.egde:build']\n"
            ),
            "did you mean 'company.edge:build'?",
        ),
        (
            "a table in no list",
            "name = 'x'\n[cors]",
            "put 'cors' into request, response or error, or remove the table",
        ),
    ],
)
def test_hints(tree: Tree, what: str, text: str, hint: str) -> None:
    tree.pipeline(text)
    assert hint in [problem.hint for problem in tree.problems()], what


def test_secrets_come_from_files_relative_to_their_toml(tree: Tree) -> None:
    tree.write("pipelines/a.txt", " from the file\n")
    tree.write("pipelines/b.txt", "of the route")
    tree.pipeline(
        "request = ['auth']\nauth.secret = { file = 'a.txt' }",
        route=ROUTE + "auth.secret = { file = 'b.txt' }",
    )
    config = tree.compile()
    assert config.pipelines[0].settings["auth"].secret == "from the file"
    assert config.pipelines[0].routes[0].settings["auth"].secret == "of the route"
    assert {path.name for path in config.files} >= {"a.txt", "b.txt"}


def test_a_secret_file_that_is_not_there(tree: Tree) -> None:
    tree.pipeline("request = ['auth']\n[auth]\nsecret = { file = 'a.txt' }")
    problem = tree.only()
    assert (problem.line, problem.message) == (
        3,
        f"auth.secret: cannot read 'a.txt': No such file or directory (in {problem.file.parent})",
    )


def test_what_routes_override_is_not_in_any_repr(tree: Tree) -> None:
    tree.pipeline(
        "request = ['auth']\nauth.secret = 'hunter1'", route=ROUTE + "auth.secret = 'hunter2'"
    )
    assert "hunter" not in repr(tree.compile())
