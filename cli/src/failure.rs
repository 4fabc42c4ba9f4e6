//! How commands fail: a message, a hint, an exit status.

use crate::output::visible;
use std::process::ExitCode;

/// Exit status 0: yes, or done.
pub(crate) const YES: u8 = 0;
/// Exit status 1: no. The evidence was read and does not hold, or a service or policy refuses.
pub(crate) const NO: u8 = 1;
/// Exit status 2: could not tell. Wrong usage, unreadable input, a service that is away.
pub(crate) const UNCLEAR: u8 = 2;

/// A command's failure, for people; machines read the report on standard output.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// The answer is no.
    pub(crate) fn no(message: impl Into<String>) -> Self {
        Self { status: NO, message: message.into(), hint: None }
    }

    /// There is no answer.
    pub(crate) fn unclear(message: impl Into<String>) -> Self {
        Self { status: UNCLEAR, message: message.into(), hint: None }
    }

    /// What to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A file that could not be read or written.
    pub(crate) fn file(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let failure = Self::unclear(format!("cannot {what} {}: {error}", path.display()));
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => failure.hint("run it as the owner of the file"),
            _ => failure,
        }
    }

    /// Whether the answer is no.
    pub(crate) const fn is_no(&self) -> bool {
        self.status == NO
    }

    /// Message and hint, for a table or a report.
    pub(crate) fn text(&self) -> String {
        match &self.hint {
            Some(hint) if self.message.contains('\n') => {
                format!("{}\n  next: {hint}", self.message.trim_end())
            }
            Some(hint) => format!("{}; {hint}", self.message),
            None => self.message.clone(),
        }
    }

    /// Prints to standard error and gives the exit status.
    pub(crate) fn exit(self) -> ExitCode {
        let error = console::style("error:").red().bold().for_stderr();
        eprintln!("{error} {}", visible(&self.message));
        if let Some(hint) = self.hint {
            let label = console::style("next:").bold().for_stderr();
            eprintln!("{label} {}", visible(&hint));
        }
        ExitCode::from(self.status)
    }
}

/// Prints what is no failure and yet must be known to standard error, and what to do about it.
pub(crate) fn warn(message: &str, hint: &str) {
    eprintln!("{} {}", console::style("warning:").yellow().bold().for_stderr(), visible(message));
    eprintln!("{} {}", console::style("next:").bold().for_stderr(), visible(hint));
}
