// Verifies a bundle with sigstore-js against a custom trusted root:
// node verify-js.mjs NODE_MODULES TRUSTED_ROOT BUNDLE FILE IDENTITY ISSUER
// node verify-js.mjs NODE_MODULES TRUSTED_ROOT BUNDLE FILE PUBLIC_KEY
// It does not compare an attestation's subjects with FILE: the library leaves that to its caller.
import { createPublicKey } from 'node:crypto';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
const [modules, root, bundle, file, identity, issuer] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { Verifier, toSignedEntity, toTrustMaterial } = require('@sigstore/verify');
const { bundleFromJSON } = require('@sigstore/bundle');
const { TrustedRoot } = require('@sigstore/protobuf-specs');
const json = (path) => JSON.parse(readFileSync(path, 'utf8'));
const key = issuer ? undefined : { publicKey: createPublicKey(readFileSync(identity)), validFor: () => true };
const verifier = new Verifier(toTrustMaterial(TrustedRoot.fromJSON(json(root)), key && (() => key)));
const entity = toSignedEntity(bundleFromJSON(json(bundle)), readFileSync(file));
if ((entity.key.$case === 'public-key') !== Boolean(key)) throw new Error(`the bundle is signed by ${entity.key.$case}`);
const escaped = identity.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
const policy = key ? undefined : { subjectAlternativeName: `^${escaped}$`, extensions: { issuer } };
const signer = verifier.verify(entity, policy);
console.log(`verified: ${key ? 'by the key' : signer.identity.subjectAlternativeName}`);
