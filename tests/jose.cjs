// Makes and verifies tokens with Node's jose. Reads one JSON object from standard input, prints one.
//   node tests/jose.cjs FOLDER sign    {"algorithms": [...], "claims": {...}, "secret": "..."} -> {ALG: {token, pem, jwk}}
//   node tests/jose.cjs FOLDER verify  [{"alg", "token", "pem" | "secret" | "jwks", "issuer", "audience"}] -> [claims or error]
// FOLDER holds node_modules/jose (bin/test installs it).
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const jose = createRequire(process.argv[2] + "/from.js")("jose");
const asked = JSON.parse(readFileSync(0, "utf8"));

async function sign({ algorithms, claims, secret }) {
  const made = {};
  for (const alg of algorithms) {
    const kid = "jose-" + alg;
    const signer = new jose.SignJWT(claims).setProtectedHeader({ alg, kid, typ: "JWT" });
    if (alg.startsWith("HS")) {
      made[alg] = { token: await signer.sign(new TextEncoder().encode(secret)) };
      continue;
    }
    const { publicKey, privateKey } = await jose.generateKeyPair(alg, { extractable: true });
    const jwk = { ...(await jose.exportJWK(publicKey)), kid, alg, use: "sig" };
    made[alg] = { token: await signer.sign(privateKey), pem: await jose.exportSPKI(publicKey), jwk };
  }
  return made;
}

async function verify(list) {
  const found = [];
  for (const { alg, token, pem, secret, jwks, issuer, audience } of list) {
    try {
      let key;
      if (secret) key = new TextEncoder().encode(secret);
      else if (jwks) key = jose.createLocalJWKSet(jwks);
      else key = await jose.importSPKI(pem, alg);
      found.push((await jose.jwtVerify(token, key, { algorithms: [alg], issuer, audience })).payload);
    } catch (error) {
      found.push({ error: error.code });
    }
  }
  return found;
}

({ sign, verify })[process.argv[3]](asked).then((answer) => console.log(JSON.stringify(answer)));
