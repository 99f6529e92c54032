//! What can go wrong, in the house's four kinds: one line each, and the exit code that says which.

use std::any::Any;
use std::fmt::Display;

/// An error whose text is complete: what was wrong, in one line.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The command cannot be carried out as asked.
    #[error("{0}")]
    BadUse(String),
    /// The store cannot be reached or refuses.
    #[error("{0}")]
    Store(String),
    /// A figure cannot be given: something raised, or returned something wrong.
    #[error("{0}")]
    Measurement(String),
    /// The arrays are not what the workload says they must be.
    #[error("{0}")]
    Wrong(String),
    /// This engine cannot do this workload at all.
    #[error("{0}")]
    Unsupported(String),
}

pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub fn bad_use(text: impl Display) -> Self {
        Self::BadUse(text.to_string())
    }

    pub fn measurement(text: impl Display) -> Self {
        Self::Measurement(text.to_string())
    }

    pub fn unsupported(text: impl Display) -> Self {
        Self::Unsupported(text.to_string())
    }

    /// The text in one line, not longer than anybody reads.
    pub fn line(&self) -> String {
        short(&self.to_string())
    }

    /// The exit code of a command that ends with this.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Wrong(_) => 1,
            Self::BadUse(_) | Self::Unsupported(_) => 2,
            Self::Store(_) => 3,
            Self::Measurement(_) => 4,
        }
    }
}

/// What a panic becomes, caught where it can cost no more than one read.
pub fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::measurement(format!("a panic: {}", said.unwrap_or("of unknown cause")))
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        Self::Store(one_line(&error))
    }
}

impl From<tokio::task::JoinError> for Failure {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Measurement(format!("a task ended early: {error}"))
    }
}

/// An error with its causes, without line breaks and not longer than anybody reads.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    short(&text)
}

fn short(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(500).collect()
}
