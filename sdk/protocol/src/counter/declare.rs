//! The macro that declares counters.

/// Declares the counters of `status`: their descriptions, names and variants.
macro_rules! counters {
    ($(#[doc = $doc:literal] $name:literal => $variant:ident,)*) => {
        /// A counter of a node. Each drop and each refusal has a counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Counter {
            $(#[doc = $doc] $variant,)*
        }

        impl Counter {
            /// Every counter, in the order of their names.
            pub const ALL: &[Counter] = &[$(Counter::$variant),*];

            /// Returns the name of the counter in `status`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Counter::$variant => $name,)*
                }
            }

            /// Returns the description of the counter, in one line.
            pub fn doc(self) -> &'static str {
                match self {
                    $(Counter::$variant => $doc.trim_ascii(),)*
                }
            }
        }
    };
}

pub(super) use counters;
