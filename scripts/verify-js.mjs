// Verifies a bundle with sigstore-js against a custom trusted root:
// node verify-js.mjs NODE_MODULES TRUSTED_ROOT BUNDLE FILE IDENTITY ISSUER
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
const [modules, root, bundle, file, identity, issuer] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { Verifier, toSignedEntity, toTrustMaterial } = require('@sigstore/verify');
const { bundleFromJSON } = require('@sigstore/bundle');
const { TrustedRoot } = require('@sigstore/protobuf-specs');
const json = (path) => JSON.parse(readFileSync(path, 'utf8'));
const verifier = new Verifier(toTrustMaterial(TrustedRoot.fromJSON(json(root))));
const escaped = identity.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
const policy = { subjectAlternativeName: `^${escaped}$`, extensions: { issuer } };
const signer = verifier.verify(toSignedEntity(bundleFromJSON(json(bundle)), readFileSync(file)), policy);
console.log(`verified: ${signer.identity.subjectAlternativeName}`);
