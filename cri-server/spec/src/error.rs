//! Why a request cannot become a specification.

/// A request that is refused. The field is the path of the CRI field from the request's
/// configuration message, such as `linux.security_context.run_as_group` or `mounts[2].host_path`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The value cannot be meant.
    #[error("{field}: {reason}")]
    Invalid {
        /// Path of the field.
        field: String,
        /// What is wrong with the value, the value included.
        reason: String,
    },
    /// The value is legitimate CRI, and this version or this host does not offer it.
    #[error("{field} is not supported: {reason}")]
    Unsupported {
        /// Path of the field.
        field: String,
        /// What is missing.
        reason: String,
    },
    /// The specification could not be put together.
    #[error("runtime specification: {0}")]
    Incomplete(String),
    /// A recursive read-only mount that this host cannot make. The text starts with the word
    /// that a kubelet looks for (cri-api `ErrRROUnsupported`).
    #[error("RROUnsupported: {field}: {reason}")]
    RecursiveReadOnly {
        /// Path of the field.
        field: String,
        /// What is missing.
        reason: String,
    },
}

impl SpecError {
    /// An [`SpecError::Invalid`].
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// An [`SpecError::Unsupported`].
    pub fn unsupported(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unsupported {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// Path of the field that is at fault; empty when none is.
    pub fn field(&self) -> &str {
        match self {
            Self::Incomplete(_) => "",
            Self::Invalid { field, .. }
            | Self::Unsupported { field, .. }
            | Self::RecursiveReadOnly { field, .. } => field,
        }
    }
}

impl From<oci_spec::OciSpecError> for SpecError {
    fn from(error: oci_spec::OciSpecError) -> Self {
        Self::Incomplete(error.to_string())
    }
}
