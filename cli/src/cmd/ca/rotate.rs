//! `countersign ca rotate`: the next key of an authority.

use super::ceremony::{Root, offline, sealing};
use super::import;
use crate::args::serve::Rotate;
use crate::config::Config;
use crate::failure::Failure;
use crate::instance::keys;
use crate::output;
use countersign_ca::ceremony::Role;

pub(super) fn run(args: &Rotate) -> Result<(), Failure> {
    let path = args.place.file();
    let config = Config::load(&path)?;
    let role = Role::from(args.role);
    let taken = |name: &String| config.directory.join(format!("requests/{name}.csr")).exists();
    let mut names = (2..).map(|number| format!("{}-{number}", role.name()));
    let name = names.find(|name| !taken(name)).expect("numbers do not end");
    let passphrase = match args.key {
        Some(_) => None,
        None => sealing(&args.sealing, "the new key")?,
    };
    let passphrase = passphrase.as_ref().map(|passphrase| &passphrase[..]);
    let (folder, token) = (&config.directory, args.key.as_deref());
    let organization = &config.organization;
    let request = keys::make_for_authority(folder, &name, role, organization, token, passphrase)?;
    let Some(folder) = &args.root else {
        let csr = config.directory.join(format!("requests/{name}.csr"));
        return output::print(&format!(
            "Made the key {name}. Bring its signing request to the root, and the certificate back:\n  countersign ca ceremony sign --root DIR --csr {} --as {} --out {name}.crt\n  countersign ca import --config {} {name}.crt\n",
            csr.display(),
            role.name(),
            path.display(),
        ));
    };
    let network = offline(&args.network)?;
    let root = Root::open(folder, args.sealing.passphrase_file.as_deref())?;
    let chain = root.certify(role, request.as_bytes(), &format!("{name}.csr"), &network)?;
    output::print(&import::install(&path, &chain, args.begin.r#in)?)
}
