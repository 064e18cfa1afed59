// The unmodified `@sigstore/verify` package against bundles of ours.
// Usage: node sigstore_verify.mjs TRUST_DIR BUNDLE...
// TRUST_DIR holds what was handed over apart from the records: `trusted_root.json`, and a public
// key as `keys/<hint>.pem` per signer. Each bundle must be accepted as it is, and refused once its
// payload, signature, proof hash or checkpoint is changed. One line a check; exits 1 on a failure.
import { createPublicKey } from "node:crypto";
import { readFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { bundleFromJSON } from "@sigstore/bundle";
import { TrustedRoot } from "@sigstore/protobuf-specs";
import { Verifier, toSignedEntity, toTrustMaterial } from "@sigstore/verify";

const [trustDir, ...files] = process.argv.slice(2);
const root = TrustedRoot.fromJSON(JSON.parse(readFileSync(join(trustDir, "trusted_root.json"), "utf8")));

// Keys come from the trust directory alone; a hint without a file there is a key nobody vouched for.
function publicKey(hint) {
  const path = join(trustDir, "keys", `${hint}.pem`);
  if (!/^[0-9a-f]{64}$/.test(hint) || !existsSync(path)) throw new Error(`no trusted key ${hint}`);
  return { publicKey: createPublicKey(readFileSync(path)), validFor: () => true };
}

// No certificates and no timestamp authority: the log's checkpoint is what counts.
const verifier = new Verifier(toTrustMaterial(root, publicKey), {
  ctlogThreshold: 0,
  timestampThreshold: 0,
  tlogThreshold: 1,
});
const accepts = (bundle) => verifier.verify(toSignedEntity(bundleFromJSON(bundle)));

let failures = 0;
function report(name, held, why = "") {
  if (!held) failures += 1;
  console.log(`${held ? "ok    " : "FAILED"} ${name} ${why}`);
}

const flip = (base64) => {
  const bytes = Buffer.from(base64, "base64");
  bytes[bytes.length - 1] ^= 1;
  return bytes.toString("base64");
};
const flipDigit = (base64) => {
  const text = Buffer.from(base64, "base64").toString();
  const at = text.search(/"seq":\d/);
  if (at < 0) throw new Error("the payload has no number to change");
  const digit = text[at + 6] === "9" ? "8" : "9";
  return Buffer.from(text.slice(0, at + 6) + digit + text.slice(at + 7)).toString("base64");
};

const changes = {
  "changed payload": (b) => { b.dsseEnvelope.payload = flipDigit(b.dsseEnvelope.payload); },
  "changed signature": (b) => {
    b.dsseEnvelope.signatures[0].sig = flip(b.dsseEnvelope.signatures[0].sig);
  },
  "changed proof hash": (b) => {
    const { hashes } = b.verificationMaterial.tlogEntries[0].inclusionProof;
    hashes[0] = flip(hashes[0]);
  },
  "changed checkpoint": (b) => {
    const { checkpoint } = b.verificationMaterial.tlogEntries[0].inclusionProof;
    const lines = checkpoint.envelope.split("\n");
    lines[1] = String(BigInt(lines[1]) + 1n);
    checkpoint.envelope = lines.join("\n");
  },
};

for (const file of files) {
  const text = readFileSync(file, "utf8");
  try {
    accepts(JSON.parse(text));
    report(`accepts ${file}`, true);
  } catch (error) {
    report(`accepts ${file}`, false, error.message);
  }
  for (const [name, change] of Object.entries(changes)) {
    const bundle = JSON.parse(text);
    change(bundle);
    let refused = null;
    try {
      accepts(bundle);
    } catch (error) {
      refused = error.message;
    }
    report(`refuses ${name} of ${file}`, refused !== null, refused ?? "");
  }
}
if (files.length === 0) report("was given bundles", false);
process.exit(failures === 0 ? 0 : 1);
