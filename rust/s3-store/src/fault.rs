//! What can go wrong with an answer.

use http::StatusCode;

use crate::named::named;

named! {
    /// A way to spoil an answer.
    pub enum Fault {
        /// 503 `SlowDown`.
        SlowDown = "slow-down",
        /// 500 `InternalError`.
        InternalError = "internal-error",
        /// The connection is reset instead of an answer.
        Reset = "reset",
        /// The connection is reset after half of the body.
        ResetBody = "reset-body",
        /// The connection is closed in order after half of the body.
        Truncate = "truncate",
        /// One bit of the body's middle byte is wrong.
        Corrupt = "corrupt",
        /// The answered range, in header and body, begins one byte late.
        WrongRange = "wrong-range",
        /// No answer at all.
        Hang = "hang",
        /// The body comes at 50 kB/s.
        Trickle = "trickle",
        /// 403 `ExpiredToken`.
        ExpiredToken = "expired-token",
        /// 404 `NoSuchKey`.
        Missing = "missing",
    }
}

impl Fault {
    /// Status, code and message where the fault is an answer of its own.
    pub fn error(self) -> Option<(StatusCode, &'static str, &'static str)> {
        match self {
            Self::SlowDown => {
                Some((StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate. (injected)"))
            }
            Self::InternalError => {
                Some((StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "We encountered an error. (injected)"))
            }
            Self::ExpiredToken => {
                Some((StatusCode::FORBIDDEN, "ExpiredToken", "The provided token has expired. (injected)"))
            }
            Self::Missing => Some((StatusCode::NOT_FOUND, "NoSuchKey", "The key does not exist. (injected)")),
            _ => None,
        }
    }

    /// Whether the client can tell that it has to ask again. A whole answer, right or wrong, is asked for once.
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Corrupt | Self::WrongRange | Self::Trickle)
    }
}
