// Verifies Sigstore bundles with @sigstore/verify: node verify_bundles.mjs MODULES TRUSTED_ROOT STAMPS [KEY.pem BUNDLE]...
import { createRequire } from "node:module";
import { createPublicKey, createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const [modules, rootFile, stamps, ...pairs] = process.argv.slice(2);
const require = createRequire(modules + "/");
const { bundleFromJSON } = require("@sigstore/bundle");
const { Verifier, toSignedEntity, toTrustMaterial } = require("@sigstore/verify");
const { TrustedRoot } = require("@sigstore/protobuf-specs");

const root = TrustedRoot.fromJSON(JSON.parse(readFileSync(rootFile, "utf8")));
const keys = {};
for (let at = 0; at < pairs.length; at += 2) {
  const pem = readFileSync(pairs[at]);
  keys[createHash("sha256").update(pem).digest("hex")] = { publicKey: createPublicKey(pem), validFor: () => true };
}
const trust = toTrustMaterial(root, (hint) => keys[hint]);
const verifier = new Verifier(trust, { tlogThreshold: 1, ctlogThreshold: 0, timestampThreshold: Number(stamps) });
for (let at = 1; at < pairs.length; at += 2) {
  verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(readFileSync(pairs[at], "utf8")))));
  console.log("OK", pairs[at]);
}
