//! Private keys in files: PKCS#8 in PEM, as it is (RFC 5208) or encrypted with a passphrase (PBES2 of
//! RFC 8018).
//!
//! Written is AES-256-CBC under scrypt with N = 2^14, r = 8, p = 1: what `openssl pkcs8 -scrypt` writes, too,
//! and about the most that OpenSSL reads without being told. Read is what PBES2 allows with SHA-2.

use super::Error;
use der::Decode as _;
use der::pem::{self, LineEnding};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use zeroize::Zeroizing;

const PLAIN: &str = "PRIVATE KEY";
const SEALED: &str = "ENCRYPTED PRIVATE KEY";

/// Whether `pem` is a key that takes a passphrase to read.
#[must_use]
pub fn is_sealed(pem: &str) -> bool {
    pem::decode_label(pem.as_bytes()) == Ok(SEALED)
}

/// The private key in `pem`, PKCS#8, DER; `passphrase` is for an encrypted one.
///
/// # Errors
/// When there is none, or the passphrase is missing or wrong.
pub fn open(pem: &str, passphrase: Option<&str>) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (label, der) = pem::decode_vec(pem.as_bytes()).map_err(|_| Error::File)?;
    let der = Zeroizing::new(der);
    match label {
        PLAIN => Ok(der),
        SEALED => {
            let sealed = EncryptedPrivateKeyInfoRef::from_der(&der).map_err(|_| Error::File)?;
            let passphrase = passphrase.ok_or(Error::PassphraseNeeded)?;
            let opened = sealed.decrypt(passphrase).map_err(|_| Error::Passphrase)?;
            Ok(Zeroizing::new(opened.as_bytes().to_vec()))
        }
        _ => Err(Error::File),
    }
}

/// A private key, PKCS#8, DER, as a file has it: encrypted if there is a passphrase.
///
/// # Errors
/// When `pkcs8` is no such key, or there is no randomness.
pub fn seal(pkcs8: &[u8], passphrase: Option<&str>) -> Result<Zeroizing<String>, Error> {
    let encode = |label, der: &[u8]| {
        pem::encode_string(label, LineEnding::LF, der).map(Zeroizing::new).map_err(|_| Error::File)
    };
    let Some(passphrase) = passphrase else { return encode(PLAIN, pkcs8) };
    let key = PrivateKeyInfoRef::from_der(pkcs8).map_err(|_| Error::File)?;
    let sealed = key.encrypt(passphrase).map_err(|_| Error::File)?;
    encode(SEALED, sealed.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::{FileSigner, Signer as _};

    #[test]
    fn a_sealed_key_opens_with_its_passphrase_alone() {
        let key = FileSigner::generate().unwrap();
        let pkcs8 = open(&key.to_pem().unwrap(), None).unwrap();
        let sealed = seal(&pkcs8, Some("correct horse")).unwrap();
        assert!(is_sealed(&sealed) && !is_sealed(&seal(&pkcs8, None).unwrap()));
        let again = FileSigner::from_pkcs8(&open(&sealed, Some("correct horse")).unwrap()).unwrap();
        assert_eq!(again.spki(), key.spki());
        for (passphrase, expected) in [
            (None, Error::PassphraseNeeded),
            (Some(""), Error::Passphrase),
            (Some("correct horse "), Error::Passphrase),
        ] {
            assert_eq!(open(&sealed, passphrase).unwrap_err(), expected);
        }
        let cut = sealed.replace("ENCRYPTED ", "");
        assert_eq!(FileSigner::from_pem(&cut).unwrap_err(), Error::File);
    }
}
