// A stand-in for a Rekor v1 log, for tests: a tree in memory, its entries, promises and checkpoints as that
// service makes them. It believes what it is sent: it checks no signature. On start it writes the trust
// files of an instance again, with this log beside the instance's own in trusted_root.json, and in its place
// in signing_config.json, where the timestamp authority is left out: the log's promise is then the only time.
// log.pub and ct.pub are this log's key and that of the certificate log, for clients that read no trusted root.
// node rekor-v1.mjs TRUST_FILES_OF_THE_INSTANCE OUT
import { createHash, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';

const [trust, out] = process.argv.slice(2);
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest();
const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
const spki = publicKey.export({ format: 'der', type: 'spki' });
const logId = sha256(spki);
const name = '127.0.0.1', treeId = '3904496407287907110';
// As in a log of several shards, an entry's index in the log is not its index in the tree.
const firstIndex = 25_579;

// RFC 8785, as far as these bodies need it: no numbers but integers.
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical)}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const members = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`);
  return `{${members}}`;
}

// RFC 6962, section 2.1, by its recursive definitions.
const split = (count) => 2 ** Math.ceil(Math.log2(count) - 1);
function treeHash(leaves) {
  if (leaves.length === 1) return leaves[0];
  const middle = split(leaves.length);
  return sha256(Buffer.of(1), treeHash(leaves.slice(0, middle)), treeHash(leaves.slice(middle)));
}
function auditPath(index, leaves) {
  if (leaves.length === 1) return [];
  const middle = split(leaves.length), left = leaves.slice(0, middle), right = leaves.slice(middle);
  return index < middle
    ? [...auditPath(index, left), treeHash(right)]
    : [...auditPath(index - middle, right), treeHash(left)];
}

// A PEM object is stored as Go writes it, however its text came.
const pem = (base64) => {
  const [, label, text] = /-----BEGIN ([A-Z ]+)-----([^-]+)-----END/.exec(Buffer.from(base64, 'base64'));
  const lines = text.replaceAll(/\s/g, '').match(/.{1,64}/g).join('\n');
  return Buffer.from(`-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`).toString('base64');
};
const hash = (bytes) => ({ algorithm: 'sha256', value: sha256(bytes).toString('hex') });
// What is stored of a proposed entry.
function body({ apiVersion, kind, spec }) {
  switch (`${kind} ${apiVersion}`) {
    case 'hashedrekord 0.0.1':
      spec.signature.publicKey.content = pem(spec.signature.publicKey.content);
      return { apiVersion, kind, spec };
    case 'dsse 0.0.1': {
      const { envelope: text, verifiers } = spec.proposedContent;
      const { payload, signatures } = JSON.parse(text);
      const stored = signatures.map(({ sig }, at) => ({ signature: sig, verifier: pem(verifiers[at]) }));
      const payloadHash = hash(Buffer.from(payload, 'base64'));
      return { apiVersion, kind, spec: { envelopeHash: hash(text), payloadHash, signatures: stored } };
    }
    case 'intoto 0.0.2': {
      const { envelope: { payload, ...envelope }, ...content } = spec.content;
      return { apiVersion, kind, spec: { content: { ...content, envelope } } };
    }
  }
  throw new Error(`no entries of kind ${kind} ${apiVersion} here`);
}

const signed = (text) => sign('sha256', Buffer.from(text), privateKey);
function checkpoint(leaves) {
  const note = `${name} - ${treeId}\n${leaves.length}\n${treeHash(leaves).toString('base64')}\n`;
  return `${note}\n\u2014 ${name} ${Buffer.concat([logId.subarray(0, 4), signed(note)]).toString('base64')}\n`;
}

// The first leaf is nobody's: index 0 and an empty proof vanish in the JSON that some clients write.
const leaves = [sha256(Buffer.of(0), 'seed')];
const entries = new Map();
function append(text) {
  const leaf = sha256(Buffer.of(0), text), index = leaves.length;
  const uuid = BigInt(treeId).toString(16).padStart(16, '0') + leaf.toString('hex');
  if (entries.has(uuid)) return { uuid, known: true };
  leaves.push(leaf);
  const receipt = {
    body: Buffer.from(text).toString('base64'),
    integratedTime: Math.floor(Date.now() / 1000),
    logID: logId.toString('hex'),
    logIndex: firstIndex + index,
  };
  const inclusionProof = {
    checkpoint: checkpoint(leaves),
    hashes: auditPath(index, leaves).map((node) => node.toString('hex')),
    logIndex: index,
    rootHash: treeHash(leaves).toString('hex'),
    treeSize: leaves.length,
  };
  const signedEntryTimestamp = signed(canonical(receipt)).toString('base64');
  entries.set(uuid, { ...receipt, verification: { inclusionProof, signedEntryTimestamp } });
  return { uuid, known: false };
}

const route = '/api/v1/log/entries';
function answer(method, path, text) {
  if (method === 'GET' && path.startsWith(`${route}/`)) {
    const uuid = path.slice(route.length + 1);
    return entries.has(uuid) ? [200, { [uuid]: entries.get(uuid) }] : [404, { code: 404, message: 'no such entry' }];
  }
  if (method !== 'POST' || path !== route) return [404, { code: 404, message: 'no such route' }];
  let stored;
  try {
    stored = canonical(body(JSON.parse(text)));
  } catch (error) {
    return [400, { code: 400, message: error.message }];
  }
  const { uuid, known } = append(stored);
  const headers = { ETag: uuid, Location: `${route}/${uuid}` };
  if (known) return [409, { code: 409, message: 'an equivalent entry already exists' }, headers];
  return [201, { [uuid]: entries.get(uuid) }, headers];
}

const server = http.createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const [status, reply, headers] = answer(request.method, request.url, Buffer.concat(parts).toString());
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify(reply));
  });
});
server.listen(0, '127.0.0.1', () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  const read = (file) => JSON.parse(readFileSync(`${trust}/${file}`, 'utf8'));
  const write = (file, value) => writeFileSync(`${out}/${file}`, JSON.stringify(value));
  const trustedRoot = read('trusted_root.json');
  const [own] = trustedRoot.tlogs;
  trustedRoot.tlogs.push({
    baseUrl: url,
    hashAlgorithm: 'SHA2_256',
    publicKey: {
      rawBytes: spki.toString('base64'),
      keyDetails: 'PKIX_ECDSA_P256_SHA_256',
      validFor: { start: own.publicKey.validFor.start },
    },
    logId: { keyId: logId.toString('base64') },
  });
  const { tsaUrls, tsaConfig, ...signingConfig } = read('signing_config.json');
  signingConfig.rekorTlogUrls = [{ ...signingConfig.rekorTlogUrls[0], url, majorApiVersion: 1 }];
  write('trusted_root.json', trustedRoot);
  write('signing_config.json', signingConfig);
  write('client_trust_config.json', {
    mediaType: 'application/vnd.dev.sigstore.clienttrustconfig.v0.1+json', trustedRoot, signingConfig,
  });
  const exported = (key) => key.export({ format: 'pem', type: 'spki' });
  const der = (log) => ({ key: Buffer.from(log.publicKey.rawBytes, 'base64'), format: 'der', type: 'spki' });
  writeFileSync(`${out}/log.pub`, exported(publicKey));
  writeFileSync(`${out}/ct.pub`, exported(createPublicKey(der(trustedRoot.ctlogs[0]))));
  console.log(`Serving ${url}`);
});
