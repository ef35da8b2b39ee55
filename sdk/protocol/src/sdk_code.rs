//! The error codes that the SDKs add to those of the node.

/// Declares the codes: what each means and its string.
macro_rules! sdk_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)+) => {
        /// Code of an error that an SDK reports and no node writes. They are declared here, beside
        /// [`ErrorCode`](crate::ErrorCode), so that all SDKs use the same strings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum SdkErrorCode {
            $($(#[doc = $doc])+ $name,)+
        }

        impl SdkErrorCode {
            /// Every code.
            pub const ALL: &'static [SdkErrorCode] = &[$(SdkErrorCode::$name),+];

            /// Returns the stable string of the code.
            pub const fn as_str(self) -> &'static str {
                match self { $(SdkErrorCode::$name => $text,)+ }
            }

            /// Returns the meaning of the code, in one or two sentences.
            pub fn meaning(self) -> &'static str {
                match self { $(SdkErrorCode::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

sdk_codes! {
    /// The SDK did not find the binary.
    BinaryNotFound = "BINARY_NOT_FOUND";
    /// The system cannot run the binary.
    BinaryUnusable = "BINARY_UNUSABLE";
    /// The program closed the node.
    Closed = "CLOSED";
    /// The node violated the contract of the pipe.
    Contract = "CONTRACT";
    /// The node gave up a message and named no code.
    Failed = "FAILED";
    /// The node belongs to the process from which this one was forked.
    Forked = "FORKED";
    /// After a restart the node had another address.
    IdentityChanged = "IDENTITY_CHANGED";
    /// No peer was connected in time.
    NotJoined = "NOT_JOINED";
    /// The node was not ready in time.
    NotReady = "NOT_READY";
    /// The recipient's node rejected a message and named no code.
    Rejected = "REJECTED";
    /// The process of the node ended, and the SDK does not restart it.
    SidecarExited = "SIDECAR_EXITED";
    /// The process of the node ended before it answered.
    SidecarRestarted = "SIDECAR_RESTARTED";
    /// No process of the node was ready in time. The SDK sent nothing.
    SidecarUnavailable = "SIDECAR_UNAVAILABLE";
    /// The system could not start the process, and the binary is not the reason.
    SpawnFailed = "SPAWN_FAILED";
    /// No answer came in time.
    Timeout = "TIMEOUT";
    /// The SDK tracks too many messages to report the end of this one.
    TooMany = "TOO_MANY";
    /// The SDK does not support the version of the binary.
    VersionMismatch = "VERSION_MISMATCH";
    /// The node neither read nor wrote for too long, and the SDK killed it.
    WriteTimeout = "WRITE_TIMEOUT";
}
