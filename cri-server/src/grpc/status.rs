//! Errors as gRPC statuses: the one place where a code is chosen.

use skiff_image::PullError;
use skiff_spec::SpecError;
use tonic::{Code, Status};

use crate::container::ContainerError;
use crate::container::admission::AdmissionError;
use crate::pod::PodError;
use crate::rpc::RpcError;
use crate::selinux::RelabelError;
use crate::shim::ShimError;
use crate::telemetry::chain;
use skiff_shim_proto::message::FailureKind;

/// Most bytes of a message. It is sent as a header, in which a byte may take three, and clients take 16 KiB
/// of headers or more; a command that cannot be executed is part of it and may be as long as the kernel lets it.
const LONGEST: usize = 4096;

impl From<&RpcError> for Status {
    fn from(error: &RpcError) -> Self {
        Self::new(code(error), cut(message(error)))
    }
}

/// As much of a message as is sent.
fn cut(mut message: String) -> String {
    if message.len() > LONGEST {
        let more = "... (cut)";
        let mut ends = (0..=LONGEST - more.len()).rev();
        let end = ends.find(|&end| message.is_char_boundary(end));
        message.truncate(end.unwrap_or(0));
        message.push_str(more);
    }
    message
}

fn code(error: &RpcError) -> Code {
    match error {
        RpcError::Invalid { .. } | RpcError::Ambiguous(_) => Code::InvalidArgument,
        RpcError::NoPod(_) | RpcError::NoContainer(_) => Code::NotFound,
        RpcError::NotReady(_) => Code::FailedPrecondition,
        RpcError::Streaming(_) => Code::ResourceExhausted,
        RpcError::Events(_) => Code::DataLoss,
        RpcError::Pod(error) => pod(error),
        RpcError::Container(error) => container(error),
        RpcError::Pull(error) => pull(error),
        // Only then does a kubelet look at the message.
        RpcError::Policy(_) => Code::Unknown,
        RpcError::Images(_) => Code::Internal,
    }
}

/// A kubelet looks for certain words at the beginning of a message, and only finds them when the
/// code is Unknown (cri-api, pkg/errors).
fn message(whole: &RpcError) -> String {
    match whole {
        RpcError::Container(error) => match &**error {
            ContainerError::Spec {
                source: source @ SpecError::RecursiveReadOnly { .. },
                ..
            } => source.to_string(),
            error @ ContainerError::ImageVolume { .. } => {
                format!("ImageVolumeMountFailed: {}", chain(error))
            }
            ContainerError::Signature { .. } => invalid_signature(whole),
            error => chain(error),
        },
        RpcError::Pull(error) if error.is_registry_unavailable() => {
            format!("RegistryUnavailable: {}", chain(error))
        }
        RpcError::Pull(error) if error.is_signature() => invalid_signature(whole),
        RpcError::Policy(_) => invalid_signature(whole),
        error => chain(error),
    }
}

/// Why an image is rejected comes after the word that a kubelet reads, and then what was to be done
/// with it. Nothing is rejected where signatures or policies cannot be read.
fn invalid_signature(error: &RpcError) -> String {
    let rejected = match error {
        RpcError::Pull(error) => error
            .rejection()
            .map(|(image, why)| (format!("pull {image}"), why)),
        RpcError::Container(error) => match &**error {
            ContainerError::Signature { source, .. } => match &**source {
                AdmissionError::Rejected(why) => Some((error.to_string(), why)),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    let reason = match rejected {
        Some((what, why)) => format!("Source image rejected: {why}: {what}"),
        None => chain(error),
    };
    format!("SignatureValidationFailed: {reason}")
}

fn pull(error: &PullError) -> Code {
    match error {
        PullError::Reference(_) => Code::InvalidArgument,
        error if error.is_not_found() => Code::NotFound,
        _ => Code::Unknown,
    }
}

fn pod(error: &PodError) -> Code {
    match error {
        PodError::Spec { source, .. } => spec(source),
        PodError::Exists { .. } => Code::AlreadyExists,
        PodError::UnknownHandler { .. } => Code::InvalidArgument,
        PodError::Network { source, .. } => network(source),
        PodError::Shim { source, .. } => shim(source),
        PodError::Container { source, .. } => container(source),
        PodError::Denied { .. } | PodError::HostIds { .. } | PodError::HostPort { .. } => {
            Code::FailedPrecondition
        }
        // The bus or systemd may be starting anew.
        PodError::Scope { .. } => Code::Unavailable,
        PodError::Undead { .. }
        | PodError::Label { .. }
        | PodError::File { .. }
        | PodError::Record(_)
        | PodError::Id(_) => Code::Internal,
    }
}

fn container(error: &ContainerError) -> Code {
    match error {
        ContainerError::Spec { source, .. } => spec(source),
        ContainerError::Label { source, .. } if matches!(**source, RelabelError::System(_)) => {
            Code::InvalidArgument
        }
        ContainerError::Exists { .. } => Code::AlreadyExists,
        ContainerError::NoImage { .. } => Code::NotFound,
        ContainerError::ImageVolume { .. } | ContainerError::Signature { .. } => Code::Unknown,
        ContainerError::PodNotReady { .. }
        | ContainerError::Handler { .. }
        | ContainerError::Profile { .. }
        | ContainerError::Denied { .. } => Code::FailedPrecondition,
        ContainerError::ExecTimeout { .. } => Code::DeadlineExceeded,
        ContainerError::Shim { source, .. } => shim(source),
        ContainerError::Shared(error) => container(error),
        ContainerError::Image { .. }
        | ContainerError::Undead { .. }
        | ContainerError::Unburied { .. }
        | ContainerError::Label { .. }
        | ContainerError::File { .. }
        | ContainerError::Record(_)
        | ContainerError::Id(_) => Code::Internal,
    }
}

fn network(error: &skiff_cni::Error) -> Code {
    match error {
        skiff_cni::Error::NotReady(_) => Code::Unavailable,
        skiff_cni::Error::Pod(_) => Code::InvalidArgument,
        _ => Code::Internal,
    }
}

fn spec(error: &SpecError) -> Code {
    match error {
        SpecError::Invalid { .. } => Code::InvalidArgument,
        SpecError::Unsupported { .. } => Code::FailedPrecondition,
        SpecError::RecursiveReadOnly { .. } => Code::Unknown,
        SpecError::Incomplete(_) => Code::Internal,
    }
}

fn shim(error: &ShimError) -> Code {
    if matches!(
        error,
        ShimError::Unreached { .. } | ShimError::Silent { .. }
    ) {
        return Code::Unavailable;
    }
    match error.refusal() {
        Some(FailureKind::NotFound) => Code::NotFound,
        Some(FailureKind::AlreadyExists) => Code::AlreadyExists,
        Some(FailureKind::InvalidState) => Code::FailedPrecondition,
        Some(FailureKind::InvalidArgument | FailureKind::Command { .. }) => Code::InvalidArgument,
        Some(FailureKind::Unsupported) => Code::FailedPrecondition,
        Some(FailureKind::System) | None => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        assert_eq!(cut("as it is".into()), "as it is");
        assert_eq!(cut("x".repeat(LONGEST)).len(), LONGEST);
        for shift in 0..3 {
            let long = cut(format!("{}{}", "x".repeat(shift), "€".repeat(LONGEST)));
            assert!(
                (LONGEST - 2..=LONGEST).contains(&long.len()),
                "{}",
                long.len()
            );
            assert!(long.ends_with("€... (cut)"));
        }
    }
}
