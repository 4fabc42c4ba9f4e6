// Signs with sigstore-js, a file or an in-toto statement:
// node sign-js.mjs NODE_MODULES SIGNING_CONFIG file|statement FILE BUNDLE TOKEN
// node sign-js.mjs NODE_MODULES SIGNING_CONFIG file|statement FILE BUNDLE --key PUBLIC_KEY_OUT
// The second signs with a key of its own; the library has no command for that, only its interface `Signer`.
import { generateKeyPairSync, sign } from 'node:crypto';
import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';
const [modules, configFile, kind, file, out, token, keyOut] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { bundleBuilderFromSigningConfig } = require('@sigstore/sign');
const { bundleToJSON } = require('@sigstore/bundle');
const { SigningConfig } = require('@sigstore/protobuf-specs');

const statement = kind === 'statement';
const builder = bundleBuilderFromSigningConfig({
  signingConfig: SigningConfig.fromJSON(JSON.parse(readFileSync(configFile, 'utf8'))),
  identityProvider: { getToken: async () => token },
  bundleType: statement ? 'dsseEnvelope' : 'messageSignature',
});
if (token === '--key') {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const pem = publicKey.export({ format: 'pem', type: 'spki' });
  writeFileSync(keyOut, pem);
  // Without a hint: the library would write it into the envelope's keyid too, and there Go clients take none
  // but an SSH fingerprint.
  const key = { $case: 'publicKey', publicKey: pem };
  builder.signer = { sign: async (data) => ({ signature: sign('sha256', data, privateKey), key }) };
}
const artifact = { data: readFileSync(file), type: statement ? 'application/vnd.in-toto+json' : undefined };
writeFileSync(out, JSON.stringify(bundleToJSON(await builder.create(artifact))));
