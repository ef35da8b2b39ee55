//! The exit codes of the node, following BSD's `sysexits.h`.

/// Declares the exit codes: what each means, its number, and whether a supervisor should restart
/// the process.
macro_rules! exit_codes {
    ($(#[doc = $doc:literal] $name:ident = $number:literal, $restart:literal;)+) => {
        /// Exit code of the process.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ExitCode {
            $(#[doc = $doc] $name = $number,)+
        }

        impl ExitCode {
            /// Every exit code, in ascending order.
            pub const ALL: &[ExitCode] = &[$(ExitCode::$name),+];

            /// Returns the code with this number, if there is one.
            pub fn from_number(number: i32) -> Option<ExitCode> {
                Self::ALL.iter().copied().find(|code| *code as i32 == number)
            }

            /// Returns `true` if a supervisor should restart the process.
            pub const fn restart(self) -> bool {
                match self {
                    $(ExitCode::$name => $restart,)+
                }
            }

            /// Returns what the code means, in one or two sentences.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(ExitCode::$name => $doc.trim_ascii(),)+
                }
            }
        }
    };
}

exit_codes! {
    /// The node finished all accepted work.
    Ok = 0, false;
    /// The command line is wrong.
    Usage = 64, false;
    /// With `--require-delivery`: a command on stdin was invalid or failed.
    BadInput = 65, false;
    /// Of `p2p-node discover`: no agent was found.
    NotFound = 67, false;
    /// Of `p2p-node send` and `ask`: the other agent refused the message or the question, or its program answered with an error.
    Refused = 68, false;
    /// The node could not listen on its port, or nobody listens at the socket.
    Unavailable = 69, true;
    /// A bug in the node, a missing system resource, or a failed demo.
    Software = 70, true;
    /// Another process of this user holds the identity or the data directory.
    InUse = 73, false;
    /// Reading or writing stdin, stdout or a file failed, the data directory cannot be used now, or a process on another host uses it.
    Io = 74, true;
    /// Mail was undelivered at the end of the drain timeout and is lost, or a `send` still waited for room. With `--require-delivery`: something was not delivered, or refused for now.
    Undelivered = 75, true;
    /// Of `p2p-node ask`: no answer came in time.
    NoAnswer = 76, true;
    /// The node has no permission for a key file or the data directory, or other users can read a key file.
    NoPermission = 77, false;
    /// The configuration or the identity is wrong or superseded, or the data directory belongs to another agent.
    Config = 78, false;
    /// Of `p2p-node listen`: fewer messages than `--count` came within `--timeout`.
    TimedOut = 124, true;
}
