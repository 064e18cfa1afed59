// How many bundles a second the unmodified `@sigstore/verify` package verifies on one thread, from
// their text, each with its inclusion proof and checkpoint. Usage: node sigstore_rate.mjs FOLDER;
// FOLDER is what `cargo bench -p tlog --bench verify -- --beside FOLDER` leaves. See bench/verify.
import { createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { bundleFromJSON } from "@sigstore/bundle";
import { TrustedRoot } from "@sigstore/protobuf-specs";
import { Verifier, toSignedEntity, toTrustMaterial } from "@sigstore/verify";

const [folder] = process.argv.slice(2);
const root = TrustedRoot.fromJSON(JSON.parse(readFileSync(join(folder, "trusted_root.json"), "utf8")));
const publicKey = createPublicKey({ key: readFileSync(join(folder, "key.spki")), format: "der", type: "spki" });
const trust = toTrustMaterial(root, () => ({ publicKey, validFor: () => true }));
const verifier = new Verifier(trust, { ctlogThreshold: 0, timestampThreshold: 0, tlogThreshold: 1 });
const verify = (text) => verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(text))));

const bundles = readFileSync(join(folder, "bundles.jsonl"), "utf8").split("\n");
bundles.slice(0, 500).forEach(verify); // So that the compiler has seen it.
const [start, cpu] = [process.hrtime.bigint(), process.cpuUsage()];
bundles.forEach(verify);
const wall = Number(process.hrtime.bigint() - start) / 1e9;
const { user, system } = process.cpuUsage(cpu);
const cores = (user + system) / 1e6;
const count = bundles.length;
const rate = (seconds) => (count / seconds).toFixed(0).padStart(9);
const each = ((cores / count) * 1e6).toFixed(2).padStart(8);
console.log(`${"@sigstore/verify".padEnd(44)} ${rate(wall)} /s by the clock  ${rate(cores)} /s of one core  ${each} µs each`);
