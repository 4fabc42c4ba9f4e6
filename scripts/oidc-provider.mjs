// Three OIDC issuers on loopback by the certified `oidc-provider`: people (authorization code with PKCE), jobs as
// GitHub Actions has them, and jobs of some other CI. Prints their URLs as one line of JSON.
// node oidc-provider.mjs NODE_MODULES
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
const { Provider } = await import(pathToFileURL(createRequire(`${process.argv[2]}/`).resolve('oidc-provider')));

const client = {
  client_id: 'sigstore',
  token_endpoint_auth_method: 'none',
  redirect_uris: ['http://127.0.0.1:9/callback'], // nobody needs to listen there
  grant_types: ['authorization_code'],
  response_types: ['code'],
};
const configuration = () => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return {
    clients: [client],
    conformIdTokenClaims: false, // the address stands in the ID token
    claims: { email: ['email', 'email_verified'] },
    cookies: { keys: ['test'] },
    features: { devInteractions: { enabled: false } },
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: randomUUID() }] },
    ttl: { IdToken: 600 },
  };
};

const listen = async (issuer) => {
  const server = createServer();
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  const url = `http://127.0.0.1:${server.address().port}`;
  server.on('request', issuer(url).callback());
  return url;
};

const people = (url) => {
  const provider = new Provider(url, {
    ...configuration(),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    findAccount: async (_, id) => ({ accountId: id, claims: async () => ({ sub: id, email: id, email_verified: true }) }),
    loadExistingGrant: async ({ oidc }) => {
      const grant = new oidc.provider.Grant({ clientId: client.client_id, accountId: oidc.session.accountId });
      grant.addOIDCScope('openid email');
      await grant.save();
      return grant;
    },
  });
  provider.use(async (ctx, next) => { // the login page: whomever login_hint names
    if (!ctx.path.startsWith('/interaction/')) return next();
    const { params } = await provider.interactionDetails(ctx.req, ctx.res);
    await provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: params.login_hint } });
    ctx.respond = false;
  });
  return provider;
};

const jobs = (claims) => (url) => {
  const provider = new Provider(url, configuration());
  provider.use(async (ctx, next) => { // as a runner asks: ACTIONS_ID_TOKEN_REQUEST_URL
    if (ctx.path !== '/job') return next();
    const token = new provider.IdToken({ sub: claims.sub }, { client: await provider.Client.find(client.client_id) });
    token.scope = 'openid';
    const now = Math.floor(Date.now() / 1000);
    for (const [name, value] of Object.entries({ ...claims, nbf: now, jti: randomUUID() })) token.set(name, value);
    ctx.body = { value: await token.issue({ use: 'idtoken', expiresAt: now + 600 }) };
  });
  return provider;
};

const workflow = 'acme/widget/.github/workflows/release.yml@refs/heads/main';
const sha = 'a'.repeat(40);
console.log(JSON.stringify({
  people: await listen(people),
  github: await listen(jobs({
    sub: 'repo:acme/widget:ref:refs/heads/main', repository: 'acme/widget', repository_id: '1', repository_owner: 'acme',
    repository_owner_id: '2', repository_visibility: 'private', ref: 'refs/heads/main', ref_type: 'branch', sha,
    workflow: 'release', event_name: 'push', run_id: '10', run_attempt: '1', runner_environment: 'self-hosted',
    workflow_ref: workflow, workflow_sha: sha, job_workflow_ref: workflow, job_workflow_sha: sha,
  })),
  other: await listen(jobs({ sub: 'pipeline:acme/widget/release', pipeline: 'acme/widget/release', commit: sha, build: 7 })),
}));
