//! Panics of libraries that are expected and become errors; any other is a defect, and ends the process.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `act`, whose panic comes to `None`. What it may leave half done is not to be used again.
pub fn caught<T>(act: impl FnOnce() -> T) -> Option<T> {
    let before = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(act));
    CATCHING.set(before);
    result.ok()
}

/// Whether a panic of this thread would be caught by [`caught`].
pub fn is_catching() -> bool {
    CATCHING.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_none_and_only_expected_within() {
        assert_eq!(caught(|| (is_catching(), caught(is_catching))), Some((true, Some(true))));
        assert!(!is_catching());
        assert_eq!(caught(|| -> u8 { panic!("as expected") }), None);
        assert!(!is_catching());
    }
}
