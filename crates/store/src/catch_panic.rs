//! Converts expected panics of libraries into errors. Any other panic is a bug and ends the
//! process.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `act` and returns `None` if it panics. The caller must not use state that `act` may have
/// left inconsistent.
pub fn catch_panic<T>(act: impl FnOnce() -> T) -> Option<T> {
    let before = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(act));
    CATCHING.set(before);
    result.ok()
}

/// Returns `true` if this thread runs inside [`catch_panic`].
pub fn is_catching() -> bool {
    CATCHING.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_yields_none_and_is_expected_only_inside_the_call() {
        assert_eq!(catch_panic(|| (is_catching(), catch_panic(is_catching))), Some((true, Some(true))));
        assert!(!is_catching());
        assert_eq!(catch_panic(|| -> u8 { panic!("as expected") }), None);
        assert!(!is_catching());
    }
}
