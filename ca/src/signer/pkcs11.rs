//! Keys in a PKCS#11 token (OASIS PKCS#11 2.40): a hardware security module, a smart card, SoftHSM.
//!
//! A key is named by a URI of RFC 7512, of which these parts are read and no others:
//! `pkcs11:token=LABEL;object=LABEL?module-path=/lib/module.so&pin-source=file:/path`. It is generated in the
//! token, sensitive and not extractable, and never leaves it.
//!
//! Threads of their own, a few a module, talk to the token, so that one that does not answer holds up
//! nobody for longer than [`PATIENCE`]; what nobody waits for any longer is not signed. When a call fails, the library
//! is ended and begun anew before the next: many libraries see a token that was pulled and put back only then. So a
//! token that comes back is in use again with the next request. A PIN that the token has refused is not tried again
//! until its file changes: tokens lock themselves after a few attempts.

use super::{Algorithm, Error, Signer};
use countersign_verify::key::{HashAlgorithm, PublicKey};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error as CryptokiError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef, UintRef};
use der::{Decode as _, Encode as _, Sequence};
use spki::AlgorithmIdentifier;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock, TryLockError, mpsc};
use std::time::{Duration, Instant};

/// Longest wait for a signature: clients give up after 30 s, and issuing takes two.
const PATIENCE: Duration = Duration::from_secs(5);
/// Threads that talk to one module, and so the most signatures it makes at a time.
const THREADS: usize = 4;
/// Most signatures that wait for one; a token that is slower than this many in [`PATIENCE`] refuses the rest.
const QUEUE: usize = 256;
/// Longest wait for other threads to end what they do with a library that has failed; one may hang in it.
const RESPITE: Duration = Duration::from_secs(1);

/// A key's place, by its URI.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Uri {
    module: PathBuf,
    token: String,
    object: String,
    pin: PathBuf,
}

impl Uri {
    /// Whether `text` means to be such a URI.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.starts_with("pkcs11:")
    }

    /// Reads a URI.
    ///
    /// # Errors
    /// Says what is missing or unknown.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("pkcs11:").ok_or("expected pkcs11:")?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parts: HashMap<&str, String> = HashMap::new();
        for part in path.split(';').chain(query.split('&')).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or("expected NAME=VALUE")?;
            let known = ["token", "object", "module-path", "pin-source"];
            let name = known
                .into_iter()
                .find(|known| *known == name)
                .ok_or_else(|| format!("{name} is unknown; expected {}", known.join(", ")))?;
            if parts.insert(name, decode(value)?).is_some() {
                return Err(format!("{name} stands twice"));
            }
        }
        let mut part = |name: &str| parts.remove(name).ok_or_else(|| format!("{name} is missing"));
        let pin = part("pin-source")?;
        let pin = pin.strip_prefix("file:").unwrap_or(&pin);
        Ok(Self {
            module: part("module-path")?.into(),
            token: part("token")?,
            object: part("object")?,
            pin: pin.strip_prefix("//").unwrap_or(pin).into(),
        })
    }

    /// The file with the PIN on its first line.
    #[must_use]
    pub fn pin_file(&self) -> &Path {
        &self.pin
    }
}

/// Percent-decoding (RFC 3986, section 2.1).
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(|| format!("{text:?}: expected two digits behind %"))?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| format!("{text:?}: expected UTF-8"))
}

/// A key in a token.
pub struct TokenSigner {
    module: Arc<Module>,
    uri: Uri,
    spki: Vec<u8>,
    algorithm: Algorithm,
}

impl TokenSigner {
    /// Opens the key that is there.
    ///
    /// # Errors
    /// When module, token, PIN or key are not as the URI says.
    pub fn open(uri: &Uri) -> Result<Self, Error> {
        Self::with(uri, |session| {
            let template = [
                Attribute::Class(ObjectClass::PUBLIC_KEY),
                Attribute::KeyType(KeyType::EC),
                Attribute::Label(uri.object.clone().into_bytes()),
            ];
            let found = session.find_objects(&template)?;
            found.first().map(|&key| public_key(session, key)).transpose()
        })
    }

    /// Opens the key, and generates it on P-256 in the token if it is not there.
    ///
    /// # Errors
    /// As [`open`](Self::open), or when the token does not generate it.
    pub fn generate(uri: &Uri) -> Result<Self, Error> {
        match Self::open(uri) {
            Err(Error::TokenKey) => {}
            outcome => return outcome,
        }
        Self::with(uri, |session| {
            let label = Attribute::Label(uri.object.clone().into_bytes());
            let id = Attribute::Id(uri.object.clone().into_bytes());
            let curve = P256.to_der().expect("an object identifier has an encoding");
            let public = [
                Attribute::Token(true),
                Attribute::Private(false),
                Attribute::Verify(true),
                Attribute::EcParams(curve),
                label.clone(),
                id.clone(),
            ];
            let private = [
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
                label,
                id,
            ];
            let (public, _) =
                session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?;
            public_key(session, public).map(Some)
        })
    }

    fn with(
        uri: &Uri,
        find: impl Fn(&Session) -> Result<Option<(Vec<u8>, Algorithm)>, CryptokiError>,
    ) -> Result<Self, Error> {
        let module = Module::of(&uri.module)?;
        let found = module.with_session(uri, find)?;
        let (spki, algorithm) = found.ok_or(Error::TokenKey)?;
        Ok(Self { module, uri: uri.clone(), spki, algorithm })
    }
}

impl Signer for TokenSigner {
    fn spki(&self) -> &[u8] {
        &self.spki
    }

    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let (answer, answered) = mpsc::channel();
        let digest = self.algorithm.hash().digest(message);
        let job = Job { uri: self.uri.clone(), digest, answer, until: Instant::now() + PATIENCE };
        self.module.jobs.try_send(job).map_err(|_| Error::Token)?;
        let wait = || answered.recv_timeout(PATIENCE).unwrap_or(Err(Error::Token));
        // Whoever waits for a token leaves other tasks to the runtime's other threads.
        let flavor = tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor());
        let raw = match flavor {
            Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
            _ => wait(),
        }?;
        let signature = der_signature(&raw)?;
        // A token that signs with another key than the one it told of must not pass unseen.
        let key = PublicKey::from_spki(&self.spki).map_err(|_| Error::TokenKey)?;
        match key.verify_message(message, &signature) {
            Ok(()) => Ok(signature),
            Err(_) => Err(Error::TokenKey),
        }
    }

    fn ready(&self) -> Result<(), Error> {
        self.sign(b"readiness").map(|_| ())
    }
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSigner").field("uri", &self.uri).finish_non_exhaustive()
    }
}

struct Job {
    uri: Uri,
    digest: Vec<u8>,
    answer: mpsc::Sender<Result<Vec<u8>, Error>>,
    /// When the caller gives up.
    until: Instant,
}

/// A loaded module: one a process and path, because PKCS#11 knows one state a process.
struct Module {
    path: PathBuf,
    jobs: mpsc::SyncSender<Job>,
    /// `None` after a failure. Who signs holds it for reading; who ends it, for writing: no session lives
    /// then, so that none is taken for one of the next life.
    library: RwLock<Option<Library>>,
    /// SHA-256 of the PINs that tokens have refused. Held while somebody logs in, so that one wrong PIN is tried
    /// once.
    refused: Mutex<HashMap<Uri, Vec<u8>>>,
}

struct Library {
    context: Pkcs11,
    idle: Mutex<Vec<(Uri, Session)>>,
}

static MODULES: LazyLock<Mutex<HashMap<PathBuf, Arc<Module>>>> = LazyLock::new(Mutex::default);

impl Module {
    /// The module at `path`, loaded the first time.
    fn of(path: &Path) -> Result<Arc<Self>, Error> {
        let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules.get(path) {
            return Ok(Arc::clone(module));
        }
        let (jobs, waiting) = mpsc::sync_channel::<Job>(QUEUE);
        let (library, refused) = (RwLock::new(None), Mutex::default());
        let module = Arc::new(Self { path: path.to_owned(), jobs, library, refused });
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..THREADS {
            let (module, waiting) = (Arc::clone(&module), Arc::clone(&waiting));
            let run = move || {
                loop {
                    let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(Job { uri, digest, answer, until }) = job else { return };
                    if until <= Instant::now() {
                        continue;
                    }
                    let _ = answer.send(module.sign(&uri, &digest)); // the caller may have given up
                }
            };
            let thread = std::thread::Builder::new().name("pkcs11".to_owned()).spawn(run);
            thread.map_err(|_| Error::Token)?;
        }
        modules.insert(path.to_owned(), Arc::clone(&module));
        Ok(module)
    }

    fn sign(&self, uri: &Uri, digest: &[u8]) -> Result<Vec<u8>, Error> {
        self.with_session(uri, |session| {
            // The key was there when the server began. That it is not now is how a pulled token looks to
            // a library that has not noticed.
            let gone = CryptokiError::Pkcs11(RvError::TokenNotPresent, Function::FindObjects);
            let key = private_key(session, &uri.object)?.ok_or(gone)?;
            session.sign(&Mechanism::Ecdsa, key, digest)
        })
    }

    /// Does `work` in a session that is logged in; once more in a new life of the library if that fails.
    fn with_session<T>(
        &self,
        uri: &Uri,
        work: impl Fn(&Session) -> Result<T, CryptokiError>,
    ) -> Result<T, Error> {
        for _ in 0..2 {
            self.begin()?;
            let outcome = {
                let library = self.library.read().unwrap_or_else(PoisonError::into_inner);
                // Somebody else has just ended it.
                let Some(library) = &*library else { continue };
                library.session(uri, &self.refused).and_then(|session| {
                    let done = work(&session)?;
                    library.keep(uri, session);
                    Ok(done)
                })
            };
            match outcome {
                Ok(done) => return Ok(done),
                Err(error) if is_about_pin(&error) => return Err(Error::TokenPin),
                Err(error) => {
                    let module = self.path.display();
                    tracing::warn!(%module, token = uri.token, %error, "the token failed");
                    self.end();
                }
            }
        }
        Err(Error::Token)
    }
}

impl Module {
    /// Loads and starts the library, unless it runs.
    fn begin(&self) -> Result<(), Error> {
        // Nobody keeps the others from signing who only finds it running.
        if self.library.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let mut library = self.library.write().unwrap_or_else(PoisonError::into_inner);
        if library.is_some() {
            return Ok(());
        }
        let failed = |error: CryptokiError| {
            tracing::error!(module = %self.path.display(), %error, "the module does not load");
            Error::Token
        };
        let context = Pkcs11::new(&self.path).map_err(failed)?;
        context
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .map_err(failed)?;
        *library = Some(Library { context, idle: Mutex::default() });
        Ok(())
    }

    /// Ends the library, so that the next one to come begins it anew; unless a thread hangs in it, for then
    /// it cannot be ended, and may still do for the others.
    fn end(&self) {
        let until = Instant::now() + RESPITE;
        let mut library = loop {
            match self.library.try_write() {
                Ok(library) => break library,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if until <= Instant::now() => return,
                Err(TryLockError::WouldBlock) => std::thread::sleep(RESPITE / 100),
            }
        };
        if let Some(Library { context, idle }) = library.take() {
            drop(idle); // closes the sessions
            let _ = context.finalize(); // it has failed already
        }
    }
}

impl Library {
    /// A session that is logged in to the token. A PIN among the `refused` is not tried.
    fn session(
        &self,
        uri: &Uri,
        refused: &Mutex<HashMap<Uri, Vec<u8>>>,
    ) -> Result<Session, CryptokiError> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = idle.iter().position(|(of, _)| *of == *uri) {
            return Ok(idle.swap_remove(place).1);
        }
        drop(idle);
        let absent = CryptokiError::Pkcs11(RvError::TokenNotPresent, Function::GetTokenInfo);
        let mut slot = None;
        for each in self.context.get_slots_with_token()? {
            if self.context.get_token_info(each)?.label() == uri.token {
                slot = Some(each);
            }
        }
        let session = self.context.open_rw_session(slot.ok_or(absent)?)?;
        let pin = std::fs::read_to_string(&uri.pin).map(zeroize::Zeroizing::new);
        let pin = pin.map_err(|_| CryptokiError::PinNotSet)?;
        let pin = pin.lines().next().unwrap_or_default();
        let digest = HashAlgorithm::Sha256.digest(pin.as_bytes());
        let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.get(uri) == Some(&digest) {
            return Err(CryptokiError::Pkcs11(RvError::PinIncorrect, Function::Login));
        }
        match session.login(UserType::User, Some(&AuthPin::from(pin.to_owned()))) {
            Ok(()) | Err(CryptokiError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                refused.remove(uri);
                Ok(session)
            }
            Err(error) => {
                if is_about_pin(&error) {
                    tracing::error!(token = uri.token, %error, "the token refuses the PIN");
                    refused.insert(uri.clone(), digest);
                }
                Err(error)
            }
        }
    }

    fn keep(&self, uri: &Uri, session: Session) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push((uri.clone(), session));
    }
}

/// Whether another attempt with the same PIN fails, too, or harms.
const fn is_about_pin(error: &CryptokiError) -> bool {
    use RvError::{PinExpired, PinIncorrect, PinInvalid, PinLenRange, PinLocked};
    matches!(
        error,
        CryptokiError::Pkcs11(PinExpired | PinIncorrect | PinInvalid | PinLenRange | PinLocked, _)
    )
}

const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

fn private_key(session: &Session, label: &str) -> Result<Option<ObjectHandle>, CryptokiError> {
    let template = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(KeyType::EC),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    Ok(session.find_objects(&template)?.first().copied())
}

/// SubjectPublicKeyInfo, DER, and how the key signs.
fn public_key(session: &Session, key: ObjectHandle) -> Result<(Vec<u8>, Algorithm), CryptokiError> {
    let wanted = [AttributeType::EcParams, AttributeType::EcPoint];
    let (mut curve, mut point) = (None, None);
    for attribute in session.get_attributes(key, &wanted)? {
        match attribute {
            Attribute::EcParams(der) => curve = ObjectIdentifier::from_der(&der).ok(),
            Attribute::EcPoint(der) => point = Some(der),
            _ => {}
        }
    }
    let algorithm = match curve {
        Some(P256) => Algorithm::EcdsaP256Sha256,
        Some(P384) => Algorithm::EcdsaP384Sha384,
        _ => return Err(CryptokiError::InvalidValue),
    };
    // An OCTET STRING in DER, by the specification.
    let point = point.ok_or(CryptokiError::InvalidValue)?;
    let encode = || {
        let point = <&OctetStringRef>::from_der(&point)?;
        let curve = curve.unwrap_or(P256);
        let spki = spki::SubjectPublicKeyInfo {
            algorithm: AlgorithmIdentifier {
                oid: EC_PUBLIC_KEY,
                parameters: Some(AnyRef::from(&curve)),
            },
            subject_public_key: BitStringRef::from_bytes(point.as_bytes())?,
        };
        spki.to_der()
    };
    let spki = encode().map_err(|_: der::Error| CryptokiError::InvalidValue)?;
    Ok((spki, algorithm))
}

#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// Tokens give r and s side by side, in equal length; certificates want them in DER.
fn der_signature(raw: &[u8]) -> Result<Vec<u8>, Error> {
    let (r, s) = raw.split_at(raw.len() / 2);
    let encode = || EcdsaSignature { r: UintRef::new(r)?, s: UintRef::new(s)? }.to_der();
    encode().map_err(|_: der::Error| Error::Sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_read_part_by_part_and_nothing_is_guessed() {
        let good =
            "pkcs11:token=cs;object=my%20key?module-path=/lib/p11.so&pin-source=file:/etc/pin";
        let uri = Uri::parse(good).unwrap();
        assert_eq!((&uri.token[..], &uri.object[..]), ("cs", "my key"));
        assert_eq!(
            (uri.module.to_str(), uri.pin.to_str()),
            (Some("/lib/p11.so"), Some("/etc/pin"))
        );
        for (from, to, expected) in [
            ("pkcs11:", "pkcs12:", "expected pkcs11:"),
            ("token=cs;", "", "token is missing"),
            (
                "object",
                "label",
                "label is unknown; expected token, object, module-path, pin-source",
            ),
            ("token=cs", "token=cs;token=cs", "token stands twice"),
            ("token=cs", "token", "expected NAME=VALUE"),
            ("my%20key", "my%2", "\"my%2\": expected two digits behind %"),
            ("?module-path=/lib/p11.so&", "?", "module-path is missing"),
            (
                "pin-source=file:",
                "pin-value=",
                "pin-value is unknown; expected token, object, module-path, pin-source",
            ),
        ] {
            assert_eq!(Uri::parse(&good.replacen(from, to, 1)).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_raw_signature_becomes_der_with_the_sign_and_without_needless_zeros() {
        let mut raw = [0; 64];
        (raw[31], raw[32], raw[63]) = (1, 0x80, 2);
        let der = der_signature(&raw).unwrap();
        assert_eq!(der[..7], [0x30, 38, 2, 1, 1, 2, 33]);
        assert_eq!(der[7..9], [0, 0x80]);
    }
}
