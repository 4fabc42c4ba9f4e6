//! Passphrases of encrypted keys: out of a file, a systemd credential or a prompt; never an argument, which
//! other users of the machine could read.

use crate::failure::Failure;
use console::Term;
use std::fs;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The least characters of a passphrase for new keys: NIST SP 800-63B, section 5.1.1.1.
const LEAST: usize = 8;

/// The credential's name, see systemd's `LoadCredential=` and `LoadCredentialEncrypted=`.
const CREDENTIAL: &str = "countersign-passphrase";

/// The passphrase: in `file`, else the systemd credential, else asked for.
pub(crate) fn find(file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    if let Some(file) = file.map(Path::to_owned).or_else(credential) {
        return read(&file);
    }
    let terminal = Term::stderr();
    if !terminal.is_term() {
        return Err(Failure::unclear("keys are encrypted, and there is no passphrase").hint(
            "name a file with passphrase-file below [keys], or pass the systemd credential countersign-passphrase",
        ));
    }
    ask(&terminal, "Passphrase of the keys: ")
}

/// Whether it need not be asked for.
pub(crate) fn is_at_hand(file: Option<&Path>) -> bool {
    file.is_some() || credential().is_some()
}

/// A passphrase for new keys: in `file`, else the systemd credential, else asked for twice.
pub(crate) fn choose(file: Option<&Path>, what: &str) -> Result<Zeroizing<String>, Failure> {
    let passphrase = chosen(file, what)?;
    match passphrase.chars().count() {
        found if found < LEAST => Err(Failure::unclear(format!(
            "expected a passphrase of at least {LEAST} characters for {what}, found {found}"
        ))),
        _ => Ok(passphrase),
    }
}

fn chosen(file: Option<&Path>, what: &str) -> Result<Zeroizing<String>, Failure> {
    if let Some(file) = file.map(Path::to_owned).or_else(credential) {
        return read(&file);
    }
    let terminal = Term::stderr();
    if !terminal.is_term() {
        return Err(Failure::unclear(format!("there is no passphrase for {what}")).hint(
            "give --passphrase-file FILE, or --unencrypted-keys to keep them readable by whoever reads the disk",
        ));
    }
    let first = ask(&terminal, &format!("A passphrase for {what}: "))?;
    if first != ask(&terminal, "The same once more: ")? {
        return Err(Failure::unclear("the two passphrases differ"));
    }
    Ok(first)
}

fn credential() -> Option<PathBuf> {
    let file = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
    file.is_file().then_some(file)
}

fn ask(terminal: &Term, prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let asked = terminal.write_str(prompt).and_then(|()| terminal.read_secure_line());
    let text = asked.map_err(|error| Failure::unclear(format!("cannot ask: {error}")))?;
    not_empty(text.into(), "at the prompt")
}

fn read(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = fs::read_to_string(file).map(Zeroizing::new);
    let text = text.map_err(|error| Failure::file("read", file, &error))?;
    let line = text.lines().next().unwrap_or_default().to_owned();
    not_empty(line.into(), &file.display().to_string())
}

fn not_empty(text: Zeroizing<String>, place: &str) -> Result<Zeroizing<String>, Failure> {
    if text.is_empty() {
        return Err(Failure::unclear(format!(
            "expected a passphrase, found an empty line {place}"
        )));
    }
    Ok(text)
}
