//! Writing results: a file appears whole or not at all.

use crate::failure::Failure;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A file that is being made. It is opened before the work whose result it will hold, so that a folder
/// that cannot be written is known in time.
pub(crate) struct NewFile {
    path: PathBuf,
    file: tempfile::NamedTempFile,
}

impl NewFile {
    /// Begins a bundle that will be at `path`.
    pub(crate) fn begin(path: &Path) -> Result<Self, Failure> {
        let (name, folder) = (
            "nothing was signed; give --bundle the name of a file",
            "nothing was signed; give --bundle FILE in a folder that can be written",
        );
        Self::begin_with(path, name, folder)
    }

    /// Begins a file of evidence that will be at `path`, where nothing is yet: evidence is not written over.
    pub(crate) fn for_evidence(path: &Path) -> Result<Self, Failure> {
        if path.exists() {
            let message = format!("{} is there already", path.display());
            return Err(Failure::unclear(message).hint("give the name of a new FILE"));
        }
        Self::replacing(path)
    }

    /// Begins a file that will be at `path`, in place of what is there.
    pub(crate) fn replacing(path: &Path) -> Result<Self, Failure> {
        Self::begin_with(
            path,
            "give the name of a file",
            "give a FILE in a folder that can be written",
        )
    }

    /// With what to do when there can be no file of that name, or in that folder.
    fn begin_with(path: &Path, name_hint: &str, folder_hint: &str) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Err(Failure::unclear("expected the name of a file to write, found -").hint(
                "standard output is for results: name a file (./- if it is to be called so)",
            ));
        }
        // Renaming replaces what is there, even a device such as /dev/null or another program's pipe.
        let path = match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(Failure::unclear(format!("{} is a directory", path.display())));
            }
            Ok(found) if !found.is_file() => {
                let message = format!("{} is not a regular file", path.display());
                return Err(Failure::unclear(message).hint(name_hint));
            }
            // Where a link leads, so that the file is replaced and not the link.
            Ok(_) => std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
            Err(_) => path.to_owned(),
        };
        let folder = folder(&path);
        let failed = |error| Failure::file("write to", folder, &error).hint(folder_hint);
        let mut builder = tempfile::Builder::new();
        builder.prefix(".countersign-").suffix(".tmp");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder).map_err(failed)?;
        Ok(Self { path, file })
    }

    /// Writes a part of the content.
    pub(crate) fn write(&mut self, content: &[u8]) -> Result<(), Failure> {
        self.file.write_all(content).map_err(|error| Failure::file("write", &self.path, &error))
    }

    /// Writes the content, or what is left of it, and puts the file in its place, durably.
    pub(crate) fn finish(mut self, content: &[u8]) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::file("write", &self.path, &error);
        self.file.write_all(content).map_err(failed)?;
        self.file.as_file().sync_all().map_err(failed)?;
        let path = self.path.clone();
        self.file.persist(&path).map_err(|error| Failure::file("write", &path, &error.error))?;
        let synced = std::fs::File::open(folder(&path)).and_then(|folder| folder.sync_all());
        synced.map_err(|error| Failure::file("write", &path, &error))
    }
}

/// The folder that a file is in.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Text of unknown origin as a terminal may show it: control characters, which could move the cursor or
/// forge lines, become U+FFFD. Line feeds stay.
pub(crate) fn visible(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// Prints to standard output. A reader that went away, such as `head`, is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::unclear(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn what_could_steer_a_terminal_is_made_visible() {
        assert_eq!(visible("a\u{1b}[31mb\rc\nd\u{9b}é"), "a\u{fffd}[31mb\u{fffd}c\nd\u{fffd}é");
    }
}
