use super::*;

const GOOD: &str = r#"
url = "https://sigstore.example.com"
organization = "Example"
listen = "127.0.0.1:8420"
issuers = "chain.crt"

[[issuing]]
key = "key.pem"
certificates = "chain.crt"

[[issuing]]
key = "key.pem"
certificates = "chain.crt"
from = "2027-01-01T00:00:00Z"

[[timestamps]]
key = "key.pem"
certificates = "chain.crt"
"#;

fn parse(text: &str) -> Result<Config, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    for name in ["key.pem", "chain.crt"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    Config::parse(text, folder.path(), Path::is_file)
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
}

#[test]
fn a_good_configuration_says_what_it_says() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8420");
    assert!(config.issuers.unwrap().ends_with("chain.crt"));
    assert_eq!(config.issuing[0].from, Timestamp::MIN);
    assert_eq!(config.issuing[1].from.to_string(), "2027-01-01T00:00:00Z");
    assert!(config.tls.is_none());
}

#[test]
fn how_a_policy_is_in_force_is_said_of_one_that_is_there() {
    let terms = "policy = \"chain.crt\"\npolicy-dry-run = true\nrequire-intent = true\nissuers";
    let terms = parse(&GOOD.replacen("issuers", terms, 1)).unwrap().policy_terms;
    assert!(terms.dry_run && terms.require_intent);
    let terms = parse(&GOOD.replacen("issuers", "policy = \"chain.crt\"\nissuers", 1)).unwrap();
    assert!(!terms.policy_terms.dry_run && !terms.policy_terms.require_intent);
    for term in ["policy-dry-run = true", "require-intent = false"] {
        let found = parse(&GOOD.replacen("issuers", &format!("{term}\nissuers"), 1));
        assert_eq!(found.unwrap_err(), ["line 1: policy is missing"]);
    }
}

#[test]
fn witnesses_are_a_policy_file_a_time_and_what_happens_without_them() {
    let config = with("[witnesses]\npolicy = \"chain.crt\"").unwrap().witnesses.unwrap();
    assert_eq!(config.witness_timeout, Duration::from_secs(1));
    assert_eq!(config.witness_lacking, Action::Publish);
    let table = "[witnesses]\npolicy = \"chain.crt\"\ntimeout = \"250ms\"\nlacking = \"hold\"";
    let config = with(table).unwrap().witnesses.unwrap();
    assert_eq!(config.witness_timeout, Duration::from_millis(250));
    assert_eq!(config.witness_lacking, Action::Hold);
    for (table, expected) in [
        ("[witnesses]", "line 7: witnesses.policy is missing"),
        (
            "[witnesses]\npolicy = \"chain.crt\"\nlacking = \"go on\"",
            "line 9: witnesses.lacking: expected \"publish\" or \"hold\", found \"go on\"",
        ),
    ] {
        assert_eq!(with(table).unwrap_err(), [expected]);
    }
}

fn with(table: &str) -> Result<Config, Vec<String>> {
    parse(&GOOD.replacen("[[issuing]]", &format!("{table}\n[[issuing]]"), 1))
}

#[test]
fn what_is_taken_on_and_from_whom_is_what_is_usual_unless_said() {
    let usual = parse(GOOD).unwrap();
    assert_eq!((usual.issuance, &usual.limits), (Issuance::default(), &Limits::default()));
    assert!(usual.takes.certificates.is_none() && usual.takes.keys.is_none());
    let config = with(
        "[issuance]\none-time-tokens = true\nper-identity-a-minute = 0x1e\n[log]\ncertificates = [\"own\", \"chain.crt\"]\nkeys = []\n[limits]\nrequests = 9\nburst = 1_000\nhead-timeout = \"5s\"",
    );
    let config = config.unwrap();
    assert_eq!(config.issuance.per_minute.unwrap().get(), 30);
    assert!(config.issuance.one_time_tokens);
    assert_eq!((config.limits.requests, config.limits.burst.get()), (9, 1000));
    assert_eq!(config.limits.rate, usual.limits.rate);
    assert_eq!(config.limits.head, Duration::from_secs(5));
    let [Authorities::Own, Authorities::Of(root)] = &config.takes.certificates.unwrap()[..] else {
        panic!("two authorities")
    };
    assert!(root.ends_with("chain.crt"));
    assert_eq!(config.takes.keys, Some(vec![]));
}

#[test]
fn mistakes_about_what_is_taken_on_are_told_all_at_once() {
    let number = "expected a whole number from 1 to 1000000, found";
    for (table, expected) in [
        ("[limits]\nrequests = 0", format!("line 8: limits.requests: {number} 0")),
        ("[limits]\nrate = -1", format!("line 8: limits.rate: {number} -1")),
        ("[limits]\nburst = 1000001", format!("line 8: limits.burst: {number} 1000001")),
        (
            "[limits]\nconnections = \"9\"",
            "line 8: limits.connections: expected a whole number, found string".to_owned(),
        ),
        (
            "[limits]\nhead-timeout = \"2h\"\ndrain-timeout = \"0s\"",
            ["line 8: limits.head-timeout: expected a duration of at most an hour, such as \"30s\", found \"2h\"",
             "line 9: limits.drain-timeout: expected a duration of at most an hour, such as \"30s\", found \"0s\""].join("\n"),
        ),
        (
            "[limits]\nbirst = 7",
            "line 8: limits.birst is unknown; did you mean \"burst\"?".to_owned(),
        ),
        (
            "[issuance]\none-time-tokens = \"yes\"\nper-identity-a-minute = 1.5",
            "line 8: issuance.one-time-tokens: expected true or false, found string\nline 9: issuance.per-identity-a-minute: expected a whole number, found float".to_owned(),
        ),
        (
            "[log]\ncertificates = [\"gone\", 7]\nkeys = \"key.pem\"",
            "line 8: log.certificates: expected \"own\", or the name of a file that is there, a trusted root, found \"gone\"\nline 8: log.certificates: expected texts in quotes, found integer\nline 9: log.keys: expected a list of texts, found string".to_owned(),
        ),
    ] {
        assert_eq!(with(table).unwrap_err().join("\n"), expected, "{table}");
    }
}

#[test]
fn each_mistake_is_told_with_its_line_what_was_expected_and_what_was_found() {
    let tls = "[tls]\ncertificate = \"chain.crt\"\nkey = \"key.pem\"\n\n[[issuing]]";
    let plain_and_tls = format!("plain-http-beyond-loopback-is-unsafe = true\n{tls}");
    let token = "key = \"pkcs11:token=a?module-path=b&pin-source=file:c\"\ncertificates";
    let mut wrong = Vec::new();
    for (from, to, expected) in [
        ("url =", "ulr =", "line 1: url is missing\nline 2: ulr is unknown; did you mean \"url\"?"),
        (
            "https://sigstore",
            "sigstore",
            "line 2: url: expected a URL without path, such as \"https://sigstore.example.com\", found \"sigstore.example.com\"",
        ),
        (
            ".com\"\norg",
            ".com/sub\"\norg",
            "line 2: url: expected a URL without path, such as \"https://sigstore.example.com\", found \"https://sigstore.example.com/sub\"",
        ),
        (
            "https://sigstore",
            "http://sigstore",
            "line 2: url: expected https, because it is not on loopback; found \"http://sigstore.example.com/\"; clients refuse plain HTTP beyond loopback",
        ),
        (
            "\"Example\"",
            "\"Example, Inc.\"",
            "line 3: organization: expected a name of up to 40 letters, digits, spaces and hyphens, found \"Example, Inc.\"",
        ),
        ("\"Example\"", "7", "line 3: organization: expected a text in quotes, found integer"),
        (
            "127.0.0.1:8420",
            "8420",
            "line 4: listen: expected an address and port, such as \"127.0.0.1:8420\", found \"8420\"",
        ),
        (
            "127.0.0.1:8420",
            "0.0.0.0:8420",
            "line 4: listen: expected a loopback address, because there is no [tls]; found \"0.0.0.0:8420\"; add [tls] with certificate and key; or, behind a proxy that ends TLS on this machine, listen on 127.0.0.1; or set plain-http-beyond-loopback-is-unsafe = true",
        ),
        (
            "issuers = \"chain.crt\"",
            "issuers = \"none.yaml\"",
            "line 5: issuers: expected the name of a file that is there, found \"none.yaml\"",
        ),
        (
            "[[issuing]]",
            "[tls]\n[[issuing]]",
            "line 7: tls.certificate is missing\nline 7: tls.key is missing",
        ),
        (
            "\n[[issuing]]",
            &plain_and_tls[..],
            "line 6: plain-http-beyond-loopback-is-unsafe: expected it to be left out, because there is [tls]; found \"true\"; take it away",
        ),
        (
            "\n[[issuing]]",
            "tls = \"yes\"\n[[issuing]]",
            "line 6: tls: expected a table, [tls], found string",
        ),
        (
            "key = \"key.pem\"\ncertificates = \"chain.crt\"\n",
            "key = \"gone.pem\"\n",
            "line 7: issuing.certificates is missing\nline 8: issuing.key: expected the name of a file that is there, found \"gone.pem\"",
        ),
        (
            "key = \"key.pem\"\ncertificates",
            token,
            "line 8: issuing.key: expected the URI of a key in a token (object is missing), found \"pkcs11:token=a?module-path=b&pin-source=file:c\"",
        ),
        (
            "from = \"2027-01-01T00:00:00Z\"",
            "",
            "line 11: issuing.from: expected a time after that of the one before; found \"none\"; put them in the order in which they follow one another",
        ),
        (
            "2027-01-01T00:00:00Z",
            "tomorrow",
            "line 14: issuing.from: expected a time after that of the one before; found \"none\"; put them in the order in which they follow one another\nline 14: issuing.from: expected a time, such as \"2027-01-31T12:00:00Z\", found \"tomorrow\"",
        ),
        (
            "[[timestamps]]",
            "[timestamps]",
            "line 16: timestamps: expected at least one; found \"none\"; add [[timestamps]] with key and certificates; countersign init writes it\nline 16: timestamps: expected tables, [[timestamps]], found table",
        ),
        (
            "[[timestamps]]",
            "[[timestamp]]",
            "line 16: timestamp is unknown; did you mean \"timestamps\"?\nline 1: timestamps: expected at least one; found \"none\"; add [[timestamps]] with key and certificates; countersign init writes it",
        ),
        ("organization =", "organization", "line 3: not TOML: key with no value, expected `=`"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let mut found = parse(&GOOD.replacen(from, to, 1)).map_or_else(|lines| lines, |_| vec![]);
        found.sort();
        if found.join("\n") != expected {
            wrong.push(format!("{from:?} as {to:?}:\n{}", found.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn no_mistake_hides_another() {
    let text = GOOD
        .replace("url = \"https://s", "url = \"ftp://s")
        .replace("127.0.0.1:8420", "nowhere")
        .replace("issuers = \"chain.crt\"", "issuers = 1")
        .replace("[[timestamps]]", "[[timestamps]]\ncolour = \"red\"");
    assert_eq!(parse(&text).unwrap_err().len(), 4);
}

#[test]
fn plain_http_beyond_loopback_takes_a_word_that_says_what_it_is() {
    let text = GOOD
        .replace("127.0.0.1", "0.0.0.0")
        .replace("\n[[issuing]]\nkey = \"key.pem\"\ncertificates = \"chain.crt\"\n\n", "plain-http-beyond-loopback-is-unsafe = true\n[[issuing]]\nkey = \"key.pem\"\ncertificates = \"chain.crt\"\n\n");
    assert!(parse(&text).is_ok());
}

#[test]
fn what_a_running_instance_cannot_change_is_refused_by_name() {
    let old = parse(GOOD).unwrap();
    for (from, to, name) in [
        ("sigstore.example.com", "other.example.com", "url"),
        (":8420", ":8421", "listen"),
        ("organization", "directory = \"elsewhere\"\norganization", "directory"),
        ("[[issuing]]", "[limits]\nrate = 7\n[[issuing]]", "limits"),
    ] {
        let mut new = parse(&GOOD.replacen(from, to, 1)).unwrap();
        if name != "directory" {
            new.directory = old.directory.clone();
        }
        let refused = new.fits(&old).unwrap_err().text();
        assert!(refused.contains(&format!("{name:?} changes with a restart only")), "{refused}");
    }
}
