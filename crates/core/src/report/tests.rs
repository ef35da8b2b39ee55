//! Tests of the report of a single core.

use super::*;

#[test]
fn most_frequent_names_stay_when_there_are_too_many() {
    let names = (0..MAX_NAMES).map(|number| format!("rare-{number:03}"));
    let counts = most_frequent(names.chain(["common".to_owned(), "common".to_owned()]));
    assert_eq!(counts.len(), MAX_NAMES);
    assert_eq!(counts.get("common"), Some(&2));
}
