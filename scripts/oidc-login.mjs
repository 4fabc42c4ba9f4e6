// Logs in at a provider that asks nothing but a name, by authorization code with PKCE, and prints the identity token.
// node oidc-login.mjs ISSUER EMAIL
import { createHash, randomBytes } from 'node:crypto';
const [issuer, email] = process.argv.slice(2);
const redirect_uri = 'http://127.0.0.1:9/callback';
const verifier = randomBytes(32).toString('base64url');
const { authorization_endpoint, token_endpoint } = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
let url = `${authorization_endpoint}?${new URLSearchParams({
  client_id: 'sigstore', response_type: 'code', scope: 'openid email', redirect_uri, login_hint: email, state: 'state', nonce: 'nonce',
  code_challenge_method: 'S256', code_challenge: createHash('sha256').update(verifier).digest('base64url'),
})}`;
const cookies = new Map();
while (!url.startsWith(redirect_uri)) { // as a browser follows, with its cookies
  const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  const reply = await fetch(url, { redirect: 'manual', headers: { cookie } });
  for (const line of reply.headers.getSetCookie()) {
    const [, name, value] = line.match(/^([^=]*)=([^;]*)/);
    cookies.set(name, value);
  }
  const location = reply.headers.get('location');
  if (!location) throw new Error(`expected a redirect: ${reply.status} ${await reply.text()}`);
  url = new URL(location, url).href;
}
const code = new URL(url).searchParams.get('code');
const form = new URLSearchParams({ grant_type: 'authorization_code', code, redirect_uri, client_id: 'sigstore', code_verifier: verifier });
const reply = await (await fetch(token_endpoint, { method: 'POST', body: form })).json();
if (!reply.id_token) throw new Error(JSON.stringify(reply));
console.log(reply.id_token);
