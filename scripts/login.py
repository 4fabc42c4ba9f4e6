"""Logs in as a browser would, by authorization code with PKCE, and prints the identity token.
login.py ISSUER EMAIL"""
import base64, hashlib, json, secrets, sys, urllib.error, urllib.parse, urllib.request

issuer, email = sys.argv[1:]


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


opener = urllib.request.build_opener(Stay)
with opener.open(f"{issuer}/.well-known/openid-configuration") as answer:
    document = json.load(answer)
assert document["issuer"] == issuer, document
verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(8)
challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
redirect = "http://localhost:9/auth/callback"
query = dict(client_id="sigstore", response_type="code", scope="openid email", redirect_uri=redirect, state=state,
             nonce="n", code_challenge=challenge, code_challenge_method="S256")
# Without a name there is a page that asks for one.
with opener.open(document["authorization_endpoint"] + "?" + urllib.parse.urlencode(query)) as page:
    assert b"login_hint" in page.read()
try:
    opener.open(document["authorization_endpoint"] + "?" + urllib.parse.urlencode(query | {"login_hint": email}))
    sys.exit("expected a redirect")
except urllib.error.HTTPError as answer:
    location = urllib.parse.urlsplit(answer.headers["location"])
answer = dict(urllib.parse.parse_qsl(location.query))
assert answer["state"] == state, answer
form = dict(grant_type="authorization_code", code=answer["code"], redirect_uri=redirect, client_id="sigstore")


def redeem(verifier):
    data = urllib.parse.urlencode(form | {"code_verifier": verifier}).encode()
    with opener.open(document["token_endpoint"], data) as answer:
        return json.load(answer)["id_token"]


token = redeem(verifier)
try:
    redeem(verifier)
    sys.exit("a code was good for two tokens")
except urllib.error.HTTPError as refused:
    assert refused.code == 400
print(token)
