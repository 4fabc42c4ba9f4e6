//! What to write so that a signature would be accepted.

use countersign_verify::certificate::Identity;

/// The command line flags that demand exactly `identity`, quoted for a POSIX shell. They say who
/// signed; whether that is whom one wants to trust, the reader must decide.
#[must_use]
pub fn flags_for(identity: &Identity) -> String {
    let issuer = match identity.issuer().filter(|issuer| !issuer.is_empty()) {
        Some(issuer) => format!("--certificate-oidc-issuer {}", quoted(issuer)),
        None => "--certificate-oidc-issuer-regexp '.*'".to_owned(), // it names none
    };
    format!("--certificate-identity {} {issuer}", quoted(identity.subject().as_str()))
}

/// Within single quotes a shell reads everything as it stands, but a single quote.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:.@_-+=,%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn hostile_names_stay_one_word_of_the_shell() {
        for (text, expected) in [
            ("a@example.com", "a@example.com"),
            ("", "''"),
            ("a b; rm -rf /", "'a b; rm -rf /'"),
            ("it's", r"'it'\''s'"),
            ("$(id)", "'$(id)'"),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }
}
