"""What knowing the caller costs: the partner profile by API key, by a token seen before and by one
never seen, beside Envoy.

    bench/setup.sh                          # once a machine
    python -m bench.auth                    # seven rows, three rounds of 4 s each: about three minutes

The same features, load, cores and figure as in compare.py, in one interleaved run. Tokens are RS256
with a key of 2,048 bits, verified with a key set from a file on both sides.

    key      an API key: `api_key` here, `api_key_auth` in Envoy
    cached   one token in every request: remembered here; in Envoy with `jwt_cache_config`
    every    one token in every request, Envoy without that option, as it comes: it verifies every time
    uncached --tokens different tokens in turn, more than anybody remembers: verified every time on both sides
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench import compare
from bench.compare import HEADERS, PEER_PORT, PEERS, Load, Profile, Round

HERE = Path(__file__).resolve().parent
ISSUER, AUDIENCE = "https://id.example.com", "edge"
PATH = "/api/v1/cameras"
PLAIN_HEADERS = tuple(header for header in HEADERS if not header.startswith("X-API-Key"))
CACHE = "jwt_cache_config: {jwt_cache_size: 1000},"

ENTRY = 'methods = ["api_key"]\napi_key = { header = "X-API-Key", file = "../keys.toml" }\n'
JWT = f"""methods = ["jwt"]
[[auth.jwt]]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
algorithms = ["RS256"]
key = {{ file = "../../jwks.json" }}
"""

SCRIPT = """-- Another token in every request, in turn.
local tokens = {}
for line in io.lines("{tokens}") do tokens[#tokens + 1] = "Bearer " .. line end
local number = 0
request = function()
  number = number % #tokens + 1
  wrk.headers["Authorization"] = tokens[number]
  return wrk.format("GET", wrk.path)
end
"""


@dataclass(frozen=True)
class Row:
    """One thing to measure: `of` compares what with what, `command` starts it."""

    of: str
    proxy: str
    command: tuple[str, ...]
    port: int
    profile: Profile


def signed(pem: bytes, first: int, count: int) -> list[str]:
    """So many tokens, no two alike."""
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    now = int(time.time())
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "partner", "iat": now, "exp": now + 86_400}
    return [
        jwt.encode({**said, "jti": str(number)}, key, "RS256", {"kid": "k1"})
        for number in range(first, first + count)
    ]


def tokens(work: Path, count: int) -> str:
    """Writes the key set and as many tokens, and the script that sends them; returns one more."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    document = {"keys": [{**public, "kid": "k1", "alg": "RS256", "use": "sig"}]}
    (work / "jwks.json").write_text(json.dumps(document))
    shares = os.cpu_count() or 1
    size = -(-count // shares)
    with ProcessPoolExecutor(shares) as pool:
        made = pool.map(signed, [pem] * shares, range(0, size * shares, size), [size] * shares)
        (work / "tokens").write_text("\n".join(token for share in made for token in share) + "\n")
    (work / "tokens.lua").write_text(SCRIPT.replace("{tokens}", str(work / "tokens")))
    return signed(pem, -1, 1)[0]


def write_gateway(work: Path) -> Path:
    """The partner profile's configuration with tokens in place of API keys."""
    shutil.copytree(HERE / "partner", work / "jwt", ignore=shutil.ignore_patterns("*.log", ".*"))
    pipeline = work / "jwt" / "pipelines" / "partner.toml"
    text = pipeline.read_text()
    assert ENTRY in text, "bench/partner has changed"
    pipeline.write_text(text.replace(ENTRY, JWT))
    return work / "jwt" / "gateway.toml"


def write_envoy(work: Path) -> None:
    """Envoy's configurations, with and without its cache."""
    text = (
        (work / "envoy-jwt.yaml")
        .read_text()
        .replace("{issuer}", ISSUER)
        .replace("{audience}", AUDIENCE)
    )
    (work / "envoy-jwt.yaml").write_text(text.replace("{cache}", ""))
    (work / "envoy-jwt-cache.yaml").write_text(text.replace("{cache}", CACHE))


def rows(options: argparse.Namespace, work: Path) -> list[Row]:
    """Everything that is measured; Envoy is left out, aloud, where it is not installed."""
    token = tokens(work, options.tokens)
    ours = (sys.executable, "-m", "gateway", "run", "--config")
    one = Profile("jwt", PATH, (*PLAIN_HEADERS, f"Authorization: Bearer {token}"))
    many = Profile("jwt", PATH, PLAIN_HEADERS, str(work / "tokens.lua"))
    key, file = compare.PROFILES["partner"], str(write_gateway(work))
    found = [
        Row("key", "gateway", (*ours, str(HERE / "partner" / "gateway.toml")), options.port, key),
        Row("cached", "gateway", (*ours, file), options.port, one),
        Row("uncached", "gateway", (*ours, file), options.port, many),
    ]
    search = f"{options.peers_dir}/bin{os.pathsep}{os.environ.get('PATH', '')}"
    program = shutil.which("envoy", path=search)
    if program is None:
        print("envoy is not installed: bench/setup.sh", file=sys.stderr)
        return found
    write_envoy(work)

    def envoy(of: str, conf: str, profile: Profile) -> Row:
        words = [part.replace("{conf}", str(work / conf)) for part in PEERS["envoy"].command[1:]]
        return Row(of, "envoy", (program, *words), PEER_PORT, profile)

    return [
        *found,
        envoy("key", "envoy-partner.yaml", key),
        envoy("cached", "envoy-jwt-cache.yaml", one),
        envoy("every", "envoy-jwt.yaml", one),
        envoy("uncached", "envoy-jwt.yaml", many),
    ]


def measure(chosen: list[Row], options: argparse.Namespace, work: Path) -> dict[Row, list[Round]]:
    results: dict[Row, list[Round]] = {row: [] for row in chosen}
    with (work / "stderr.log").open("wb") as log:
        origin = subprocess.Popen(
            ["taskset", "-c", "0", "nginx", "-c", str(work / "origin.conf")], stderr=log
        )
        try:
            compare.wait_port(29001, origin)
            for _ in range(options.rounds):
                for row in chosen:
                    load = Load(row.profile, options.seconds, options.connections)
                    try:
                        results[row].append(
                            compare.one_round(list(row.command), row.port, load, work, log)
                        )
                    except (RuntimeError, subprocess.CalledProcessError) as error:
                        print(
                            f"{row.proxy} {row.of}: {error}; see {work}/stderr.log", file=sys.stderr
                        )
        finally:
            compare.stop(origin)
    return results


def show(results: Mapping[Row, list[Round]], options: argparse.Namespace) -> None:
    middles = {
        (row.proxy, row.of): sorted(found, key=lambda one: one.cpu_us)[len(found) // 2]
        for row, found in results.items()
        if found
    }
    print(
        f"partner profile, {options.connections} connections, {options.rounds} rounds of "
        f"{options.seconds} s, one core each"
    )
    print(
        f"{'':8} {'':9} {'cpu us/req':>10} {'gateway/it':>10} {'req/s':>9} {'p50':>9} "
        f"{'p99':>9} "
        f"{'RSS MiB':>8}  failed"
    )
    for (proxy, of), middle in middles.items():
        ours = middles.get(("gateway", "cached" if of == "every" else of))
        ratio = f"{ours.cpu_us / middle.cpu_us:.2f}" if ours is not None else "-"
        print(
            f"{proxy:8} {of:9} {middle.cpu_us:10.1f} {ratio:>10} {middle.rps:9.0f} "
            f"{middle.p50:>9} {middle.p99:>9} "
            f"{middle.rss_mib:8.0f}  {middle.failed} {middle.errors}"
        )


def arguments() -> argparse.Namespace:
    parser = compare.options_of(__doc__)
    parser.add_argument(
        "--tokens",
        type=int,
        default=25_000,
        help="different ones of `uncached`; 20,000 at most are remembered",
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if compare.lacking():
        return 1
    work = Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    compare.write_templates(work)
    results = measure(rows(options, work), options, work)
    show(results, options)
    if options.json:
        named = {
            f"{row.proxy} {row.of}": [asdict(one) for one in found]
            for row, found in results.items()
        }
        options.json.write_text(json.dumps(named, indent=1))
    if not all(results.values()):
        return 1
    shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
